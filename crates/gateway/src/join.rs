//! Tables put together and taken apart.

use std::sync::Arc;

use arrow_array::{Array as _, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::concat::concat_batches;
use luthier_types::{Error, Result};

/// Most rows of a request that is predicted together with others.
const SMALL_ROWS: usize = 64;
/// Most bytes of such a request.
const SMALL_BYTES: usize = 64 << 10;

/// Whether a table is small enough to be predicted together with others.
pub(crate) fn is_small(table: &RecordBatch) -> bool {
    (1..=SMALL_ROWS).contains(&table.num_rows()) && luthier_data::table_bytes(table) <= SMALL_BYTES
}

/// Fewest rows that are worth a call of their own when a table is split.
const PART_ROWS: usize = 1000;

/// A table in up to `most` parts of about the same size, in order; `None` when it is too small, or
/// when the model would see other types in some part than in the whole.
pub(crate) fn split(table: &RecordBatch, most: usize) -> Option<Vec<RecordBatch>> {
    let rows = table.num_rows();
    let count = most.min(rows / PART_ROWS);
    if count < 2 {
        return None;
    }
    let sizes = (0..count).map(|i| (i + 1) * rows / count - i * rows / count);
    let parts: Vec<RecordBatch> = parted(table, sizes).collect();
    let whole = Likeness::of(table);
    parts
        .iter()
        .all(|part| Likeness::of(part) == whole)
        .then_some(parts)
}

/// What two tables must have in common for the model to see in one table of both what it sees in
/// each: the columns, and in which columns a missing value makes pandas choose another type.
#[derive(Clone, Debug)]
pub(crate) struct Likeness {
    schema: SchemaRef,
    holes: Vec<bool>,
}

impl Likeness {
    pub(crate) fn of(table: &RecordBatch) -> Self {
        let holes = table.columns().iter().filter_map(|column| {
            let kind = column.data_type();
            let matters = kind.is_integer() || *kind == DataType::Boolean;
            matters.then(|| column.null_count() > 0)
        });
        Self {
            schema: table.schema(),
            holes: holes.collect(),
        }
    }
}

impl PartialEq for Likeness {
    fn eq(&self, other: &Self) -> bool {
        let same = Arc::ptr_eq(&self.schema, &other.schema) || self.schema == other.schema;
        same && self.holes == other.holes
    }
}

/// One table of like ones, in order.
///
/// # Errors
/// `Internal` when they have no common schema.
pub(crate) fn joined<'a>(
    tables: impl Iterator<Item = &'a RecordBatch> + Clone,
) -> Result<RecordBatch> {
    let schema = tables
        .clone()
        .next()
        .map(RecordBatch::schema)
        .ok_or_else(|| Error::internal("joining requests", "there are none"))?;
    concat_batches(&schema, tables).map_err(|e| Error::internal("joining requests", e))
}

/// The parts of a table, of so many rows each, in order.
pub(crate) fn parted(
    table: &RecordBatch,
    rows: impl Iterator<Item = usize>,
) -> impl Iterator<Item = RecordBatch> {
    rows.scan(0, |start, rows| {
        let part = table.slice(*start, rows);
        *start += rows;
        Some(part)
    })
}

#[cfg(test)]
mod tests;
