//! What a package says against the environment it would run in: found without running anything.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

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
    /// What was found, in plain words: what the file does, without naming it and without a full
    /// stop. The finding itself displays as the whole sentence.
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

// === impl Finding ===

impl Finding {
    /// What to do beside adding the line or choosing the image; `None` when the hint says no more than
    /// that.
    pub fn further(&self) -> Option<&str> {
        let only_line = self.requirement.is_some() && self.image.is_none();
        let hint = self.hint.as_deref();
        hint.filter(|hint| !(only_line && hint.starts_with("Add the line")))
    }

    pub(crate) fn new(level: Level, kind: &str, text: impl Into<String>) -> Self {
        Self {
            level,
            kind: kind.to_owned(),
            text: text.into(),
            file: None,
            line: None,
            hint: None,
            requirement: None,
            image: None,
        }
    }

    pub(crate) fn at(mut self, file: &str, line: Option<u32>) -> Self {
        self.file = Some(file.to_owned());
        self.line = line;
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn requirement(mut self, line: impl Into<String>) -> Self {
        self.requirement = Some(line.into());
        self
    }
}

/// The place and what was found, for example `package.py:2 imports cv2, which is not in the
/// environment`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line} {}", self.text),
            (Some(file), None) => write!(f, "{file} {}", self.text),
            (None, _) => f.write_str(&self.text),
        }
    }
}
