//! Numbers out of a model's answer.

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{
        Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
        UInt8Type, UInt16Type, UInt32Type, UInt64Type,
    },
};
use arrow_schema::DataType;
use luthier_types::{Code, Error};

/// The columns `outputs` of a model's answer as numbers, one list per output; booleans count as 0
/// and 1.
///
/// # Errors
/// [`Code::InvalidPrediction`] when an output is absent, is no number, or is missing or not finite
/// in a row, and when the answer has another number of rows than `rows`.
pub(crate) fn predictions(
    answer: &RecordBatch,
    outputs: &[String],
    rows: usize,
) -> Result<Vec<Vec<f64>>, Error> {
    if answer.num_rows() != rows {
        return Err(Error::new(
            Code::InvalidPrediction,
            format!(
                "the model was asked about {rows} rows and answered {}",
                answer.num_rows()
            ),
        )
        .hint("predict() must return one row for each row it is given, in the same order."));
    }
    outputs
        .iter()
        .map(|output| {
            let column = answer.column_by_name(output).ok_or_else(|| {
                let names: Vec<_> = answer
                    .schema_ref()
                    .fields()
                    .iter()
                    .map(|f| f.name().as_str())
                    .collect();
                Error::new(
                    Code::InvalidPrediction,
                    format!("the model's answer has no column `{output}`, only {names:?}"),
                )
                .hint("predict() must return a column for each output in the model's spec.")
            })?;
            let values = numbers(column.as_ref()).ok_or_else(|| {
                Error::new(
                    Code::InvalidPrediction,
                    format!(
                        "the output `{output}` is {}, which is no number",
                        column.data_type()
                    ),
                )
                .hint("Only numeric outputs can be explained; return a probability or a score.")
            })?;
            match values.iter().position(|value| !value.is_finite()) {
                None => Ok(values),
                Some(at) => Err(Error::new(
                    Code::InvalidPrediction,
                    format!(
                        "the model predicted {} for the output `{output}`",
                        values[at]
                    ),
                )
                .hint(
                    "An explanation mixes values of the row and of the reference; predict() must \
                     return a finite number for such rows as well.",
                )),
            }
        })
        .collect()
}

/// The values as numbers, null being NaN; `None` when the type has none.
fn numbers(array: &dyn Array) -> Option<Vec<f64>> {
    macro_rules! primitive {
        ($type:ty, $number:expr) => {
            array
                .as_primitive::<$type>()
                .iter()
                .map(|v| v.map_or(f64::NAN, $number))
                .collect()
        };
    }
    Some(match array.data_type() {
        DataType::Float64 => primitive!(Float64Type, |v| v),
        DataType::Float32 => primitive!(Float32Type, f64::from),
        DataType::Float16 => primitive!(Float16Type, |v| v.to_f64()),
        DataType::Int8 => primitive!(Int8Type, f64::from),
        DataType::Int16 => primitive!(Int16Type, f64::from),
        DataType::Int32 => primitive!(Int32Type, f64::from),
        DataType::Int64 => primitive!(Int64Type, |v| v as f64),
        DataType::UInt8 => primitive!(UInt8Type, f64::from),
        DataType::UInt16 => primitive!(UInt16Type, f64::from),
        DataType::UInt32 => primitive!(UInt32Type, f64::from),
        DataType::UInt64 => primitive!(UInt64Type, |v| v as f64),
        DataType::Boolean => array
            .as_boolean()
            .iter()
            .map(|v| v.map_or(f64::NAN, f64::from))
            .collect(),
        _ => return None,
    })
}
