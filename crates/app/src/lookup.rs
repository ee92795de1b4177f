//! Errors of look-ups, in the words the stock client's users know.

use luthier_types::{Code, Error};

/// Nothing of this kind has the identifier; `what` is a capitalised noun, for example `Project`.
pub fn not_found(what: &str) -> Error {
    Error::new(
        Code::NotFound,
        format!("{what} not found for the given identifier"),
    )
    .hint("Check the identifier; it may have been deleted.")
}

/// Something with this name is there already.
pub fn exists(what: &str) -> Error {
    Error::new(Code::Conflict, format!("{what} already exists"))
        .hint("Choose another name, or use the one there is.")
}
