//! Published files made uniform: any CSV or Parquet in, Parquet with the schema's types out.

use std::{path::Path, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType as Arrow, Field, Schema};
use luthier_types::{Code, DataType, Error, ModelSchema};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

use crate::{
    cell::shown,
    cells::{Cells, Fit},
    family::Family,
    schema::{arrow_type, named},
    source::Source,
};

/// Rows of one row group: small enough that a sample skips most of a large file.
const GROUP_ROWS: usize = 64 * 1024;

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Number of rows.
    pub rows: u64,
    /// Columns that were taken from the file, in the stored order: of the schema, then extra ones.
    pub columns: Vec<String>,
}

/// Writes the CSV or Parquet file at `input` to `out` as Parquet with every column of the schema,
/// in its order and with its type, followed by those of `extra_columns` that the file has, as text
/// (an event's id or time, for example). Schema columns that the file lacks have no values; other
/// columns of the file are left out. `out` is complete or absent.
///
/// # Errors
/// [`Code::BadRequest`] when the file is not a table, has none of the schema's columns, or has one
/// twice; or naming the row (from 0, the header not counted), the column and the value that does
/// not fit its type. [`Code::Internal`] when files cannot be read or written.
pub fn canonicalise(
    input: &Path,
    schema: &ModelSchema,
    extra_columns: &[String],
    out: &Path,
) -> Result<Published, Error> {
    let is_extra = |name: &str| schema.column(name).is_none();
    let mut targets: Vec<(&str, DataType)> = schema
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.data_type))
        .collect();
    let keep = |name: &str| {
        schema.column(name).is_some() || extra_columns.iter().any(|extra| extra == name)
    };
    let source = Source::open(input, keep)?;
    check_names(&source.columns, schema)?;
    for extra in extra_columns {
        let new = is_extra(extra) && !targets.iter().any(|(name, _)| name == extra);
        if new && source.columns.contains(extra) {
            targets.push((extra, DataType::Str));
        }
    }
    let columns: Vec<String> = targets
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .filter(|name| source.columns.contains(name))
        .collect();

    let partial = out.with_extension("partial");
    let written = write(source, &targets, &partial).and_then(|rows| {
        fs_err::rename(&partial, out).map_err(unwritable)?;
        Ok(rows)
    });
    if written.is_err() {
        // The first error tells the cause; a leftover is found by its suffix.
        let _ = fs_err::remove_file(&partial);
    }
    Ok(Published {
        rows: written?,
        columns,
    })
}

/// Checks that the file's columns have to do with the schema and are there once.
fn check_names(columns: &[String], schema: &ModelSchema) -> Result<(), Error> {
    let known: Vec<&String> = columns
        .iter()
        .filter(|c| schema.column(c).is_some())
        .collect();
    if known.is_empty() && !schema.columns.is_empty() {
        let list = |names: Vec<&str>| names.into_iter().take(20).collect::<Vec<_>>().join(", ");
        let has = list(columns.iter().map(String::as_str).collect());
        let wants = list(schema.columns.iter().map(|c| c.name.as_str()).collect());
        return Err(Error::new(
            Code::BadRequest,
            format!("the file has none of the model's columns: it has {has}"),
        )
        .hint(format!(
            "The model's columns are {wants}. A CSV file needs them in its first line."
        )));
    }
    for (i, name) in known.iter().enumerate() {
        if known[..i].contains(name) {
            let cause = format!("the file has the column `{name}` twice");
            return Err(Error::new(Code::BadRequest, cause));
        }
    }
    Ok(())
}

/// Writes the rows and gives their number.
fn write(source: Source, targets: &[(&str, DataType)], out: &Path) -> Result<u64, Error> {
    let fields = targets
        .iter()
        .map(|(name, t)| Field::new(*name, arrow_type(*t), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let file = fs_err::File::create(out).map_err(unwritable)?;
    let mut writer =
        ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(unwritable)?;
    let mut rows = 0_u64;
    for batch in source.batches {
        let batch = batch?;
        let arrays = targets
            .iter()
            .map(|(name, data_type)| match batch.column_by_name(name) {
                Some(array) => convert(array, name, *data_type, rows),
                None => Ok(new_null_array(&arrow_type(*data_type), batch.num_rows())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
            .map_err(unwritable)?;
        writer.write(&batch).map_err(unwritable)?;
        rows += batch.num_rows() as u64;
    }
    let file = writer.into_inner().map_err(unwritable)?;
    file.sync_all().map_err(unwritable)?;
    Ok(rows)
}

/// The column with the type asked for; `first` is the number of its first row.
pub(crate) fn convert(
    array: &ArrayRef,
    name: &str,
    data_type: DataType,
    first: u64,
) -> Result<ArrayRef, Error> {
    if *array.data_type() == arrow_type(data_type) && data_type != DataType::Float {
        return Ok(array.clone());
    }
    let mut cells = Cells::new(data_type, array.len());
    let unfit = |row: usize, value: String| {
        Error::new(
            Code::BadRequest,
            format!(
                "row {}: column `{name}` is {value}, but {} is needed",
                first + row as u64,
                named(data_type)
            ),
        )
        .hint(
            "Correct the value, leave it empty, or change the column's type in the model's schema.",
        )
    };
    macro_rules! fill {
        ($array:expr, $push:ident, $shown:expr) => {
            for (row, value) in $array.iter().enumerate() {
                let Some(value) = value else {
                    cells.null();
                    continue;
                };
                let fit: Fit = cells.$push(value);
                fit.map_err(|_| unfit(row, $shown(value)))?;
            }
        };
    }
    match Family::of(array).or_else(|| Family::of(&text_of(array)?)) {
        Some(Family::Float(a)) => fill!(a, float, |v: f64| v.to_string()),
        Some(Family::Int(a)) => fill!(a, int, |v: i64| v.to_string()),
        Some(Family::Unsigned(a)) => fill!(a, unsigned, |v: u64| v.to_string()),
        Some(Family::Bool(a)) => fill!(a, bool, |v: bool| v.to_string()),
        Some(Family::Text(a)) => fill!(a, text, shown),
        Some(Family::Time(a)) => {
            fill!(a, time, |v| crate::time::format_micros(v)
                .unwrap_or_else(|| "a time".to_owned()));
        }
        Some(Family::Vector(a)) => {
            for row in 0..a.len() {
                match Family::list_item(&a, row) {
                    None => cells.null(),
                    Some(values) => {
                        cells
                            .vector(&values)
                            .map_err(|_| unfit(row, "a list".to_owned()))?;
                    }
                }
            }
        }
        Some(Family::Nothing(rows)) => (0..rows).for_each(|_| cells.null()),
        None => {
            let cause = format!("the column `{name}` has the type {}", array.data_type());
            return Err(Error::new(Code::BadRequest, cause)
                .hint(format!("Convert the column to {}.", named(data_type))));
        }
    }
    Ok(cells.finish())
}

/// The column as text, if its type has a text.
fn text_of(array: &ArrayRef) -> Option<ArrayRef> {
    arrow_cast::cast(array, &Arrow::Utf8).ok()
}

fn unwritable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("storing a data file", error)
}

#[cfg(test)]
pub(crate) mod tests;
