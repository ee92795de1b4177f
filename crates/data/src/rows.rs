//! JSON rows in: straight from text into columns, without a value per cell.

use std::{collections::HashMap, fmt};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use luthier_types::{Code, Column, DataType, Error};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::{arrow_schema, cell::Cell, cells::Cells, schema::named};

/// What to do with a row that lacks a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The row is refused.
    Reject,
    /// The column has no value in that row.
    Null,
}

/// Reads JSON rows into tables with fixed columns. Make one per model and keep it.
#[derive(Clone, Debug)]
pub struct RowParser {
    schema: SchemaRef,
    columns: Vec<(String, DataType)>,
    places: HashMap<String, usize>,
    missing: Missing,
}

/// Turns rows into a table with exactly `columns`; other keys are ignored. See
/// [`RowParser::parse`] for which values fit.
///
/// # Errors
/// As [`RowParser::parse`].
pub fn rows_to_batch(
    rows: &[Map<String, Value>],
    columns: &[&Column],
    missing: Missing,
) -> Result<RecordBatch, Error> {
    RowParser::new(columns, missing).maps(rows)
}

// === impl RowParser ===

impl RowParser {
    /// A parser for tables of `columns`, in their order.
    pub fn new(columns: &[&Column], missing: Missing) -> Self {
        Self {
            schema: arrow_schema(columns),
            columns: columns
                .iter()
                .map(|c| (c.name.clone(), c.data_type))
                .collect(),
            places: columns
                .iter()
                .enumerate()
                .map(|(i, c)| (c.name.clone(), i))
                .collect(),
            missing,
        }
    }

    /// The schema of the tables.
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns of the tables.
    pub(crate) fn columns(&self) -> &[(String, DataType)] {
        &self.columns
    }

    /// Where a column is.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Reads the text of a JSON array of objects. Keys that are no column are ignored. `null` and
    /// NaN are no value. Integers fit floats, whole floats fit integers, 0 and 1 fit booleans,
    /// numbers and booleans fit text, and text fits what it reads as.
    ///
    /// # Errors
    /// [`Code::BadRequest`] naming the row (from 0), the column, the value and what was expected;
    /// or the columns a row lacks, with [`Missing::Reject`]; or where the JSON is malformed.
    pub fn parse(&self, json: &str) -> Result<RecordBatch, Error> {
        let mut table = self.table();
        let mut reader = serde_json::Deserializer::from_str(json);
        let read = (&mut table)
            .deserialize(&mut reader)
            .and_then(|()| reader.end());
        table.finish_read(read)
    }

    /// An empty table, for rows that are part of a larger text. As a seed it reads an array of rows,
    /// as [`RowParser::parse`] does.
    pub fn table(&self) -> RowTable<'_> {
        RowTable::new(self, 8)
    }

    /// As [`RowParser::parse`], for rows already read.
    ///
    /// # Errors
    /// As [`RowParser::parse`].
    pub fn maps(&self, rows: &[Map<String, Value>]) -> Result<RecordBatch, Error> {
        let mut table = RowTable::new(self, rows.len());
        let read = rows
            .iter()
            .try_for_each(|row| Row(&mut table).deserialize(row));
        table.finish_read(read)
    }

    /// As [`RowParser::parse`], for rows already read, which may turn out not to be objects.
    ///
    /// # Errors
    /// As [`RowParser::parse`].
    pub fn values(&self, rows: &[Value]) -> Result<RecordBatch, Error> {
        let mut table = RowTable::new(self, rows.len());
        let read = rows
            .iter()
            .try_for_each(|row| Row(&mut table).deserialize(row));
        table.finish_read(read)
    }
}

/// A table being filled with JSON rows.
pub struct RowTable<'p> {
    parser: &'p RowParser,
    cells: Vec<Cells>,
    /// For each column, the number of rows it is filled for.
    filled: Vec<usize>,
    rows: usize,
    /// The failure in our words, where serde would only carry text.
    error: Option<Error>,
}

// === impl RowTable ===

impl<'p> RowTable<'p> {
    fn new(parser: &'p RowParser, rows: usize) -> Self {
        Self {
            parser,
            cells: parser
                .columns
                .iter()
                .map(|(_, t)| Cells::new(*t, rows))
                .collect(),
            filled: vec![0; parser.columns.len()],
            rows: 0,
            error: None,
        }
    }

    /// Where the column called `key` is; `guess` is tried first, as rows mostly keep one order.
    fn place(&self, key: &str, guess: usize) -> Option<usize> {
        match self.parser.columns.get(guess) {
            Some((name, _)) if name == key => Some(guess),
            _ => self.parser.places.get(key).copied(),
        }
    }

    fn fail<E: serde::de::Error>(&mut self, error: Error) -> E {
        let text = E::custom(error.message());
        self.error = Some(error);
        text
    }

    fn unfit<E: serde::de::Error>(&mut self, place: usize, value: impl fmt::Display) -> E {
        let (name, data_type) = &self.parser.columns[place];
        let error = Error::new(
            Code::BadRequest,
            format!(
                "row {}: column `{name}` is {value}, but {} is needed",
                self.rows,
                named(*data_type)
            ),
        )
        .hint("Send a value of the column's type, or null for a missing one.");
        self.fail(error)
    }

