//! CSV: every column as text, which is then read by the column's type.

use std::{io::Cursor, sync::Arc};

use arrow_csv::{ReaderBuilder, reader::Format as Csv};
use arrow_schema::{DataType as Arrow, Field, Schema};
use bytes::{Buf as _, Bytes};
use luthier_types::{Code, Error};

use super::{Assembly, arrow::projected, places};
use crate::{
    MAX_COLUMNS,
    source::{BATCH_ROWS, bad_csv},
};

/// What some programs write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Fields of one batch: each takes some bytes while it is read, and a line of commas has many.
const BATCH_FIELDS: usize = 1 << 20;

pub(super) fn read(mut body: Bytes, table: &mut Assembly<'_>) -> Result<(), Error> {
    if body.starts_with(BYTE_ORDER_MARK) {
        body.advance(BYTE_ORDER_MARK.len());
    }
    if body.is_empty() {
        return Err(Error::new(Code::BadRequest, "the CSV is empty")
            .hint("Send a heading with the names of the columns, and a line for each row."));
    }
    let (heading, _) = Csv::default()
        .with_header(true)
        .infer_schema(Cursor::new(&body), Some(0))
        .map_err(|e| bad_csv(&e))?;
    let count = heading.fields().len();
    if count > MAX_COLUMNS {
        let cause = format!("the CSV has {count} columns, more than {MAX_COLUMNS}");
        return Err(Error::new(Code::BadRequest, cause).hint("Send the model's inputs alone."));
    }
    let places = places(&heading, table.parser)?;
    // The reader gives the columns in the order of the file.
    let mut kept = places.clone();
    kept.sort_unstable();
    let order: Vec<usize> = places
        .iter()
        .map(|place| kept.partition_point(|k| k < place))
        .collect();
    let fields = heading.fields().iter();
    let fields = fields.map(|f| Field::new(f.name(), Arrow::Utf8, true));
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
        .with_header(true)
        .with_batch_size((BATCH_FIELDS / count.max(1)).clamp(1, BATCH_ROWS))
        .with_projection(kept)
        .build_buffered(Cursor::new(body))
        .map_err(|e| bad_csv(&e))?;
    for batch in reader {
        table.add(&projected(&batch.map_err(|e| bad_csv(&e))?, &order)?)?;
    }
    Ok(())
}
