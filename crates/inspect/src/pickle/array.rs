//! How many bytes of an array joblib wrote between the opcodes.

use std::{collections::HashMap, rc::Rc};

use super::Value;

/// What the state of joblib's stand-in for an array says.
pub(super) struct Array {
    /// Its elements are pickled after it.
    pub(super) holds_objects: bool,
    /// A byte with the size of a padding, and the padding, stand before its bytes.
    pub(super) padded: bool,
    /// Bytes of all its elements.
    pub(super) bytes: u64,
}

impl Array {
    pub(super) fn of(state: &HashMap<Rc<str>, Value>) -> Option<Self> {
        let Value::Object(class, arguments) = state.get("dtype")? else {
            return None;
        };
        if class.1 != "dtype" {
            return None;
        }
        let Value::Tuple(arguments) = arguments.as_ref() else {
            return None;
        };
        let Some(Value::Text(kind)) = arguments.first() else {
            return None;
        };
        let size = item_size(kind)?;
        let Value::Tuple(shape) = state.get("shape")? else {
            return None;
        };
        let mut count = 1_u64;
        for length in shape.iter() {
            let Value::Int(length) = length else {
                return None;
            };
            count = count.checked_mul(u64::try_from(*length).ok()?)?;
        }
        Some(Self {
            holds_objects: kind.starts_with('O'),
            padded: matches!(
                state.get("numpy_array_alignment_bytes"),
                Some(Value::Int(_))
            ),
            bytes: count.checked_mul(size)?,
        })
    }
}

/// Bytes of one element of a type such as `f8`, `U10` or `V24`.
fn item_size(kind: &str) -> Option<u64> {
    let mut chars = kind.chars();
    let letter = chars.next()?;
    let number: u64 = chars.as_str().parse().ok()?;
    match letter {
        'U' => number.checked_mul(4),
        'b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'a' | 'V' | 'M' | 'm' | 'O' => Some(number),
        _ => None,
    }
}
