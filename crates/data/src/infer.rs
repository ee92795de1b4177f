//! The model factory: a schema from the data itself.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
};

use arrow_array::{Array, ArrayRef};
use luthier_types::{Code, Column, DataType, Error, ModelSchema, ModelSpec};

use crate::{
    cells::{is_null_text, numbers},
    family::Family,
    source::Source,
    time::parse_timestamp,
};

/// What a caller may ask of [`infer_schema`]. Values out of range are brought into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferOptions {
    /// Most different texts of a category column, 1 to 100 000; a column with more is plain text.
    pub max_cardinality: usize,
    /// Rows to look at, 10 000 to 100 000. A wish only: the whole file is always read, in bounded
    /// memory, because a type seen in the first rows only would make later rows unpublishable.
    pub sample_size: usize,
}

impl Default for InferOptions {
    fn default() -> Self {
        Self {
            max_cardinality: 1000,
            sample_size: 10_000,
        }
    }
}

impl InferOptions {
    /// The options with every figure brought into its range.
    #[must_use]
    pub fn clamped(self) -> Self {
        Self {
            max_cardinality: self.max_cardinality.clamp(1, 100_000),
            sample_size: self.sample_size.clamp(10_000, 100_000),
        }
    }
}

/// The schema of a CSV or Parquet file, whose columns may all have been turned to text. The spec
/// is `spec`, or empty.
///
/// Numeric columns get their range and eleven edges of ten equal bins, category columns their
/// sorted categories, vector columns their dimensions. A column's id is its name in lower case.
///
/// # Errors
/// [`Code::BadRequest`] when the file is not a table, has no rows, or has columns without a name
/// or with the same; [`Code::Internal`] when it cannot be read.
pub fn infer_schema(
    path: &Path,
    options: InferOptions,
    spec: Option<&ModelSpec>,
) -> Result<(ModelSchema, ModelSpec), Error> {
    let options = options.clamped();
    let source = Source::open(path, |_| true)?;
    check_names(&source.columns)?;
    let mut guesses: Vec<Guess> = source
        .columns
        .iter()
        .map(|_| Guess::new(options.max_cardinality))
        .collect();
    let mut rows = 0;
    for batch in source.batches {
        let batch = batch?;
        rows += batch.num_rows();
        for (guess, array) in guesses.iter_mut().zip(batch.columns()) {
            guess.see(array);
        }
    }
    if rows == 0 {
        return Err(Error::new(Code::BadRequest, "the data file has no rows")
            .hint("Send at least one row, so that the types of the columns can be seen."));
    }
    let columns = source
        .columns
        .into_iter()
        .zip(guesses)
        .map(|(n, g)| g.column(n))
        .collect();
    Ok((
        ModelSchema {
            schema_version: 1,
            columns,
        },
        spec.cloned().unwrap_or_default(),
    ))
}

/// Edges of ten equal bins from `min` to `max`: eleven ascending numbers. A range of no width is
/// widened by one half on each side.
pub fn bin_edges(min: f64, max: f64) -> Vec<f64> {
    let (low, high) = if min < max {
        (min, max)
    } else {
        (min - 0.5, max + 0.5)
    };
    (0..=10)
        .map(|i| match i {
            10 => high,
            _ => {
                let share = f64::from(i) / 10.0;
                low * (1.0 - share) + high * share
            }
        })
        .collect()
}

fn check_names(columns: &[String]) -> Result<(), Error> {
    let hint = "Name every column once. A CSV file written by pandas has an unnamed index column unless it is written with index=False.";
    let mut seen = HashSet::new();
    for (i, name) in columns.iter().enumerate() {
        let cause = if name.trim().is_empty() {
            format!("column {i} of the file has no name")
        } else if !seen.insert(name) {
            format!("the file has the column `{name}` twice")
        } else {
            continue;
        };
        return Err(Error::new(Code::BadRequest, cause).hint(hint));
    }
    Ok(())
}

/// What was seen of a column so far.
struct Guess {
    values: usize,
    /// Whether a missing value was written as NaN, as floats are.
    nans: bool,
    ints: usize,
    floats: usize,
    bools: usize,
    times: usize,
    vectors: usize,
    dimensions: Option<usize>,
    same_dimensions: bool,
    min: f64,
    max: f64,
    /// The different texts, until there are too many for a category.
    texts: Option<BTreeSet<String>>,
    max_cardinality: usize,
}

// === impl Guess ===

impl Guess {
    fn new(max_cardinality: usize) -> Self {
        Self {
            values: 0,
            nans: false,
            ints: 0,
            floats: 0,
            bools: 0,
            times: 0,
            vectors: 0,
            dimensions: None,
            same_dimensions: true,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            texts: Some(BTreeSet::new()),
            max_cardinality,
        }
    }

