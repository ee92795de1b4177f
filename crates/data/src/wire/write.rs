//! Tables out.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_csv::writer::WriterBuilder;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{Field, Schema};
use luthier_types::{Column, Error};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

use crate::{Format, arrow_schema, family::Family, table_bytes, write_json_rows};

/// Appends the table to `out`. JSON is an array of objects, in which NaN is null; CSV has a heading,
/// times as ISO 8601, lists as `[1.0, 2.0]`, and an empty field where there is no value.
///
/// # Errors
/// [`Code::Internal`](luthier_types::Code::Internal) when the table cannot be written, which is a
/// fault of the server.
pub fn write_table(batch: &RecordBatch, format: Format, out: &mut Vec<u8>) -> Result<(), Error> {
    let failed = |e: arrow_schema::ArrowError| Error::internal("writing a table", e);
    let room = 1024 + table_bytes(batch);
    match format {
        Format::Json => write_json_rows(batch, out),
        Format::ArrowStream => {
            out.reserve(room);
            let mut writer = StreamWriter::try_new(out, batch.schema_ref()).map_err(failed)?;
            writer
                .write(batch)
                .and_then(|()| writer.finish())
                .map_err(failed)?;
        }
        Format::ArrowFile => {
            out.reserve(room);
            let mut writer = FileWriter::try_new(out, batch.schema_ref()).map_err(failed)?;
            writer
                .write(batch)
                .and_then(|()| writer.finish())
                .map_err(failed)?;
        }
        Format::Parquet => {
            parquet(batch, out).map_err(|e| Error::internal("writing a Parquet file", e))?
        }
        Format::Csv => {
            let mut writer = WriterBuilder::new().with_header(true).build(out);
            writer.write(&as_csv(batch)?).map_err(failed)?;
        }
    }
    Ok(())
}

/// A table without rows that has these columns.
pub fn empty_table(columns: &[&Column]) -> RecordBatch {
    RecordBatch::new_empty(arrow_schema(columns))
}

fn parquet(batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), parquet::errors::ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer = ArrowWriter::try_new(out, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.close().map(drop)
}

/// The table with what CSV has no word for as text.
fn as_csv(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns
        .map(|(field, array)| {
            let array: ArrayRef = match Family::lenient(array) {
                Family::Float(a) => Arc::new(a),
                Family::Int(a) => Arc::new(a),
                Family::Unsigned(a) => Arc::new(a),
                Family::Bool(a) => Arc::new(a),
                Family::Text(a) => Arc::new(a),
                Family::Time(a) => {
                    let shown = |t: Option<i64>| t.and_then(crate::time::format_micros);
                    Arc::new(a.iter().map(shown).collect::<StringArray>())
                }
                Family::Vector(a) => {
                    let rows = 0..batch.num_rows();
                    let shown =
                        rows.map(|row| Family::list_item(&a, row).map(|v| format!("{v:?}")));
                    Arc::new(shown.collect::<StringArray>())
                }
                Family::Nothing(rows) => Arc::new(StringArray::new_null(rows)),
            };
            (
                Field::new(field.name(), array.data_type().clone(), true),
                array,
            )
        })
        .unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
        .map_err(|e| Error::internal("writing a table as CSV", e))
}
