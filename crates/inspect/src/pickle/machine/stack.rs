//! The machine's stack and memo, and what calling and building does to them.

use std::{
    io::{self, BufRead},
    rc::Rc,
};

use super::{
    super::{Pickled, Reader, Value, array::Array, lost},
    LONGEST, Machine, Step,
};

/// Most values on the stack, and most that are remembered.
const MOST_VALUES: usize = 4 << 20;
/// Most bytes of texts that are kept.
const MOST_TEXT: usize = 64 << 20;
/// Most values of a tuple or dictionary that are kept.
const FEW: usize = 64;
/// Most bytes that are kept of the beginning and of the end of a byte string.
const PAYLOAD: u64 = 64 * 1024;
const MOST_PAYLOADS: usize = 16;
/// Beginnings of models that libraries keep as byte strings or texts of their own.
const MODELS: &[&[u8]] = &[b"{L", b"{\"", b"tree\n", b"CBM1"];

impl Machine {
    pub(super) fn push(&mut self, value: Value) -> io::Result<()> {
        if self.stack.len() >= MOST_VALUES {
            return Err(lost());
        }
        self.stack.push(value);
        Ok(())
    }

    /// Takes a value that is no mark.
    pub(super) fn pop(&mut self) -> io::Result<Value> {
        match self.stack.pop() {
            None | Some(Value::Mark) => Err(lost()),
            Some(value) => Ok(value),
        }
    }

    pub(super) fn top(&self) -> io::Result<()> {
        match self.stack.last() {
            None | Some(Value::Mark) => Err(lost()),
            Some(_) => Ok(()),
        }
    }

