//! How much a body may hold, added up before memory is taken for it.

use arrow_array::{Array, ArrayRef, OffsetSizeTrait, cast::AsArray as _};
use arrow_schema::DataType as Arrow;
use luthier_types::{Code, DataType, Error};

/// Most that a table may be once it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            rows: 10_000_000,
            bytes: 256 << 20,
        }
    }
}

/// Bytes that a value takes as text, at most, when it comes as a number, a boolean or a time.
const SHOWN: u64 = 32;

/// What is left of [`Bounds`]. Unpacking and converting are held against it one after the other,
/// for a body can swell in either.
pub(crate) struct Budget {
    bounds: Bounds,
    claimed: u64,
    rows: u64,
    unpacked: u64,
    converted: u64,
}

impl Budget {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            claimed: 0,
            rows: 0,
            unpacked: 0,
            converted: 0,
        }
    }

    /// Counts rows that have come.
    pub(crate) fn rows(&mut self, rows: u64) -> Result<(), Error> {
        self.rows = self.rows.saturating_add(rows);
        self.check_rows(self.rows)
    }

    fn check_rows(&self, rows: u64) -> Result<(), Error> {
        if rows > self.bounds.rows {
            let cause = format!("the table has more than {} rows", self.bounds.rows);
            return Err(Error::new(Code::TooLarge, cause).hint("Send fewer rows at a time."));
        }
        Ok(())
    }

    /// Counts rows that the body claims to have: those of a column of nothing take no bytes.
    pub(crate) fn claimed_rows(&mut self, rows: i64) -> Result<(), Error> {
        self.claimed = self.claimed.saturating_add(rows.unsigned_abs());
        self.check_rows(self.claimed)
    }

    /// Holds the words that a dictionary claims to have against the rows.
    pub(crate) fn words(&self, words: i64) -> Result<(), Error> {
        self.check_rows(words.unsigned_abs())
    }

    /// Counts bytes that the body is about to be unpacked to.
    pub(crate) fn unpacked(&mut self, bytes: u64) -> Result<(), Error> {
        self.unpacked = self.unpacked.saturating_add(bytes);
        self.check(self.unpacked)
    }

    /// Counts what `array` will take as a column of the type `wanted`.
    pub(crate) fn column(&mut self, array: &ArrayRef, wanted: DataType) -> Result<(), Error> {
        let rows = array.len() as u64;
        let bytes = match wanted {
            DataType::Float | DataType::Int | DataType::Timestamp => rows * 8,
            DataType::Bool => rows,
            DataType::Str | DataType::Category => text_bytes(array).saturating_add(rows * 4),
            DataType::Vector => items(array).saturating_mul(8).saturating_add(rows * 4),
        };
        self.converted = self.converted.saturating_add(bytes);
        self.check(self.converted)
    }

    fn check(&self, bytes: u64) -> Result<(), Error> {
        if bytes > self.bounds.bytes {
            let mib = self.bounds.bytes >> 20;
            let cause = format!("the table unpacks to more than {mib} MiB");
            return Err(Error::new(Code::TooLarge, cause).hint("Send fewer rows at a time."));
        }
        Ok(())
    }
}

/// Bytes of the column's values as text. A dictionary's words count as often as they stand.
fn text_bytes(array: &dyn Array) -> u64 {
    match array.data_type() {
        Arrow::Null => 0,
        Arrow::Dictionary(_, words) if words.is_null() => 0,
        Arrow::Dictionary(_, words) if words.is_string() => times_used(array, lengths),
        found if found.is_string() => total(array),
        _ => array.len() as u64 * SHOWN,
    }
}

/// Items of the column's lists together; of a list as text, no more than every second byte is one.
fn items(array: &dyn Array) -> u64 {
    match array.data_type() {
        Arrow::Dictionary(_, words) if words.is_list() => times_used(array, lengths),
        Arrow::Dictionary(_, words) if words.is_string() => times_used(array, lengths) / 2,
        found if found.is_list() => total(array),
        found if found.is_string() => total(array) / 2,
        _ => 0,
    }
}

/// What the texts or lists of `array` hold together.
fn total(array: &dyn Array) -> u64 {
    fn span<T: OffsetSizeTrait>(offsets: &[T]) -> u64 {
        let (first, last) = (offsets.first(), offsets.last());
        last.zip(first)
            .map_or(0, |(l, f)| (l.as_usize() - f.as_usize()) as u64)
    }
    match array.data_type() {
        Arrow::Utf8 => span(array.as_string::<i32>().value_offsets()),
        Arrow::LargeUtf8 => span(array.as_string::<i64>().value_offsets()),
        Arrow::List(_) => span(array.as_list::<i32>().value_offsets()),
        Arrow::LargeList(_) => span(array.as_list::<i64>().value_offsets()),
        _ => lengths(array).into_iter().sum(),
    }
}

/// What each text or list of `array` holds: bytes or items.
fn lengths(array: &dyn Array) -> Vec<u64> {
    fn steps<T: OffsetSizeTrait>(offsets: &[T]) -> Vec<u64> {
        let step = |pair: &[T]| (pair[1].as_usize() - pair[0].as_usize()) as u64;
        offsets.windows(2).map(step).collect()
    }
    match array.data_type() {
        Arrow::Utf8 => steps(array.as_string::<i32>().value_offsets()),
        Arrow::LargeUtf8 => steps(array.as_string::<i64>().value_offsets()),
        Arrow::Utf8View => array.as_string_view().lengths().map(u64::from).collect(),
        Arrow::List(_) => steps(array.as_list::<i32>().value_offsets()),
        Arrow::LargeList(_) => steps(array.as_list::<i64>().value_offsets()),
        Arrow::FixedSizeList(_, size) => vec![size.unsigned_abs().into(); array.len()],
        _ => vec![],
    }
}

/// Adds up, over the rows of a dictionary column, what `of` says of each word.
fn times_used(array: &dyn Array, of: impl FnOnce(&dyn Array) -> Vec<u64>) -> u64 {
    let dictionary = array.as_any_dictionary();
    let sizes = of(dictionary.values());
    if sizes.is_empty() {
        return 0;
    }
    let keys = dictionary.keys();
    let places = dictionary.normalized_keys();
    (0..array.len())
        .filter(|row| keys.is_valid(*row))
        .filter_map(|row| sizes.get(places[row]))
        .fold(0, |sum: u64, size| sum.saturating_add(*size))
}
