//! Tables as they come over the wire and go back: any [`Format`] in, by a model's columns, and out.
//!
//! What comes is not trusted. A few kilobytes of Parquet or Arrow can claim, or really unpack to,
//! gigabytes; so what a body claims is added up and held against [`Bounds`] before memory is taken
//! for it.

mod arrow;
mod budget;
mod csv;
mod pages;
mod parquet;
mod write;

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch, RecordBatchOptions, new_empty_array};
use arrow_schema::Schema;
use bytes::Bytes;
use luthier_types::{Code, DataType, Error};

use crate::{
    Format, RowParser,
    canonical::convert,
    family::Family,
    rows::lacking,
    schema::{arrow_type, named},
};
pub use budget::Bounds;
pub(crate) use budget::Budget;
pub use write::{empty_table, write_table};

/// A table being put together of a body's batches, with exactly the parser's columns.
struct Assembly<'p> {
    parser: &'p RowParser,
    budget: Budget,
    columns: Vec<Vec<ArrayRef>>,
    rows: usize,
}

/// Reads `body` into a table of exactly the parser's columns, in their order and with their types.
/// Columns go by name; others are ignored. Values are converted as [`RowParser::parse`] converts
/// them; in CSV, an empty field is no value.
///
/// # Errors
/// [`Code::BadRequest`] when the body is not of that form; naming the columns that are missing; or
/// naming the row (from 0), the column and the value that does not fit. [`Code::TooLarge`] when it
/// holds or unpacks to more than `bounds`.
pub fn read_table(
    body: Bytes,
    format: Format,
    parser: &RowParser,
    bounds: Bounds,
) -> Result<RecordBatch, Error> {
    let mut table = Assembly::new(parser, bounds);
    match format {
        Format::Json => {
            let text = std::str::from_utf8(&body).map_err(|e| {
                Error::new(Code::BadRequest, format!("the rows are not UTF-8: {e}"))
                    .hint("Send JSON in UTF-8.")
            })?;
            return parser.parse(text);
        }
        Format::ArrowStream | Format::ArrowFile => arrow::read(body, &mut table)?,
        Format::Parquet => parquet::read(body, &mut table)?,
        Format::Csv => csv::read(body, &mut table)?,
    }
    table.finish()
}

/// The places of the parser's columns in a body with these columns.
fn places(schema: &Schema, parser: &RowParser) -> Result<Vec<usize>, Error> {
    let fields = schema.fields();
    let mut places = Vec::with_capacity(parser.columns().len());
    let mut missing = vec![];
    for (at, (name, _)) in parser.columns().iter().enumerate() {
        // Who sends the inputs in their order is the usual one.
        let guess = fields.get(at).filter(|f| f.name() == name).map(|_| at);
        let mut found = fields
            .iter()
            .enumerate()
            .filter(|(_, f)| f.name() == name)
            .map(|(place, _)| place);
        match guess.or_else(|| found.next()) {
            Some(place) => places.push(place),
            None => missing.push(name.as_str()),
        }
    }
    if !missing.is_empty() {
        let known = |name: &String| parser.place(name).is_some();
        let unknown: Vec<String> = fields
            .iter()
            .map(|f| f.name().clone())
            .filter(|name| !known(name))
            .take(50)
            .collect();
        return Err(lacking("the table", &missing, &unknown));
    }
    let mut seen = vec![false; parser.columns().len()];
    for field in fields {
        let Some(at) = parser.place(field.name()) else {
            continue;
        };
        if std::mem::replace(&mut seen[at], true) {
            let cause = format!("the table has the column `{}` twice", field.name());
            return Err(Error::new(Code::BadRequest, cause).hint("Send each column once."));
        }
    }
    Ok(places)
}

// === impl Assembly ===

impl<'p> Assembly<'p> {
    fn new(parser: &'p RowParser, bounds: Bounds) -> Self {
        Self {
            parser,
            budget: Budget::new(bounds),
            columns: vec![vec![]; parser.columns().len()],
            rows: 0,
        }
    }

    /// Adds rows; `batch` has the parser's columns, in its order.
    fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.budget.rows(batch.num_rows() as u64)?;
        let columns = || self.parser.columns().iter().zip(batch.columns());
        for ((_, wanted), array) in columns() {
            self.budget.column(array, *wanted)?;
        }
        for (((name, wanted), array), chunks) in columns().zip(&mut self.columns) {
            chunks.push(fit(array, name, *wanted, self.rows as u64)?);
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    fn finish(self) -> Result<RecordBatch, Error> {
        let internal = |e| Error::internal("putting a table together", e);
        let mut arrays = Vec::with_capacity(self.columns.len());
        for ((_, data_type), mut chunks) in self.parser.columns().iter().zip(self.columns) {
            arrays.push(match chunks.len() {
                0 => new_empty_array(&arrow_type(*data_type)),
                1 => chunks.remove(0),
                _ => {
                    let chunks: Vec<_> = chunks.iter().map(AsRef::as_ref).collect();
                    arrow_select::concat::concat(&chunks).map_err(internal)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(self.parser.schema().clone(), arrays, &options)
            .map_err(internal)
    }
}

/// The column with the type asked for, copied only where it must be; `first` is the number of its
/// first row.
pub(crate) fn fit(
    array: &ArrayRef,
    name: &str,
    wanted: DataType,
    first: u64,
) -> Result<ArrayRef, Error> {
    if *array.data_type() == arrow_type(wanted) {
        return Ok(array.clone());
    }
    let Some(family) = Family::of(array) else {
        return Err(no_type(name, array.data_type(), wanted));
    };
    let exact: ArrayRef = match (wanted, family) {
        (DataType::Float, Family::Float(a)) => Arc::new(a),
        (DataType::Int, Family::Int(a)) => Arc::new(a),
        (DataType::Bool, Family::Bool(a)) => Arc::new(a),
        (DataType::Str | DataType::Category, Family::Text(a)) => Arc::new(a),
        (DataType::Timestamp, Family::Time(a)) => Arc::new(a),
        (DataType::Vector, Family::Vector(a)) => Arc::new(a),
        _ => return convert(array, name, wanted, first),
    };
    // A time beyond what microseconds hold is dropped by the cast.
    if exact.null_count() > array.logical_null_count() {
        let lost = (0..array.len()).find(|row| exact.is_null(*row) && array.is_valid(*row));
        let row = first + lost.unwrap_or(0) as u64;
        let cause = format!("row {row}: column `{name}` is out of range");
        return Err(Error::new(Code::BadRequest, cause)
            .hint("Send times that microseconds since 1970 in 64 bits can hold."));
    }
    Ok(exact)
}

fn no_type(name: &str, found: &arrow_schema::DataType, wanted: DataType) -> Error {
    let cause = format!("the column `{name}` has the type {found}");
    Error::new(Code::BadRequest, cause).hint(format!("Convert the column to {}.", named(wanted)))
}

#[cfg(test)]
mod tests;