    /// Takes what lies above the last mark, and the mark.
    pub(super) fn above_mark(&mut self) -> io::Result<Vec<Value>> {
        let is_mark = |v: &Value| matches!(v, Value::Mark);
        let mark = self.stack.iter().rposition(is_mark).ok_or_else(lost)?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    pub(super) fn push_text(&mut self, text: Vec<u8>) -> io::Result<()> {
        let kept = self.kept + text.len() <= MOST_TEXT;
        // A text of protocol 0 stands in quotation marks if it is one of Python 2.
        let value = match String::from_utf8(text) {
            Ok(text) if kept => {
                self.kept += text.len();
                let quoted = text.len() > 1 && text.starts_with(['\'', '"']);
                let inner = if quoted {
                    text.get(1..text.len() - 1)
                } else {
                    None
                };
                Value::Text(inner.unwrap_or(&text).into())
            }
            _ => Value::Other,
        };
        self.push(value)
    }

    /// Takes a text; a long one may be a model.
    pub(super) fn text<S: BufRead>(
        &mut self,
        reader: &mut Reader<S>,
        size: u64,
        found: &mut Pickled,
    ) -> io::Result<()> {
        if size > LONGEST {
            return self.payload(reader, size, found);
        }
        let text = reader.bytes(size, LONGEST)?.unwrap_or_default();
        self.push_text(text)
    }

    /// Passes over the bytes of a value.
    pub(super) fn pass<S: BufRead>(&mut self, reader: &mut Reader<S>, size: u64) -> io::Result<()> {
        reader.skip(size)?;
        self.push(Value::Other)
    }

    /// Passes over a byte string, keeping its ends if it may be a model.
    pub(super) fn payload<S: BufRead>(
        &mut self,
        reader: &mut Reader<S>,
        size: u64,
        found: &mut Pickled,
    ) -> io::Result<()> {
        let head = size.min(PAYLOAD);
        if size < 16 || found.payloads.len() >= MOST_PAYLOADS {
            return self.pass(reader, size);
        }
        let mut kept = reader.bytes(head, PAYLOAD)?.unwrap_or_default();
        let tail = (size - head).min(PAYLOAD);
        reader.skip(size - head - tail)?;
        kept.extend(reader.bytes(tail, PAYLOAD)?.unwrap_or_default());
        if MODELS.iter().any(|start| kept.starts_with(start)) {
            found.payloads.push(kept);
        }
        self.push(Value::Other)
    }

    pub(super) fn push_tuple(&mut self, values: Vec<Value>) -> io::Result<()> {
        if values.len() > FEW {
            return self.push(Value::Other);
        }
        // Flat, lest tuples hold one another without end.
        let flat = values.into_iter().map(|value| match value {
            Value::Tuple(_) | Value::Object(..) | Value::Dict(_) => Value::Other,
            value => value,
        });
        self.push(Value::Tuple(flat.collect()))
    }

    pub(super) fn set_items(&mut self, values: Vec<Value>) -> io::Result<()> {
        self.top()?;
        if let Some(Value::Dict(dict)) = self.stack.last_mut()
            && dict.len() < FEW
            && values.len() <= 2 * FEW
        {
            let dict = Rc::make_mut(dict);
            let mut values = values.into_iter();
            while let (Some(key), Some(value)) = (values.next(), values.next()) {
                if let (Value::Text(key), false) = (key, matches!(value, Value::Dict(_))) {
                    dict.insert(key, value);
                }
            }
        }
        Ok(())
    }

    pub(super) fn global(
        &mut self,
        global: (String, String),
        found: &mut Pickled,
    ) -> io::Result<()> {
        found.globals.insert(global.clone());
        self.push(Value::Global(Rc::new(global)))
    }

    pub(super) fn call(
        &mut self,
        callable: Value,
        arguments: Value,
        found: &mut Pickled,
    ) -> io::Result<()> {
        // Cloudpickle first calls for the type of code objects, and then calls that.
        let (Value::Global(global) | Value::Object(global, _)) = &callable else {
            return self.push(Value::Other);
        };
        if let Value::Tuple(values) = &arguments
            && values.len() > 12
            && is_code(global)
        {
            found.code_arguments.insert(values.len());
        }
        let Value::Global(global) = callable else {
            return self.push(Value::Other);
        };
        let kept = match arguments {
            Value::Tuple(_) => arguments,
            _ => Value::Other,
        };
        self.push(Value::Object(global, Rc::new(kept)))
    }

    /// Gives an object its state; an array's bytes may follow.
    pub(super) fn build<S: BufRead>(&mut self, reader: &mut Reader<S>) -> io::Result<Step> {
        let state = self.pop()?;
        self.top()?;
        let Some(Value::Object(class, _)) = self.stack.last() else {
            return Ok(Step::On);
        };
        if class.0 != "joblib.numpy_pickle" || class.1 != "NumpyArrayWrapper" {
            return Ok(Step::On);
        }
        let Value::Dict(state) = state else {
            return Err(lost());
        };
        let array = Array::of(&state).ok_or_else(lost)?;
        if array.holds_objects {
            return Ok(Step::Nested);
        }
        if array.padded {
            let padding = reader.byte()?;
            reader.skip(padding.into())?;
        }
        reader.skip(array.bytes)?;
        Ok(Step::On)
    }

    pub(super) fn remember(&mut self, at: u64) -> io::Result<()> {
        self.remembered += 1;
        let value = match self.stack.last().ok_or_else(lost)? {
            Value::Mark => return Err(lost()),
            Value::Other | Value::Dict(_) => {
                self.memo.remove(&at);
                return Ok(());
            }
            value => value.clone(),
        };
        if self.memo.len() >= MOST_VALUES {
            return Err(lost());
        }
        self.memo.insert(at, value);
        Ok(())
    }

    pub(super) fn recall(&mut self, at: u64) -> io::Result<()> {
        let value = self.memo.get(&at).cloned().unwrap_or_default();
        self.push(value)
    }
}

/// Whether calling `global`, or what it gives, with many arguments makes a code object.
fn is_code(global: &(String, String)) -> bool {
    let (module, name) = (global.0.as_str(), global.1.as_str());
    name == "CodeType"
        || (name == "_create_code" && module.starts_with("dill"))
        || (name == "_builtin_type" && module.starts_with("cloudpickle"))
}
