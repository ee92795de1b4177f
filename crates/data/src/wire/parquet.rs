//! Parquet in memory.
//!
//! Before anything is unpacked the headers of all pages that will be are looked at. Texts are read
//! as views into their pages, so that a dictionary's word is there once however often it stands,
//! and are only written out after they were counted. The Arrow schema that writers put into the
//! file is not used: it has types that swell.

use std::sync::Arc;

use arrow_schema::{DataType as Arrow, Field, Schema};
use bytes::Bytes;
use luthier_types::{Code, Error};
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
            ParquetRecordBatchReaderBuilder,
        },
    },
    basic::Type as Physical,
    file::metadata::ColumnChunkMetaData,
};

use super::{
    Assembly,
    arrow::projected,
    budget::Budget,
    no_type,
    pages::{DELTA_BYTE_ARRAY, pages},
    places,
};
use crate::{
    MAX_COLUMNS,
    family::Family,
    guard::guarded,
    source::{BATCH_ROWS, bad_parquet, damaged},
};

/// Largest footer, in bytes. One of ten thousand columns takes some megabytes.
const MOST_FOOTER: u32 = 8 << 20;

pub(super) fn read(body: Bytes, table: &mut Assembly<'_>) -> Result<(), Error> {
    let opened = guarded(|| open(body, table), damaged)?;
    let (mut reader, order) = opened;
    loop {
        let next = || reader.next().transpose().map_err(bad_parquet);
        let Some(batch) = guarded(next, damaged)? else {
            return Ok(());
        };
        table.add(&projected(&batch, &order)?)?;
    }
}

/// A reader of the parser's columns, and where each of them is in its batches.
fn open(
    body: Bytes,
    table: &mut Assembly<'_>,
) -> Result<(ParquetRecordBatchReader, Vec<usize>), Error> {
    let footer = body
        .strip_suffix(b"PAR1")
        .and_then(|rest| rest.last_chunk::<4>());
    match footer {
        None => return Err(refused("it is cut off, or something else")),
        Some(length) if u32::from_le_bytes(*length) > MOST_FOOTER => {
            return Err(refused("its footer is too large"));
        }
        Some(_) => {}
    }
    let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::load(&body, plain).map_err(bad_parquet)?;
    let schema = found.schema();
    if schema.fields().len() > MAX_COLUMNS {
        return Err(refused("it has too many columns"));
    }
    let places = places(schema, table.parser)?;
    for ((name, wanted), place) in table.parser.columns().iter().zip(&places) {
        let data_type = schema.field(*place).data_type();
        if !Family::takes(data_type) {
            return Err(no_type(name, data_type, *wanted));
        }
    }
    let mask = ProjectionMask::roots(found.parquet_schema(), places.iter().copied());
    for group in found.metadata().row_groups() {
        table.budget.claimed_rows(group.num_rows())?;
        for (at, column) in group.columns().iter().enumerate() {
            if mask.leaf_included(at) {
                count(&body, column, &mut table.budget)?;
            }
        }
    }
    let views = ArrowReaderOptions::new().with_schema(Arc::new(with_views(schema)));
    let metadata =
        ArrowReaderMetadata::try_new(found.metadata().clone(), views).map_err(bad_parquet)?;
    let mut kept = places.clone();
    kept.sort_unstable();
    let order = places
        .iter()
        .map(|place| kept.partition_point(|k| k < place));
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(body, metadata)
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(bad_parquet)?;
    Ok((reader, order.collect()))
}

/// The schema with text as views.
fn with_views(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        Arrow::Utf8 | Arrow::LargeUtf8 => Arc::new(Field::new(
            field.name(),
            Arrow::Utf8View,
            field.is_nullable(),
        )),
        _ => Arc::clone(field),
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Counts what the pages of a column chunk unpack to.
fn count(body: &Bytes, column: &ColumnChunkMetaData, budget: &mut Budget) -> Result<(), Error> {
    // Of a number, of the view of a text.
    let width = match column.column_type() {
        Physical::BOOLEAN => 1,
        Physical::BYTE_ARRAY => 16,
        Physical::FIXED_LEN_BYTE_ARRAY => match column.column_descr().type_length() {
            length @ 0..=32 => u64::from(length.unsigned_abs()),
            _ => return Err(refused("it has wider values than any number")),
        },
        _ => 8,
    };
    let (start, length) = column.byte_range();
    let range = start.checked_add(length).and_then(|end| {
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        body.get(start..end)
    });
    for page in pages(range.ok_or_else(damaged)?) {
        let page = page.ok_or_else(damaged)?;
        if page.encoding == DELTA_BYTE_ARRAY {
            return Err(refused("it has text in the encoding DELTA_BYTE_ARRAY"));
        }
        budget.unpacked(
            page.unpacked
                .saturating_add(page.values.saturating_mul(width)),
        )?;
    }
    Ok(())
}

fn refused(cause: &str) -> Error {
    Error::new(
        Code::BadRequest,
        format!("the Parquet file cannot be read: {cause}"),
    )
    .hint("Write the file again, for example with pandas.DataFrame.to_parquet, and send all of it.")
}
