//! The rule for names of projects and models.

use crate::{Code, Error};

/// Checks the name of a `what` (for example `project`): 1 to 128 letters, digits, `_` or `-`.
///
/// # Errors
/// [`Code::BadRequest`] saying which character or length is wrong.
pub fn check_name(what: &str, name: &str) -> Result<(), Error> {
    const MAX: usize = 128;
    let bad = |cause: String| {
        Err(Error::new(Code::BadRequest, cause).hint(format!(
            "Use 1 to {MAX} letters, digits, underscores or hyphens."
        )))
    };
    if name.is_empty() {
        return bad(format!("the {what} name is empty"));
    }
    if name.len() > MAX {
        return bad(format!(
            "the {what} name has {} bytes, more than {MAX}",
            name.len()
        ));
    }
    match name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
    {
        Some(c) => bad(format!("the {what} name `{name}` contains {c:?}")),
        None => Ok(()),
    }
}
