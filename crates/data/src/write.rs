//! Tables out as JSON rows.

use std::io::Write as _;

use arrow_array::{Array, RecordBatch};
use serde_json::{Map, Value};

use crate::family::Family;

/// The table as JSON rows; no value, NaN and infinities are `null`, times are ISO 8601 text.
pub fn batch_to_rows(batch: &RecordBatch) -> Vec<Map<String, Value>> {
    let fields = batch.schema_ref().fields();
    let columns: Vec<Family> = batch.columns().iter().map(Family::lenient).collect();
    (0..batch.num_rows())
        .map(|row| {
            fields
                .iter()
                .zip(&columns)
                .map(|(f, c)| (f.name().clone(), c.json(row)))
                .collect()
        })
        .collect()
}

/// Appends the table to `out` as a JSON array of rows, the same text that serialising
/// [`batch_to_rows`] gives. Floats are written with the fewest digits that read back exactly.
pub fn write_json_rows(batch: &RecordBatch, out: &mut Vec<u8>) {
    let fields = batch.schema_ref().fields();
    let columns: Vec<(Vec<u8>, Family)> = fields
        .iter()
        .zip(batch.columns())
        .enumerate()
        .map(|(i, (field, array))| {
            let mut key = vec![if i == 0 { b'{' } else { b',' }];
            json(&mut key, field.name());
            key.push(b':');
            (key, Family::lenient(array))
        })
        .collect();
    out.push(b'[');
    for row in 0..batch.num_rows() {
        if row > 0 {
            out.push(b',');
        }
        if columns.is_empty() {
            out.push(b'{');
        }
        for (key, column) in &columns {
            out.extend_from_slice(key);
            column.write(row, out);
        }
        out.push(b'}');
    }
    out.push(b']');
}

impl Family {
    /// The value at `row`.
    fn json(&self, row: usize) -> Value {
        match self {
            Self::Float(a) => (!a.is_null(row)).then(|| a.value(row)).into(),
            Self::Int(a) => (!a.is_null(row)).then(|| a.value(row)).into(),
            Self::Unsigned(a) => (!a.is_null(row)).then(|| a.value(row)).into(),
            Self::Bool(a) => (!a.is_null(row)).then(|| a.value(row)).into(),
            Self::Text(a) => (!a.is_null(row)).then(|| a.value(row)).into(),
            Self::Time(a) => (!a.is_null(row))
                .then(|| crate::time::format_micros(a.value(row)))
                .flatten()
                .into(),
            Self::Vector(a) => Self::list_item(a, row)
                .map(|values| values.into_iter().map(Value::from).collect())
                .unwrap_or_default(),
            Self::Nothing(_) => Value::Null,
        }
    }

    /// Appends the value at `row`.
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Float(a) if !a.is_null(row) => json(out, &a.value(row)),
            Self::Int(a) if !a.is_null(row) => json(out, &a.value(row)),
            Self::Unsigned(a) if !a.is_null(row) => json(out, &a.value(row)),
            Self::Bool(a) if !a.is_null(row) => json(out, &a.value(row)),
            Self::Text(a) if !a.is_null(row) => json(out, a.value(row)),
            Self::Time(_) | Self::Vector(_) => json(out, &self.json(row)),
            _ => out.extend_from_slice(b"null"),
        }
    }
}

/// Appends `value` as JSON.
fn json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing plain values to memory has no way to fail; were there one, `null` keeps the JSON whole.
    let start = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        let _ = out.write_all(b"null");
    }
}

#[cfg(test)]
mod tests;
