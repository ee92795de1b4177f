//! Rows taken from a stored Parquet file: the first ones, or a seeded sample; and made-up rows for
//! a model without data.

use std::{collections::BTreeSet, iter::once, ops::Range, path::Path};

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow_select::concat::concat_batches;
use luthier_types::{Column, DataType, Error};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde_json::Value;

use crate::{
    arrow_schema,
    canonical::convert,
    cells::Cells,
    schema::arrow_type,
    source::{BATCH_ROWS, bad_parquet, open},
};

/// `n` different rows (all, if there are fewer) in the file's order, each set of `n` as likely as
/// any other; the same seed gives the same rows. The table has exactly `columns`; one that the file
/// lacks has no values.
///
/// # Errors
/// [`luthier_types::Code::BadRequest`] when the file is not Parquet or a value does not fit its column;
/// [`luthier_types::Code::Internal`] when it cannot be read.
pub fn sample_parquet(
    path: &Path,
    columns: &[&Column],
    n: usize,
    seed: u64,
) -> Result<RecordBatch, Error> {
    take(path, columns, |rows| pick(rows, n, seed))
}

/// The first `n` rows, otherwise as [`sample_parquet`].
///
/// # Errors
/// As [`sample_parquet`].
pub fn head_parquet(path: &Path, columns: &[&Column], n: usize) -> Result<RecordBatch, Error> {
    take(path, columns, |rows| once(0..rows.min(n)).collect())
}

/// `n` made-up rows that fit the columns. The first is the middle of a numeric column's range, true,
/// the first category, a fixed text, 2024-01-01; the others differ from it as far as the schema
/// says what else there is. They serve to see whether and how a model answers.
///
/// # Errors
/// [`luthier_types::Code::Internal`] when the table cannot be made.
pub fn synthetic_rows(columns: &[&Column], n: usize) -> Result<RecordBatch, Error> {
    let arrays = columns
        .iter()
        .map(|column| {
            let mut cells = Cells::new(column.data_type, n);
            (0..n).for_each(|row| synthetic(column, row, &mut cells));
            cells.finish()
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(n));
    RecordBatch::try_new_with_options(arrow_schema(columns), arrays, &options)
        .map_err(|e| Error::internal("making up rows", e))
}

fn synthetic(column: &Column, row: usize, cells: &mut Cells) {
    const NEW_YEAR_2024: i64 = 1_704_067_200_000_000;
    const DAY: i64 = 86_400_000_000;
    /// Where in its range a number lies, row after row; its ends are left alone.
    const PARTS: [f64; 5] = [0.5, 0.25, 0.75, 0.375, 0.625];
    let part = PARTS[row % PARTS.len()];
    let number = |unranged: f64| match column.min.zip(column.max) {
        Some((min, max)) => min * (1.0 - part) + max * part,
        None => unranged + row as f64,
    };
    let category = |list: &Vec<Value>| list.get(row % list.len().max(1)).cloned();
    let put = match column.data_type {
        DataType::Float => cells.float(number(5.5)),
        DataType::Int => cells.float(number(5.0).round()),
        DataType::Bool => cells.bool(row.is_multiple_of(2)),
        DataType::Str | DataType::Category => match column.categories.as_ref().and_then(category) {
            Some(Value::String(text)) => cells.text(&text),
            Some(Value::Bool(value)) => cells.bool(value),
            Some(other) => cells.text(&other.to_string()),
            None => cells.text("mock_value"),
        },
        DataType::Timestamp => cells.time(NEW_YEAR_2024 + DAY * row as i64),
        DataType::Vector => {
            let value = 0.5 + row as f64;
            cells.vector(&vec![value; column.n_dimensions.unwrap_or(1) as usize])
        }
    };
    if put.is_err() {
        // Only a range beyond the integers gets here.
        cells.null();
    }
}

/// The rows of the ranges that `choose` gives for the file's number of rows, ascending.
fn take(
    path: &Path,
    columns: &[&Column],
    choose: impl FnOnce(usize) -> Vec<Range<usize>>,
) -> Result<RecordBatch, Error> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(open(path)?).map_err(bad_parquet)?;
    let total = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let ranges = choose(total);
    let wanted = |name: &str| columns.iter().any(|c| c.name == name);
    let fields = builder.schema().fields().iter().enumerate();
    let kept: Vec<usize> = fields
        .filter(|(_, f)| wanted(f.name()))
        .map(|(i, _)| i)
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), kept);
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .with_row_selection(RowSelection::from_consecutive_ranges(
            ranges.into_iter(),
            total,
        ))
        .build()
        .map_err(bad_parquet)?;
    let schema = arrow_schema(columns);
    let mut batches = vec![];
    for batch in reader {
        let batch = batch.map_err(bad_parquet)?;
        let arrays = columns
            .iter()
            .map(|c| match batch.column_by_name(&c.name) {
                Some(array) => convert(array, &c.name, c.data_type, 0),
                None => Ok(new_null_array(&arrow_type(c.data_type), batch.num_rows())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
            .map_err(|e| Error::internal("reading a sample", e))?;
        batches.push(batch);
    }
    concat_batches(&schema, &batches).map_err(|e| Error::internal("reading a sample", e))
}

/// `n` of `total` rows as ascending ranges, by Floyd's algorithm (Bentley and Floyd, "A sample of
/// brilliance", CACM 30(9), 1987): for j from total − n to total − 1, add a random number of 0..=j,
/// or j itself if that number is already in.
fn pick(total: usize, n: usize, seed: u64) -> Vec<Range<usize>> {
    if n >= total {
        return once(0..total).collect();
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut chosen = BTreeSet::new();
    for j in total - n..total {
        // Multiply-shift: the bias is below total / 2^64.
        let r = ((u128::from(random.next_u64()) * (j as u128 + 1)) >> 64) as usize;
        if !chosen.insert(r) {
            chosen.insert(j);
        }
    }
    let mut ranges: Vec<Range<usize>> = vec![];
    for row in chosen {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests;
