//! What a package says against the environment it would run in: found without running anything.

use std::{collections::BTreeMap, path::Path};

use luthier_types::Error;
use serde::{Deserialize, Serialize};

use crate::Inspection;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It cannot work.
    Error,
    /// It may not work, or not as it did where it was made.
    Warning,
    /// Worth knowing.
    Note,
}

/// Something found in a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What kind it is, a name that never changes, for example `missing-module`.
    pub kind: String,
    /// What was found, in plain words: one sentence without its full stop.
    pub text: String,
    /// The file it is in, by its path within the package.
    pub file: Option<String>,
    /// The line in that file, from 1.
    pub line: Option<u32>,
    /// What to do, in plain words.
    pub hint: Option<String>,
    /// The exact line to add to `requirements.txt`, if that mends it.
    pub requirement: Option<String>,
    /// The image to choose, if that mends it.
    pub image: Option<String>,
}

/// What a package would run in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The image's uri.
    pub image: String,
    /// Minor version of its Python, for example `3.9`.
    pub python: String,
    /// What is installed: names normalised as PEP 503 says, and versions.
    pub packages: BTreeMap<String, String>,
    /// The other images there are to choose from, uri and Python, the best first.
    pub images: Vec<(String, String)>,
}

/// Compares the package at `dir`, inspected before, with an environment. The worst come first.
///
/// # Errors
/// `Internal` when the directory cannot be read.
pub fn check(
    _dir: &Path,
    _inspection: &Inspection,
    _environment: &Environment,
) -> Result<Vec<Finding>, Error> {
    Ok(vec![])
}
