//! The rule book: which values fit which column type, and one growing column per type.

use std::sync::Arc;

use arrow_array::{
    ArrayRef,
    builder::{
        BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
        TimestampMicrosecondBuilder,
    },
};
use luthier_types::DataType;

use crate::time::{from_epoch, from_epoch_float, parse_timestamp};

/// The value does not fit the column's type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unfit;

/// What a push gives: the value went in, or it does not fit and nothing changed.
pub(crate) type Fit = Result<(), Unfit>;

/// A column being filled.
pub(crate) enum Cells {
    /// Column of floats.
    Float(Float64Builder),
    /// Column of integers.
    Int(Int64Builder),
    /// Column of booleans.
    Bool(BooleanBuilder),
    /// Column of text or categories.
    Text(StringBuilder),
    /// Column of times.
    Time(TimestampMicrosecondBuilder),
    /// Column of vectors.
    Vector(ListBuilder<Float64Builder>),
}

/// Texts that mean "no value" in a column that is not text.
pub(crate) fn is_null_text(text: &str) -> bool {
    matches!(
        text,
        "" | "nan"
            | "NaN"
            | "NAN"
            | "None"
            | "none"
            | "null"
            | "NULL"
            | "<NA>"
            | "NA"
            | "N/A"
            | "NaT"
    )
}

/// The integer that `number` is, if it is whole and fits.
pub(crate) fn whole(number: f64) -> Option<i64> {
    // 2^63 is exact in f64, and the first value that does not fit.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    (fits && number.fract() == 0.0).then_some(number as i64)
}

/// Reads `True`, `false`, `1`, `0` and the like.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "True" | "true" | "TRUE" | "1" | "1.0" => Some(true),
        "False" | "false" | "FALSE" | "0" | "0.0" => Some(false),
        _ => None,
    }
}

/// Reads the numbers of `[1, 2.5, nan]` or `[1 2.5 nan]`.
pub(crate) fn numbers(text: &str) -> Option<Vec<f64>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    inner
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().ok())
        .collect()
}

impl Cells {
    /// An empty column with room for `rows`.
    pub(crate) fn new(data_type: DataType, rows: usize) -> Self {
        match data_type {
            DataType::Float => Self::Float(Float64Builder::with_capacity(rows)),
            DataType::Int => Self::Int(Int64Builder::with_capacity(rows)),
            DataType::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            DataType::Str | DataType::Category => {
                Self::Text(StringBuilder::with_capacity(rows, rows * 16))
            }
            DataType::Timestamp => Self::Time(TimestampMicrosecondBuilder::with_capacity(rows)),
            DataType::Vector => Self::Vector(ListBuilder::new(Float64Builder::new())),
        }
    }

    /// Adds "no value".
    pub(crate) fn null(&mut self) {
        match self {
            Self::Float(b) => b.append_null(),
            Self::Int(b) => b.append_null(),
            Self::Bool(b) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Vector(b) => b.append_null(),
        }
    }

    /// Adds a float; NaN is no value.
    pub(crate) fn float(&mut self, value: f64) -> Fit {
        if value.is_nan() {
            self.null();
            return Ok(());
        }
        match self {
            Self::Float(b) => b.append_value(value),
            Self::Int(b) => b.append_value(whole(value).ok_or(Unfit)?),
            Self::Bool(b) if value == 0.0 || value == 1.0 => b.append_value(value == 1.0),
            // `{:?}` writes `3.0` where `{}` writes `3`: the former is what Python's `str` gives.
            Self::Text(b) => b.append_value(format!("{value:?}")),
            Self::Time(b) => b.append_value(from_epoch_float(value).ok_or(Unfit)?),
            Self::Bool(_) | Self::Vector(_) => return Err(Unfit),
        }
        Ok(())
    }

    /// Adds an integer.
    pub(crate) fn int(&mut self, value: i64) -> Fit {
        match self {
            Self::Float(b) => b.append_value(value as f64),
            Self::Int(b) => b.append_value(value),
            Self::Bool(b) if value == 0 || value == 1 => b.append_value(value == 1),
            Self::Text(b) => b.append_value(value.to_string()),
            Self::Time(b) => b.append_value(from_epoch(value).ok_or(Unfit)?),
            Self::Bool(_) | Self::Vector(_) => return Err(Unfit),
        }
        Ok(())
    }

    /// Adds an integer that may be beyond `i64`: a float column takes it rounded, a text column as
    /// it was written.
    pub(crate) fn unsigned(&mut self, value: u64) -> Fit {
        match (i64::try_from(value), self) {
            (Ok(value), cells) => return cells.int(value),
            (Err(_), Self::Float(b)) => b.append_value(value as f64),
            (Err(_), Self::Text(b)) => b.append_value(value.to_string()),
            (Err(_), _) => return Err(Unfit),
        }
        Ok(())
    }

    /// Adds a boolean.
    pub(crate) fn bool(&mut self, value: bool) -> Fit {
        match self {
            Self::Float(b) => b.append_value(f64::from(u8::from(value))),
            Self::Int(b) => b.append_value(i64::from(value)),
            Self::Bool(b) => b.append_value(value),
            Self::Text(b) => b.append_value(if value { "True" } else { "False" }),
            Self::Time(_) | Self::Vector(_) => return Err(Unfit),
        }
        Ok(())
    }

    /// Adds a text as it was written: in a column of text it stays as it is, elsewhere it is read.
    pub(crate) fn text(&mut self, value: &str) -> Fit {
        if let Self::Text(b) = self {
            b.append_value(value);
            return Ok(());
        }
        let value = value.trim();
        if is_null_text(value) {
            self.null();
            return Ok(());
        }
        match self {
            Self::Float(b) => match value.parse() {
                Ok(number) => b.append_value(number),
                Err(_) => b.append_value(f64::from(u8::from(truth(value).ok_or(Unfit)?))),
            },
            Self::Int(b) => match value.parse() {
                Ok(number) => b.append_value(number),
                Err(_) => match value.parse().ok().and_then(whole) {
                    Some(number) => b.append_value(number),
                    None => b.append_value(i64::from(truth(value).ok_or(Unfit)?)),
                },
            },
            Self::Bool(b) => b.append_value(truth(value).ok_or(Unfit)?),
            Self::Text(b) => b.append_value(value),
            Self::Time(b) => b.append_value(parse_timestamp(value).ok_or(Unfit)?),
            Self::Vector(_) => return self.vector(&numbers(value).ok_or(Unfit)?),
        }
        Ok(())
    }

    /// Adds a point in time, in microseconds since 1970.
    pub(crate) fn time(&mut self, micros: i64) -> Fit {
        match self {
            Self::Time(b) => b.append_value(micros),
            Self::Text(b) => b.append_value(crate::time::format_micros(micros).ok_or(Unfit)?),
            Self::Float(_) | Self::Int(_) | Self::Bool(_) | Self::Vector(_) => return Err(Unfit),
        }
        Ok(())
    }

    /// Adds a vector; NaN within it is no value.
    pub(crate) fn vector(&mut self, values: &[f64]) -> Fit {
        let Self::Vector(b) = self else {
            return Err(Unfit);
        };
        for value in values {
            b.values()
                .append_option((!value.is_nan()).then_some(*value));
        }
        b.append(true);
        Ok(())
    }

    /// The column, leaving an empty one.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Float(b) => Arc::new(b.finish()),
            Self::Int(b) => Arc::new(b.finish()),
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
            Self::Vector(b) => Arc::new(b.finish()),
        }
    }
}
