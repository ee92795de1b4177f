//! Whether two answers are the same, up to rounding.

use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray as _,
    types::{Float64Type, Int64Type},
};
use arrow_schema::DataType;

/// What rounding may change, relative to the size of the numbers.
const ROUNDING: f64 = 1e-6;
/// The same for a model that computes in single precision, whose numbers have 24 bits.
const SINGLE: f64 = 1e-5;

/// One value of an answer. No value and NaN are the same, as they are in JSON.
#[derive(Debug, PartialEq)]
enum Cell<'a> {
    Nothing,
    Float(f64),
    Int(i64),
    Bool(bool),
    Text(&'a str),
    Other(ArrayRef),
}

/// The first difference of `found` from the rows of `expected` from `first` on, in which both have
/// the same columns: the row in `expected`, and what is how different.
///
/// Floats may differ by rounding, measured by the larger of the two and of the column's median: a
/// sum of large terms that is nearly zero has the rounding of its terms.
pub(super) fn difference(
    expected: &RecordBatch,
    found: &RecordBatch,
    first: usize,
) -> Option<(usize, String)> {
    let schema = expected.schema();
    for ((field, expected), found) in schema
        .fields()
        .iter()
        .zip(expected.columns())
        .zip(found.columns())
    {
        let (scale, rounding) = measure(expected);
        for row in 0..found.len() {
            let (was, is) = (cell(expected, first + row), cell(found, row));
            if !same(&was, &is, scale, rounding) {
                let what = format!(
                    "output `{}` was {} and is {}",
                    field.name(),
                    said(&was),
                    said(&is)
                );
                return Some((first + row, what));
            }
        }
    }
    None
}

fn cell(column: &ArrayRef, row: usize) -> Cell<'_> {
    if column.is_null(row) {
        return Cell::Nothing;
    }
    match column.data_type() {
        DataType::Null => Cell::Nothing,
        DataType::Float64 => match column.as_primitive::<Float64Type>().value(row) {
            value if value.is_nan() => Cell::Nothing,
            value => Cell::Float(value),
        },
        DataType::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Boolean => Cell::Bool(column.as_boolean().value(row)),
        DataType::Utf8 => Cell::Text(column.as_string::<i32>().value(row)),
        _ => Cell::Other(column.slice(row, 1)),
    }
}

fn same(was: &Cell<'_>, is: &Cell<'_>, scale: f64, rounding: f64) -> bool {
    match (was, is) {
        (Cell::Float(a), Cell::Float(b)) => {
            // Infinities are equal or far apart.
            a == b || (a - b).abs() <= rounding * a.abs().max(b.abs()).max(scale).min(f64::MAX)
        }
        (was, is) => was == is,
    }
}

/// The median of a column's magnitudes, and what counts as rounding in it.
fn measure(column: &ArrayRef) -> (f64, f64) {
    let Some(floats) = column.as_primitive_opt::<Float64Type>() else {
        return (0.0, 0.0);
    };
    let mut sizes: Vec<f64> = floats.iter().flatten().filter(|v| v.is_finite()).collect();
    let single = sizes.iter().all(|v| f64::from(*v as f32) == *v);
    sizes.iter_mut().for_each(|v| *v = v.abs());
    sizes.sort_by(f64::total_cmp);
    let median = sizes.get(sizes.len() / 2).copied().unwrap_or(0.0);
    (median, if single { SINGLE } else { ROUNDING })
}

fn said(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Nothing => "nothing".to_owned(),
        Cell::Float(value) => value.to_string(),
        Cell::Int(value) => value.to_string(),
        Cell::Bool(value) => value.to_string(),
        Cell::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        Cell::Other(value) => format!("a value of type {}", value.data_type()),
    }
}

#[cfg(test)]
mod tests;
