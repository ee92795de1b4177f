//! What the pages of a Parquet file claim, read from their headers alone.
//!
//! The figures in the file's footer bind nobody: memory is taken by what each page says of itself.
//! A header is a struct of Thrift's compact protocol, of which only a few numbers matter here.
//! Field numbers are those of `parquet.thrift` in the format's specification.

/// The claims of one page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Bytes it unpacks to.
    pub(super) unpacked: u64,
    /// Values in it, of which a few bytes can claim many.
    pub(super) values: u64,
    /// How the values are encoded.
    pub(super) encoding: u64,
}

/// The encoding in which each text repeats the beginning of the one before.
pub(super) const DELTA_BYTE_ARRAY: u64 = 7;

/// Deepest nesting of structs and lists in a header.
const DEEPEST: u32 = 8;

/// The pages of a column chunk; `None` stands for a header that is none.
pub(super) fn pages(chunk: &[u8]) -> impl Iterator<Item = Option<Page>> + '_ {
    let mut rest = Some(chunk);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|rest| !rest.is_empty())?;
        let mut reader = Reader(bytes);
        let Some((page, packed)) = header(&mut reader) else {
            return Some(None);
        };
        let Some(next) = reader.0.get(packed..) else {
            return Some(None);
        };
        rest = Some(next);
        Some(Some(page))
    })
}

/// A page's claims, and the bytes that it takes in the file.
fn header(reader: &mut Reader<'_>) -> Option<(Page, usize)> {
    let mut page = Page::default();
    let mut packed = None;
    reader.fields(DEEPEST, |reader, field, kind| {
        match (field, kind) {
            (2, I32) => page.unpacked = page.unpacked.max(reader.size()?),
            (3, I32) => packed = Some(usize::try_from(reader.size()?).ok()?),
            // Of a page of values, of a dictionary, of a page of values in version 2.
            (5 | 7 | 8, STRUCT) => {
                let encoding_at = if field == 8 { 4 } else { 2 };
                reader.fields(DEEPEST - 1, |reader, inner, kind| match (inner, kind) {
                    (1, I32) => {
                        page.values = page.values.max(reader.size()?);
                        Some(())
                    }
                    (at, I32) if at == encoding_at => {
                        page.encoding = reader.size()?;
                        Some(())
                    }
                    _ => reader.skip(kind, DEEPEST - 1),
                })?;
            }
            _ => reader.skip(kind, DEEPEST)?,
        }
        Some(())
    })?;
    Some((page, packed?))
}

// The types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const I8: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// Reads the compact protocol; `None` where it is not that.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let raw = self.varint()?;
        Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A number that cannot be negative.
    fn size(&mut self) -> Option<u64> {
        u64::try_from(self.zigzag()?).ok()
    }

    fn bytes(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    /// Goes through the fields of a struct; `each` reads the value of each.
    fn fields(
        &mut self,
        depth: u32,
        mut each: impl FnMut(&mut Self, i64, u8) -> Option<()>,
    ) -> Option<()> {
        let mut field = 0_i64;
        depth.checked_sub(1)?;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            field = match head >> 4 {
                0 => self.zigzag()?,
                step => field.checked_add(i64::from(step))?,
            };
            each(self, field, head & 0x0f)?;
        }
    }

    /// Passes over a value; a boolean is part of its field's head.
    fn skip(&mut self, kind: u8, depth: u32) -> Option<()> {
        let deeper = depth.checked_sub(1)?;
        match kind {
            TRUE | FALSE => Some(()),
            I8 => self.bytes(1),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => self.bytes(8),
            BINARY => {
                let length = self.varint()?;
                self.bytes(length)
            }
            LIST | SET => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    count => count.into(),
                };
                (0..count).try_for_each(|_| self.skip_item(head & 0x0f, deeper))
            }
            MAP => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                (0..count).try_for_each(|_| {
                    self.skip_item(kinds >> 4, deeper)?;
                    self.skip_item(kinds & 0x0f, deeper)
                })
            }
            STRUCT => self.fields(depth, |reader, _, kind| reader.skip(kind, deeper)),
            _ => None,
        }
    }

    /// Passes over a value in a list, where a boolean takes a byte, as everything takes one.
    fn skip_item(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            TRUE | FALSE => self.bytes(1),
            kind => self.skip(kind, depth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as a writer makes it: 1: type 0, 2: unpacked 300, 3: packed 2, 5: {1: values 7,
    /// 2: encoding 8, 5: statistics {1: bytes}}.
    const HEADER: [u8; 18] = [
        0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x04, 0x2c, 0x15, 0x0e, 0x15, 0x10, 0x3c, 0x18, 0x01,
        b'x', 0x00, 0x00,
    ];

    fn chunk() -> Vec<u8> {
        let mut chunk = HEADER.to_vec();
        chunk.extend([0x00, b'a', b'b']);
        chunk
    }

    #[test]
    fn headers_are_read_one_after_the_other() {
        let page = Page {
            unpacked: 300,
            values: 7,
            encoding: 8,
        };
        let twice = [chunk(), chunk()].concat();
        let found: Vec<_> = pages(&twice).collect();
        assert_eq!(found, [Some(page), Some(page)]);
        assert_eq!(pages(&[]).count(), 0);
    }

    #[test]
    fn what_is_cut_off_or_nested_without_end_is_no_header() {
        let whole = chunk();
        for length in 1..whole.len() {
            let found: Vec<_> = pages(&whole[..length]).collect();
            assert_eq!(found, [None], "{length} bytes");
        }
        // Structs in structs in structs.
        assert_eq!(pages(&[0x1c; 10_000]).collect::<Vec<_>>(), [None]);
        // A list of 2^63 booleans.
        let endless = [
            0x19, 0xf1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
        ];
        assert_eq!(pages(&endless).collect::<Vec<_>>(), [None]);
    }
}
