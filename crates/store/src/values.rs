//! Conversions between column values and domain types.

use jiff::Timestamp;
use luthier_types::{Error, Result};
use serde::{Serialize, de::DeserializeOwned};

/// JSON text of a document column.
///
/// # Errors
/// `Internal` when the value has no JSON form.
pub fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("writing a stored document", e))
}

/// Reads a document column.
///
/// # Errors
/// `Internal` when the stored text is not such a document.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::internal("reading a stored document", e))
}

/// The text of a unit enum as serde spells it, for a plain text column.
///
/// # Errors
/// `Internal` when the value is not written as a string.
pub fn to_word<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        Ok(_) => Err(Error::internal("writing a stored word", "not a word")),
        Err(e) => Err(Error::internal("writing a stored word", e)),
    }
}

/// Reads a unit enum, an id or a digest from a plain text column.
///
/// # Errors
/// `Internal` when the stored text is none.
pub fn from_word<T: DeserializeOwned>(word: &str) -> Result<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|e| Error::internal("reading a stored word", e))
}

/// Microseconds since the epoch.
pub fn to_micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// Reads a time column.
///
/// # Errors
/// `Internal` when the number is out of range.
pub fn from_micros(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|e| Error::internal("reading a stored time", e))
}