    fn see(&mut self, array: &ArrayRef) {
        match Family::lenient(array) {
            Family::Float(a) => a.iter().flatten().for_each(|v| self.float(v)),
            Family::Int(a) => a.iter().flatten().for_each(|v| self.int(v as f64)),
            Family::Unsigned(a) => a.iter().flatten().for_each(|v| {
                if v > i64::MAX as u64 {
                    self.float(v as f64)
                } else {
                    self.int(v as f64)
                }
            }),
            Family::Bool(a) => {
                let seen = a.len() - a.null_count();
                self.values += seen;
                self.bools += seen;
            }
            Family::Time(a) => {
                let seen = a.len() - a.null_count();
                self.values += seen;
                self.times += seen;
            }
            Family::Text(a) => a.iter().flatten().for_each(|v| self.text(v)),
            Family::Vector(a) => {
                (0..a.len()).filter(|i| !a.is_null(*i)).for_each(|i| {
                    self.values += 1;
                    self.vector(a.value_length(i) as usize);
                });
            }
            Family::Nothing(_) => {}
        }
    }

    fn float(&mut self, value: f64) {
        if value.is_nan() {
            self.nans = true;
            return;
        }
        self.values += 1;
        self.floats += 1;
        self.range(value);
    }

    fn int(&mut self, value: f64) {
        self.values += 1;
        self.ints += 1;
        self.range(value);
    }

    fn range(&mut self, value: f64) {
        if value.is_finite() {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
    }

    fn vector(&mut self, dimensions: usize) {
        self.vectors += 1;
        self.same_dimensions &= *self.dimensions.get_or_insert(dimensions) == dimensions;
    }

    fn text(&mut self, text: &str) {
        let value = text.trim();
        if is_null_text(value) {
            self.nans |= value.eq_ignore_ascii_case("nan");
            return;
        }
        let before = self.values;
        let coded = is_code(value);
        if !coded && let Ok(int) = value.parse::<i64>() {
            self.int(int as f64);
        } else if !coded && let Ok(float) = value.parse::<f64>() {
            self.float(float);
        } else if matches!(
            value,
            "True" | "False" | "true" | "false" | "TRUE" | "FALSE"
        ) {
            self.bools += 1;
        } else if is_date(value) {
            self.times += 1;
        } else if value.starts_with('[')
            && let Some(vector) = numbers(value)
        {
            self.vector(vector.len());
        }
        self.values = before + 1;
        if let Some(texts) = &mut self.texts
            && !texts.contains(text)
        {
            texts.insert(text.to_owned());
            if texts.len() > self.max_cardinality {
                self.texts = None;
            }
        }
    }

    fn data_type(&self) -> DataType {
        match self.values {
            0 if self.nans => DataType::Float,
            0 => DataType::Str,
            n if n == self.ints => DataType::Int,
            n if n == self.ints + self.floats && self.min.is_finite() => DataType::Float,
            n if n == self.bools => DataType::Bool,
            n if n == self.times => DataType::Timestamp,
            n if n == self.vectors && self.same_dimensions && self.dimensions > Some(0) => {
                DataType::Vector
            }
            n => match &self.texts {
                Some(texts) if repeats(texts.len(), n) => DataType::Category,
                _ => DataType::Str,
            },
        }
    }

    fn column(self, name: String) -> Column {
        let data_type = self.data_type();
        let numeric = matches!(data_type, DataType::Float | DataType::Int) && self.min <= self.max;
        Column {
            id: Some(name.to_lowercase()),
            name,
            data_type,
            min: numeric.then_some(self.min),
            max: numeric.then_some(self.max),
            categories: (data_type == DataType::Category)
                .then(|| self.texts.into_iter().flatten().map(Into::into).collect()),
            bins: numeric.then(|| bin_edges(self.min, self.max)),
            replace_with_nulls: None,
            n_dimensions: (data_type == DataType::Vector)
                .then(|| u32::try_from(self.dimensions.unwrap_or(0)).unwrap_or(u32::MAX)),
        }
    }
}

/// Whether `different` texts among `values` repeat enough to be a closed list rather than names or
/// prose. In a handful of rows a single repetition is enough.
fn repeats(different: usize, values: usize) -> bool {
    if values <= 20 {
        different < values
    } else {
        different <= values / 2
    }
}

/// Whether digits have a leading zero: a postal code or the like, which no number type would keep.
fn is_code(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).as_bytes();
    digits.len() > 1 && digits[0] == b'0' && digits.iter().all(u8::is_ascii_digit)
}

/// Whether the text is a date: four digits and a hyphen, and then what [`parse_timestamp`] reads.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && parse_timestamp(text).is_some()
}

#[cfg(test)]
mod tests;