    fn end_row<E: serde::de::Error>(&mut self, unknown: &[String]) -> Result<(), E> {
        if self.filled.contains(&self.rows) {
            if self.parser.missing == Missing::Reject {
                return Err(self.lacking(unknown));
            }
            for (cells, filled) in self.cells.iter_mut().zip(&mut self.filled) {
                if *filled == self.rows {
                    cells.null();
                    *filled += 1;
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn lacking<E: serde::de::Error>(&mut self, unknown: &[String]) -> E {
        let names: Vec<&str> = self
            .parser
            .columns
            .iter()
            .zip(&self.filled)
            .filter(|(_, n)| **n == self.rows)
            .map(|((name, _), _)| name.as_str())
            .collect();
        let error = lacking(&format!("row {}", self.rows), &names, unknown);
        self.fail(error)
    }

    /// Why it did not take the rows, unless what was read was no JSON or no array of objects.
    pub fn refusal(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// The table.
    ///
    /// # Errors
    /// `Internal` when it was left in the midst of a row.
    pub fn finish(mut self) -> Result<RecordBatch, Error> {
        let arrays = self.cells.iter_mut().map(Cells::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(self.parser.schema.clone(), arrays, &options)
            .map_err(|e| Error::internal("making a table of rows", e))
    }

    fn finish_read(mut self, read: Result<(), serde_json::Error>) -> Result<RecordBatch, Error> {
        match read {
            Ok(()) => self.finish(),
            Err(e) => Err(self.refusal().unwrap_or_else(|| {
                let cause = format!("the rows are not valid JSON: {e}");
                Error::new(Code::BadRequest, cause)
                    .hint("Send an array of objects, one per row, with columns by name.")
            })),
        }
    }
}

/// The error for a row or a table (`what`) without some columns; `unknown` are those it has and that
/// are none of the model's.
pub(crate) fn lacking(what: &str, names: &[&str], unknown: &[String]) -> Error {
    const SHOWN: usize = 20;
    let list = |names: &[String]| {
        let more = names.len().saturating_sub(SHOWN);
        let mut text = names
            .iter()
            .take(SHOWN)
            .map(|n| format!("`{n}`"))
            .collect::<Vec<_>>()
            .join(", ");
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        text
    };
    let owned: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut hint = String::new();
    let fold = |s: &str| s.to_lowercase().replace(['-', ' ', '.'], "_");
    for name in names.iter().take(SHOWN) {
        if let Some(near) = unknown.iter().find(|u| fold(u) == fold(name)) {
            hint.push_str(&format!("`{near}` was sent where `{name}` is meant. "));
        }
    }
    if !unknown.is_empty() {
        hint.push_str(&format!("Sent and not known: {}. ", list(unknown)));
    }
    hint.push_str("Send every input of the model in every row; null stands for a missing value.");
    let plural = if names.len() == 1 {
        "column"
    } else {
        "columns"
    };
    Error::new(
        Code::BadRequest,
        format!("{what} lacks the {plural} {}", list(&owned)),
    )
    .hint(hint)
}

impl<'de> DeserializeSeed<'de> for &mut RowTable<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut RowTable<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows.next_element_seed(Row(&mut *self))?.is_some() {}
        Ok(())
    }
}

/// Reads one row.
struct Row<'t, 'p>(&'t mut RowTable<'p>);

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with columns by name as row {}", self.0.rows)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        // Unknown keys are kept for the message only, and only as many as it shows.
        const KEPT: usize = 50;
        let table = self.0;
        let (mut guess, mut unknown) = (0, vec![]);
        loop {
            let key = Key {
                table,
                guess,
                unknown: (unknown.len() < KEPT).then_some(&mut unknown),
            };
            let Some(key) = row.next_key_seed(key)? else {
                break;
            };
            match key {
                Some(place) => {
                    if table.filled[place] > table.rows {
                        let name = &table.parser.columns[place].0;
                        let text = format!("row {} gives the column `{name}` twice", table.rows);
                        return Err(table.fail(Error::new(Code::BadRequest, text)));
                    }
                    let mut unfit = None;
                    let cell = Cell {
                        cells: &mut table.cells[place],
                        unfit: &mut unfit,
                    };
                    row.next_value_seed(cell).map_err(|e| match unfit {
                        Some(shown) => table.unfit(place, shown),
                        None => e,
                    })?;
                    table.filled[place] += 1;
                    guess = place + 1;
                }
                None => {
                    row.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        table.end_row(&unknown)
    }
}

/// Reads a key and finds its column.
struct Key<'t, 'p> {
    table: &'t RowTable<'p>,
    guess: usize,
    unknown: Option<&'t mut Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let place = self.table.place(key, self.guess);
        if let (None, Some(unknown)) = (place, self.unknown) {
            unknown.push(key.to_owned());
        }
        Ok(place)
    }
}

#[cfg(test)]
pub(crate) mod tests;
