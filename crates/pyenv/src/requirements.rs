//! A package's `requirements.txt`: what it names, and what is refused.
//!
//! The file is a stranger's. The installer would follow `-r` and paths into the server's own files,
//! and put the server's environment variables where the file says `${NAME}`; so only requirements
//! from the index and wheels by `https` address are let through.

use std::collections::BTreeSet;

use luthier_ports::normalised;
use luthier_types::{Code, Error, Result, logical_lines};

/// A checked requirements file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requirements {
    /// The requirements, one per line, without comments.
    pub(crate) lines: Vec<String>,
    /// What they name, normalised.
    pub(crate) names: BTreeSet<String>,
}

impl Requirements {
    /// Checks a file's text.
    ///
    /// # Errors
    /// `RequirementsError` naming the line that is refused and why.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parsed = Self::default();
        for (number, line) in logical_lines(text) {
            let refused = |why: String, hint: &str| {
                Error::new(
                    Code::RequirementsError,
                    format!("line {number} of requirements.txt is refused: {why}"),
                )
                .hint(hint)
            };
            if line.starts_with('-') {
                let option = line.split([' ', '=']).next().unwrap_or_default();
                return Err(refused(
                    format!("it is an option, `{option}`"),
                    "Leave only requirements in the file, one per line. Where packages come from \
                     is a setting of the server (UV_DEFAULT_INDEX, UV_INDEX).",
                ));
            }
            if line.contains("${") {
                return Err(refused(
                    "it refers to an environment variable".to_owned(),
                    "Write the value itself.",
                ));
            }
            if line.contains('\\') || line.chars().any(|c| c.is_control() && c != '\t') {
                return Err(refused(
                    "it holds a backslash or a control character".to_owned(),
                    "Write plain requirements, one per line.",
                ));
            }
            let name = name(&line).ok_or_else(|| {
                refused(
                    format!("`{}` is no requirement", line.escape_debug()),
                    "Write `name==version`, or `name @ https://…` for a wheel by its address.",
                )
            })?;
            let rest = line[name.len()..].trim_start();
            check_address(rest).map_err(|(why, hint)| refused(why, hint))?;
            parsed.names.insert(normalised(name));
            parsed.lines.push(line);
        }
        Ok(parsed)
    }
}

/// The name a requirement starts with (PEP 508), if what follows can follow a name.
fn name(line: &str) -> Option<&str> {
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
        .unwrap_or(line.len());
    let name = &line[..end];
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !edge(name.chars().next()) || !edge(name.chars().next_back()) {
        return None;
    }
    // The installer takes such a name for a file beside it.
    let archive = [".whl", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".tar"]
        .iter()
        .any(|suffix| name.to_ascii_lowercase().ends_with(suffix));
    if archive {
        return None;
    }
    match line[end..].trim_start().chars().next() {
        None => Some(name),
        Some(c) if "[=<>!~;@(".contains(c) => Some(name),
        Some(_) => None,
    }
}

/// Checks the part of a requirement after its name: an address, if there is one, is a wheel's by
/// `https`, without credentials; no options but hashes.
fn check_address(rest: &str) -> std::result::Result<(), (String, &'static str)> {
    if let Some(option) = rest
        .split_whitespace()
        .find(|word| word.starts_with('-') && !word.starts_with("--hash"))
    {
        return Err((
            format!("it has an option, `{}`", option.escape_debug()),
            "Leave only the requirement itself.",
        ));
    }
    let misplaced = || {
        (
            "it is no requirement".to_owned(),
            "Write `name==version`, or `name @ https://…` for a wheel by its address.",
        )
    };
    let after_extras = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or_else(misplaced)?.1,
        None => rest,
    };
    let Some(address) = after_extras.trim_start().strip_prefix('@') else {
        return if after_extras.contains('@') {
            Err(misplaced())
        } else {
            Ok(())
        };
    };
    let Some(place) = address.trim_start().strip_prefix("https://") else {
        return Err((
            "its address does not start with `https://`".to_owned(),
            "Name a version from the package index, or a wheel by its https address.",
        ));
    };
    let authority = place.split(['/', '?', '#', ' ']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err((
            "its address holds credentials".to_owned(),
            "Credentials belong in the server's settings (UV_INDEX_<NAME>_PASSWORD), not in a \
             package.",
        ));
    }
    let path = place.split(['?', '#', ' ', ';']).next().unwrap_or_default();
    if !path.ends_with(".whl") {
        return Err((
            "its address is not that of a wheel".to_owned(),
            "Name a version from the package index, or a wheel (`….whl`) by its https address.",
        ));
    }
    Ok(())
}

/// The normalised name of a pin such as `scikit_learn==1.0.2`.
pub(crate) fn pin_name(pin: &str) -> String {
    let end = pin
        .find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
        .unwrap_or(pin.len());
    normalised(&pin[..end])
}

#[cfg(test)]
mod tests;
