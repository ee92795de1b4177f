//! The machine that follows one pickle's opcodes.

use std::{
    collections::HashMap,
    io::{self, BufRead},
    rc::Rc,
};

use super::{Pickled, Reader, Value, lost};

mod stack;

/// Longest text that is kept: the name of a module or of something in it.
const LONGEST: u64 = 512;

/// What came of one opcode.
pub(super) enum Step {
    /// The next may be read.
    On,
    /// The pickle is whole.
    Stop,
    /// Another pickle stands here.
    Nested,
}

#[derive(Default)]
pub(super) struct Machine {
    stack: Vec<Value>,
    memo: HashMap<u64, Value>,
    /// How many values were remembered, those that do not matter included.
    remembered: u64,
    /// Bytes of texts that were kept.
    kept: usize,
}

// === impl Machine ===

impl Machine {
    /// Follows one opcode.
    ///
    /// # Errors
    /// `UnexpectedEof` at the end of the stream, `InvalidData` when it cannot be followed.
    pub(super) fn step<S: BufRead>(
        &mut self,
        reader: &mut Reader<S>,
        found: &mut Pickled,
    ) -> io::Result<Step> {
        match reader.byte()? {
            b'.' => {
                self.pop()?;
                return Ok(Step::Stop);
            }
            0x80 => found.protocol = found.protocol.max(protocol(reader.byte()?)?),
            0x95 => {
                reader.u64()?;
            }
            b'(' => self.push(Value::Mark)?,
            b'0' => {
                self.stack.pop().ok_or_else(lost)?;
            }
            b'1' => {
                self.above_mark()?;
            }
            b'2' => {
                let top = self.stack.last().cloned().ok_or_else(lost)?;
                self.push(top)?;
            }
            b'N' | 0x88 | 0x89 => self.push(Value::Other)?,
            b'I' | b'L' => {
                let line = reader.line(32)?;
                self.push(number(&line)?)?;
            }
            b'F' => {
                reader.line(0)?;
                self.push(Value::Other)?;
            }
            b'J' => {
                let value = i32::from_le_bytes(reader.array()?).into();
                self.push(Value::Int(value))?;
            }
            b'K' => {
                let value = reader.byte()?.into();
                self.push(Value::Int(value))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(reader.array()?).into();
                self.push(Value::Int(value))?;
            }
            0x8a => {
                let size = reader.byte()?.into();
                let bytes = reader.bytes(size, 8)?;
                self.push(bytes.map_or(Value::Other, |b| Value::Int(little(&b))))?;
            }
            0x8b => {
                let size = reader.u32()?;
                self.pass(reader, size)?;
            }
            b'G' => self.pass(reader, 8)?,
            b'P' => {
                reader.line(0)?;
                self.push(Value::Other)?;
            }
            b'Q' => {
                self.pop()?;
                self.push(Value::Other)?;
            }
            b'S' | b'V' => {
                let line = reader.line(LONGEST as usize)?;
                self.push_text(line)?;
            }
            b'U' | 0x8c => {
                let size = reader.byte()?.into();
                self.text(reader, size, found)?;
            }
            b'T' | b'X' => {
                let size = reader.u32()?;
                self.text(reader, size, found)?;
            }
            0x8d => {
                let size = reader.u64()?;
                self.text(reader, size, found)?;
            }
            b'C' => {
                let size = reader.byte()?.into();
                self.pass(reader, size)?;
            }
            b'B' => {
                let size = reader.u32()?;
                self.payload(reader, size, found)?;
            }
            0x8e | 0x96 => {
                let size = reader.u64()?;
                self.payload(reader, size, found)?;
            }
            b'c' => {
                let (module, name) = (
                    reader.line(LONGEST as usize)?,
                    reader.line(LONGEST as usize)?,
                );
                let global = import(&module, &name)?;
                self.global(global, found)?;
            }
            b'i' => {
                let (module, name) = (
                    reader.line(LONGEST as usize)?,
                    reader.line(LONGEST as usize)?,
                );
                let global = import(&module, &name)?;
                self.above_mark()?;
                self.global(global, found)?;
                self.pop()?;
                self.push(Value::Other)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (name, module) else {
                    return Err(lost());
                };
                let global = import(module.as_bytes(), name.as_bytes())?;
                self.global(global, found)?;
            }
            // Extensions of the registry, which name nothing by themselves.
            0x82 => self.pass(reader, 1)?,
            0x83 => self.pass(reader, 2)?,
            0x84 => self.pass(reader, 4)?,
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments, found)?;
            }
            0x92 => {
                self.pop()?;
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments, found)?;
            }
            b'o' => {
                let mut values = self.above_mark()?;
                if values.is_empty() {
                    return Err(lost());
                }
                let callable = values.remove(0);
                self.call(callable, Value::Other, found)?;
            }
            b'b' => return self.build(reader),
            b']' | 0x8f => self.push(Value::Other)?,
            b'}' => self.push(Value::Dict(Rc::default()))?,
            b'd' => {
                let values = self.above_mark()?;
                self.push(Value::Dict(Rc::default()))?;
                self.set_items(values)?;
            }
            b'l' | 0x91 => {
                self.above_mark()?;
                self.push(Value::Other)?;
            }
            b'a' => {
                self.pop()?;
                self.top()?;
            }
            b'e' | 0x90 => {
                self.above_mark()?;
                self.top()?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![key, value])?;
            }
            b'u' => {
                let values = self.above_mark()?;
                self.set_items(values)?;
            }
            b')' => self.push(Value::Tuple(Rc::from([])))?,
            b't' => {
                let values = self.above_mark()?;
                self.push_tuple(values)?;
            }
            count @ 0x85..=0x87 => {
                let count = usize::from(count - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(lost)?;
                let values = self.stack.split_off(start);
                self.push_tuple(values)?;
            }
            b'p' => {
                let line = reader.line(32)?;
                let Value::Int(at) = number(&line)? else {
                    return Err(lost());
                };
                self.remember(u64::try_from(at).map_err(|_| lost())?)?;
            }
            b'q' => {
                let at = reader.byte()?.into();
                self.remember(at)?;
            }
            b'r' => {
                let at = reader.u32()?;
                self.remember(at)?;
            }
            0x94 => self.remember(self.remembered)?,
            b'g' => {
                let line = reader.line(32)?;
                let Value::Int(at) = number(&line)? else {
                    return Err(lost());
                };
                self.recall(u64::try_from(at).map_err(|_| lost())?)?;
            }
            b'h' => {
                let at = reader.byte()?.into();
                self.recall(at)?;
            }
            b'j' => {
                let at = reader.u32()?;
                self.recall(at)?;
            }
            0x97 => self.push(Value::Other)?,
            0x98 => self.top()?,
            _ => return Err(lost()),
        }
        Ok(Step::On)
    }
}

fn protocol(named: u8) -> io::Result<u8> {
    // Far more is another kind of file.
    if named > 20 { Err(lost()) } else { Ok(named) }
}

/// The module and name of an import, if they can be ones.
fn import(module: &[u8], name: &[u8]) -> io::Result<(String, String)> {
    let text = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|_| lost())?;
        let fits = !text.is_empty() && !text.chars().any(|c| c.is_control() || c.is_whitespace());
        if fits {
            Ok(text.to_owned())
        } else {
            Err(lost())
        }
    };
    Ok((text(module)?, text(name)?))
}

/// A number as protocol 0 writes it.
fn number(line: &[u8]) -> io::Result<Value> {
    let text = std::str::from_utf8(line).map_err(|_| lost())?;
    let digits = text.trim_end_matches('L');
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return Err(lost());
    }
    Ok(digits.parse().map_or(Value::Other, Value::Int))
}

/// A number of at most eight bytes, the least significant first.
fn little(bytes: &[u8]) -> i64 {
    let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) {
        0xff
    } else {
        0
    };
    let mut all = [sign; 8];
    for (to, from) in all.iter_mut().zip(bytes) {
        *to = *from;
    }
    i64::from_le_bytes(all)
}
