//! Text in many rows as its words, each once, and which of them every cell is.
//!
//! To make a Python string costs several times what it costs to see that it is one that was made
//! already, and can only be done with the GIL. So of a table with many rows every word becomes one
//! string, and numpy puts them in their places.

use std::collections::HashMap;

use arrow_array::{Array, ArrayRef, cast::AsArray as _};
use arrow_schema::DataType as Arrow;
use foldhash::fast::RandomState;

use crate::decode::is_text;

/// Rows from which on this pays.
const MANY_ROWS: usize = 64;
/// Words of a column from which on it is asked whether words repeat at all.
const MANY_WORDS: usize = 1024;

/// The words of the columns that become objects. Place 0 stands for no value.
#[derive(Default)]
pub(crate) struct Words {
    text: String,
    ends: Vec<usize>,
    /// Little-endian int64 for each cell, column after column.
    pub(crate) places: Vec<u8>,
}

/// The words of one column that are known; `None` when they do not repeat.
type Known<'a> = Option<Places<'a>>;

/// The places of a column's words.
#[derive(Default)]
struct Places<'a> {
    all: HashMap<&'a str, i64, RandomState>,
    recent: Recent,
}

/// Short words seen lately, with their places. Most columns have few words, and short ones, which
/// are compared as numbers.
struct Recent([(u64, usize, i64); Recent::SLOTS]);

impl Words {
    /// The words of `columns` with `rows` rows; `None` where they are few or not text.
    pub(crate) fn of(columns: &[Vec<ArrayRef>], rows: usize) -> Option<Self> {
        let mut chunks = columns.iter().flatten();
        if rows < MANY_ROWS || columns.is_empty() || !chunks.all(|c| is_text(c.data_type())) {
            return None;
        }
        let mut words = Self::default();
        words.places.reserve(columns.len() * rows * 8);
        for column in columns {
            let mut known: Known<'_> = Some(Places::default());
            for chunk in column {
                words.chunk(&**chunk, &mut known);
            }
        }
        Some(words)
    }

    /// The words in the order of their places, from 1 on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.text[start..*end])
    }

    fn chunk<'a>(&mut self, array: &'a dyn Array, known: &mut Known<'a>) {
        match array.data_type() {
            Arrow::Utf8 => self.cells(array.as_string::<i32>().iter(), known),
            Arrow::LargeUtf8 => self.cells(array.as_string::<i64>().iter(), known),
            Arrow::Utf8View => self.cells(array.as_string_view().iter(), known),
            Arrow::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                let before = self.places.len();
                self.chunk(&**dictionary.values(), known);
                let values = self.places.split_off(before);
                let (values, _) = values.as_chunks::<8>();
                let keys = dictionary.keys();
                let places = match values.is_empty() {
                    true => vec![0; keys.len()],
                    false => dictionary.normalized_keys(),
                };
                for (at, place) in places.into_iter().enumerate() {
                    let word = values.get(place).filter(|_| !keys.is_null(at));
                    self.places.extend(word.copied().unwrap_or_default());
                }
            }
            _ => self.cells(std::iter::repeat_n(None, array.len()), known),
        }
    }

    fn cells<'a>(&mut self, cells: impl Iterator<Item = Option<&'a str>>, known: &mut Known<'a>) {
        for (at, cell) in cells.enumerate() {
            let place = match (cell, &mut *known) {
                (None, _) => 0,
                (Some(word), Some(places)) => match places.find(word) {
                    Some(place) => place,
                    None => {
                        let place = self.add(word);
                        places.all.insert(word, place);
                        if places.all.len() >= MANY_WORDS && places.all.len() > at / 2 {
                            *known = None;
                        }
                        place
                    }
                },
                (Some(word), None) => self.add(word),
            };
            self.places.extend_from_slice(&place.to_le_bytes());
        }
    }

    fn add(&mut self, word: &str) -> i64 {
        self.text.push_str(word);
        self.ends.push(self.text.len());
        self.ends.len() as i64
    }
}

// === impl Places ===

impl<'a> Places<'a> {
    fn find(&mut self, word: &'a str) -> Option<i64> {
        let Some((number, slot)) = Recent::number(word) else {
            return self.all.get(word).copied();
        };
        let recent = &mut self.recent.0[slot];
        if (recent.0, recent.1) == (number, word.len()) {
            return Some(recent.2);
        }
        let place = *self.all.get(word)?;
        *recent = (number, word.len(), place);
        Some(place)
    }
}

// === impl Recent ===

impl Recent {
    const SLOTS: usize = 64;

    /// The bytes of a word of one to eight as a number, which is its own among those of its length;
    /// and its slot.
    fn number(word: &str) -> Option<(u64, usize)> {
        let bytes = word.as_bytes();
        let number = match bytes {
            [a] => u64::from(*a),
            [a, b] => u64::from(u16::from_le_bytes([*a, *b])),
            [a, b, c] => u64::from(u32::from_le_bytes([*a, *b, *c, 0])),
            // The first four bytes and the last four, which may be partly the same ones.
            [_, _, _, _, ..] if bytes.len() <= 8 => {
                let (first, last) = (bytes.first_chunk()?, bytes.last_chunk()?);
                u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
            }
            _ => return None,
        };
        // Fibonacci hashing (Knuth, The Art of Computer Programming 3, section 6.4).
        let slot = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
        Some((number, slot as usize))
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self([(0, 0, 0); Self::SLOTS])
    }
}
