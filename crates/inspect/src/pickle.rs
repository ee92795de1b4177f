//! Reads the opcodes of pickles without obeying them: what a pickle would import is told, nothing is
//! imported and no object is made.
//!
//! The stack is followed with stand-ins for the values, as the names of what is imported may come
//! from the memo. Joblib writes the bytes of arrays between the opcodes of a pickle; they are passed
//! over by what the opcodes before them say of the array's shape and type.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, BufRead},
    rc::Rc,
};

mod array;
mod machine;

use machine::{Machine, Step};

/// Highest protocol there is.
pub(crate) const HIGHEST: u8 = 5;
/// Most pickles, one after the other or one within another, that are read from one stream.
const MOST_PICKLES: usize = 10_000;
const MOST_NESTED: usize = 16;
/// Most bytes of one stream that are read.
const MOST_BYTES: u64 = 4 << 30;
/// Most different imports of one stream that are told.
const MOST_GLOBALS: usize = 10_000;

/// How reading pickles ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// With the stream, after a whole pickle.
    Whole,
    /// With the stream, in the middle of a pickle.
    Cut,
    /// What follows, if anything, is not a pickle, or not one that can be followed.
    #[default]
    Lost,
}

/// What the pickles of one stream say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pickled {
    /// What they import: module and name.
    pub(crate) globals: BTreeSet<(String, String)>,
    /// The highest protocol they name.
    pub(crate) protocol: u8,
    /// Whole pickles.
    pub(crate) count: usize,
    /// How it ended.
    pub(crate) end: End,
    /// Numbers of arguments that code objects are made of.
    pub(crate) code_arguments: BTreeSet<usize>,
    /// Beginnings and ends of byte strings that may be models of their own.
    pub(crate) payloads: Vec<Vec<u8>>,
}

/// Reads pickles one after the other from `stream`, to its end or to where they cannot be followed.
pub(crate) fn read_pickles(stream: impl BufRead) -> Pickled {
    let mut reader = Reader {
        stream,
        left: MOST_BYTES,
    };
    let mut found = Pickled::default();
    let mut machines: Vec<Machine> = vec![];
    loop {
        if machines.is_empty() {
            match reader.peek() {
                Ok(None) if found.count > 0 => found.end = End::Whole,
                // Old protocols have no mark by which a second pickle could be told from other data.
                Ok(Some(first)) if found.count == 0 || first == 0x80 => {
                    machines.push(Machine::default());
                    continue;
                }
                _ => {}
            }
            return found;
        }
        let Some(machine) = machines.last_mut() else {
            return found;
        };
        match machine.step(&mut reader, &mut found) {
            Ok(Step::On) => {}
            Ok(Step::Stop) => {
                machines.pop();
                found.count += 1;
                if found.count > MOST_PICKLES {
                    return found;
                }
            }
            Ok(Step::Nested) if machines.len() < MOST_NESTED => machines.push(Machine::default()),
            Ok(Step::Nested) => return found,
            Err(error) => {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    found.end = End::Cut;
                }
                return found;
            }
        }
        if found.globals.len() > MOST_GLOBALS {
            return found;
        }
    }
}

/// Bytes of a stream, in the pieces that opcodes take.
struct Reader<S> {
    stream: S,
    left: u64,
}

impl<S: BufRead> Reader<S> {
    /// The next byte, left where it is; `None` at the end.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.stream.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.take(N as u64)?;
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> io::Result<u64> {
        self.array().map(|b| u32::from_le_bytes(b).into())
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next `size` bytes if there are at most `most`, else nothing and they are passed over.
    fn bytes(&mut self, size: u64, most: u64) -> io::Result<Option<Vec<u8>>> {
        if size > most {
            return self.skip(size).map(|()| None);
        }
        self.take(size)?;
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.stream.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The rest of a line, without its end and no longer than `most`.
    fn line(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut line = vec![];
        loop {
            match self.byte()? {
                b'\n' => return Ok(line),
                byte if line.len() < most => line.push(byte),
                _ => {}
            }
        }
    }

    fn skip(&mut self, mut size: u64) -> io::Result<()> {
        self.take(size)?;
        while size > 0 {
            let there = match self.stream.fill_buf() {
                Ok(bytes) => bytes.len() as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if there == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = there.min(size);
            self.stream.consume(usize::try_from(step).unwrap_or(0));
            size -= step;
        }
        Ok(())
    }

    fn take(&mut self, size: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(size).ok_or_else(lost)?;
        Ok(())
    }
}

/// The opcodes cannot be followed.
fn lost() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// A stand-in for a value on the stack.
#[derive(Clone, Debug, Default)]
enum Value {
    /// Anything whose value does not matter.
    #[default]
    Other,
    Mark,
    Int(i64),
    Text(Rc<str>),
    /// Something imported.
    Global(Rc<(String, String)>),
    Tuple(Rc<[Value]>),
    /// A dictionary with few and short keys.
    Dict(Rc<HashMap<Rc<str>, Value>>),
    /// What calling something gives: what is called, and with what.
    Object(Rc<(String, String)>, Rc<Value>),
}

#[cfg(test)]
mod tests;
