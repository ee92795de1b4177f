//! JSON rows that are written as programs write them, read several times as fast.
//!
//! A client's rows mostly have the same keys in the same order, numbers, and text without escapes.
//! So the first row says how every key looks, and the others are compared with that, byte by byte.
//! Whatever is unusual, or wrong, is left to the reader that knows all of JSON and says what is the
//! matter: this one only ever says that it does not know.

use arrow_array::RecordBatch;
use luthier_types::DataType;

use super::{RowParser, RowTable};

/// A key as it stands in the first row, with quotes, and where its values go; `None` when it is no
/// column.
struct Key<'t> {
    text: &'t str,
    place: Option<usize>,
}

/// A value that was read and not yet added.
enum Value<'t> {
    Null,
    Float(f64),
    Int(i64),
    Text(&'t str),
}

/// Reads forward.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl RowParser {
    /// Reads the array of rows that begins at byte `at` of `text`. Gives the table and where the
    /// array ends, or `None` when it is not such rows, or no rows at all that fit: the table is then
    /// to be read otherwise.
    pub fn quick(&self, text: &str, at: usize) -> Option<(RecordBatch, usize)> {
        let mut reader = Reader { text, at };
        reader.is(b'[')?;
        let mut table = RowTable::new(self, 1024);
        let mut keys: Vec<Key<'_>> = vec![];
        let mut values: Vec<Value<'_>> = vec![];
        loop {
            let is_first = table.rows == 0;
            reader.is(b'{')?;
            values.clear();
            for at in 0.. {
                if is_first {
                    let key = reader.key(self, &keys)?;
                    keys.push(key);
                }
                let key = keys.get(at)?;
                if !is_first {
                    reader.space();
                    reader.rest().strip_prefix(key.text)?;
                    reader.at += key.text.len();
                }
                reader.is(b':')?;
                let column = key.place.map(|place| self.columns[place].1);
                values.push(reader.value(column)?);
                match reader.next()? {
                    b',' if is_first || at + 1 < keys.len() => {}
                    b'}' if at + 1 == keys.len() => break,
                    _ => return None,
                }
            }
            for (key, value) in keys.iter().zip(&values) {
                if let Some(place) = key.place {
                    let cells = &mut table.cells[place];
                    match value {
                        Value::Null => cells.null(),
                        Value::Float(value) => cells.float(*value).ok()?,
                        Value::Int(value) => cells.int(*value).ok()?,
                        Value::Text(value) => cells.text(value).ok()?,
                    }
                    table.filled[place] += 1;
                }
            }
            table.end_row::<serde_json::Error>(&[]).ok()?;
            match reader.next()? {
                b',' => {}
                b']' => return Some((table.finish().ok()?, reader.at)),
                _ => return None,
            }
        }
    }
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        // Only ever moved past ASCII or whole strings.
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over white space.
    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The next byte that is no white space.
    fn next(&mut self) -> Option<u8> {
        self.space();
        let byte = self.peek()?;
        // More of a character must not be taken for its first byte.
        byte.is_ascii().then(|| self.at += 1)?;
        Some(byte)
    }

    fn is(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// The string that begins here, if nothing in it is escaped, without its quotes.
    fn string(&mut self) -> Option<&'t str> {
        let from = self.at + 1;
        let bytes = self.text.as_bytes().get(from..)?;
        let length = bytes
            .iter()
            .position(|b| matches!(b, b'"' | b'\\' | 0..0x20))?;
        if bytes[length] != b'"' {
            return None;
        }
        self.at = from + length + 1;
        self.text.get(from..from + length)
    }

    /// A key of the first row.
    fn key(&mut self, parser: &RowParser, before: &[Key<'t>]) -> Option<Key<'t>> {
        self.space();
        let from = self.at;
        (self.peek()? == b'"').then_some(())?;
        let name = self.string()?;
        let text = self.text.get(from..self.at)?;
        let is_new = before.iter().all(|key| key.text != text);
        is_new.then(|| Key {
            text,
            place: parser.place(name),
        })
    }

    /// A value that can only be read one way into a column of this type; whatever there is where it
    /// is for none.
    fn value(&mut self, column: Option<DataType>) -> Option<Value<'t>> {
        self.space();
        let text = matches!(column, None | Some(DataType::Str | DataType::Category));
        let float = matches!(column, None | Some(DataType::Float));
        let int = matches!(column, None | Some(DataType::Int));
        match self.peek()? {
            b'"' if text => self.string().map(Value::Text),
            b'n' => {
                self.rest().strip_prefix("null")?;
                self.at += 4;
                Some(Value::Null)
            }
            b'-' | b'0'..=b'9' if float || int => {
                let (number, is_whole) = self.number()?;
                if float {
                    let value: f64 = number.parse().ok()?;
                    return value.is_finite().then_some(Value::Float(value));
                }
                is_whole.then(|| number.parse().ok().map(Value::Int))?
            }
            _ => None,
        }
    }

    /// The number that begins here (RFC 8259, section 6), and whether it has neither fraction nor
    /// exponent.
    fn number(&mut self) -> Option<(&'t str, bool)> {
        let from = self.at;
        let bytes = self.text.as_bytes();
        let mut at = from;
        let digits = |at: &mut usize| {
            let start = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            (*at > start).then_some(())
        };
        if bytes[at] == b'-' {
            at += 1;
        }
        match bytes.get(at)? {
            b'0' => at += 1,
            _ => digits(&mut at)?,
        }
        let mut is_whole = true;
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            digits(&mut at)?;
            is_whole = false;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1;
            if let Some(b'+' | b'-') = bytes.get(at) {
                at += 1;
            }
            digits(&mut at)?;
            is_whole = false;
        }
        self.at = at;
        Some((self.text.get(from..at)?, is_whole))
    }
}
