//! Tables as the tensors of the Open Inference Protocol: one tensor for each column.
//!
//! A column of n rows is a tensor of the shape `[n]` or `[n, 1]`, a column of vectors of d numbers
//! one of `[n, d]`. The protocol has no missing values. Coming in, `null` in JSON and NaN are
//! none; going out, numbers and booleans with missing ones are FP64 with NaN, and text that is
//! missing is empty.

mod read;
mod write;

use bytes::Bytes;
use luthier_types::{Column, DataType};

pub use read::read_tensors;
pub use write::{Values, values};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// Booleans, one byte each.
    Bool,
    /// Unsigned integers of 8 bits.
    Uint8,
    /// Unsigned integers of 16 bits.
    Uint16,
    /// Unsigned integers of 32 bits.
    Uint32,
    /// Unsigned integers of 64 bits.
    Uint64,
    /// Integers of 8 bits.
    Int8,
    /// Integers of 16 bits.
    Int16,
    /// Integers of 32 bits.
    Int32,
    /// Integers of 64 bits.
    Int64,
    /// Floats of 32 bits.
    Fp32,
    /// Floats of 64 bits.
    Fp64,
    /// Text; in binary form, each after its length in 4 bytes.
    Bytes,
}

/// A tensor of a request.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The column it stands for.
    pub name: String,
    /// The type of its elements.
    pub datatype: Datatype,
    /// Its dimensions.
    pub shape: Vec<u64>,
    /// Its elements.
    pub data: TensorData,
}

/// The elements of a tensor, row by row.
#[derive(Clone, Debug)]
pub enum TensorData {
    /// The text of a JSON array, flat or nested like the shape.
    Json(Bytes),
    /// Little-endian, without anything between the elements.
    Binary(Bytes),
}

impl Datatype {
    const ALL: [(Self, &str); 12] = [
        (Self::Bool, "BOOL"),
        (Self::Uint8, "UINT8"),
        (Self::Uint16, "UINT16"),
        (Self::Uint32, "UINT32"),
        (Self::Uint64, "UINT64"),
        (Self::Int8, "INT8"),
        (Self::Int16, "INT16"),
        (Self::Int32, "INT32"),
        (Self::Int64, "INT64"),
        (Self::Fp32, "FP32"),
        (Self::Fp64, "FP64"),
        (Self::Bytes, "BYTES"),
    ];

    /// The type called so.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(_, known)| *known == name);
        found.map(|(datatype, _)| datatype)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL
            .into_iter()
            .find(|(datatype, _)| *datatype == self);
        found.map_or("", |(_, name)| name)
    }

    /// The names of every type, as a list for a message.
    pub fn names() -> String {
        Self::ALL.map(|(_, name)| name).join(", ")
    }

    /// The type that a model's column has by nature. Others are taken as well, if their values fit.
    pub const fn of_column(data_type: DataType) -> Self {
        match data_type {
            DataType::Float | DataType::Vector => Self::Fp64,
            DataType::Int => Self::Int64,
            DataType::Bool => Self::Bool,
            DataType::Str | DataType::Category | DataType::Timestamp => Self::Bytes,
        }
    }
}

/// The shape that a model's column has by nature; -1 stands for any size.
pub fn shape_of_column(column: &Column) -> Vec<i64> {
    match column.data_type {
        DataType::Vector => vec![-1, column.n_dimensions.map_or(-1, i64::from)],
        _ => vec![-1],
    }
}

#[cfg(test)]
mod tests;
