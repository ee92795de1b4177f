//! Tensors out.

use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, cast::AsArray as _,
};
use luthier_types::DataType;
use serde::{Serialize, Serializer};

use super::Datatype;
use crate::{family::Family, wire::fit};

/// The elements of a column, none of them missing.
#[derive(Clone, Debug)]
pub enum Values {
    /// Floats; NaN where there is no value.
    Fp64(Float64Array),
    /// Integers.
    Int64(Int64Array),
    /// Booleans.
    Bool(BooleanArray),
    /// Text; empty where there is none.
    Bytes(StringArray),
}

/// The column as a tensor of the type that `declared` has by nature, or of another where the values
/// do not fit that.
pub fn values(array: &ArrayRef, declared: DataType) -> Values {
    let as_type = |wanted| fit(array, "", wanted, 0).ok();
    let whole = |wanted| as_type(wanted).filter(|a| a.null_count() == 0);
    let wanted = match declared {
        DataType::Int => whole(DataType::Int).map(|a| Values::Int64(a.as_primitive().clone())),
        DataType::Bool => whole(DataType::Bool).map(|a| Values::Bool(a.as_boolean().clone())),
        _ => None,
    };
    let is_text = Datatype::of_column(declared) == Datatype::Bytes
        || matches!(
            Family::lenient(array),
            Family::Text(_) | Family::Time(_) | Family::Vector(_)
        );
    let number = || as_type(DataType::Float).map(|a| Values::Fp64(a.as_primitive().clone()));
    let text = || as_type(DataType::Str).map(|a| Values::Bytes(a.as_string().clone()));
    wanted
        .or_else(|| if is_text { text() } else { number() })
        .unwrap_or_else(|| Values::Bytes(StringArray::new_null(array.len())))
}

// === impl Values ===

impl Values {
    /// The type of the elements.
    pub const fn datatype(&self) -> Datatype {
        match self {
            Self::Fp64(_) => Datatype::Fp64,
            Self::Int64(_) => Datatype::Int64,
            Self::Bool(_) => Datatype::Bool,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// Appends the elements in binary form.
    pub fn write_binary(&self, out: &mut Vec<u8>) {
        match self {
            Self::Fp64(a) => {
                let value = |v: Option<f64>| v.unwrap_or(f64::NAN).to_le_bytes();
                out.extend(a.iter().flat_map(value));
            }
            Self::Int64(a) => out.extend(a.values().iter().flat_map(|v| v.to_le_bytes())),
            Self::Bool(a) => out.extend(a.values().iter().map(u8::from)),
            Self::Bytes(a) => {
                for text in a {
                    let text = text.unwrap_or_default();
                    // A column of text has at most 2^31 bytes.
                    out.extend((text.len() as u32).to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

/// In JSON, NaN and infinities are `null`.
impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fp64(a) => serializer.collect_seq(a.iter()),
            Self::Int64(a) => serializer.collect_seq(a.values()),
            Self::Bool(a) => serializer.collect_seq(a.values()),
            Self::Bytes(a) => serializer.collect_seq(a.iter().map(Option::unwrap_or_default)),
        }
    }
}
