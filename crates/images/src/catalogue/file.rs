//! The format of `NAME.toml`: one file an image name, a `[[tag]]` for each tag of it.

use std::collections::BTreeMap;

use luthier_ports::{ImageInfo, ImageStatus, normalised};
use serde::{Deserialize, Serialize};

/// One image name and its tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// What stands before the `:` of its uris.
    pub(crate) name: String,
    /// Its tags.
    pub(crate) tag: Vec<Tag>,
}

/// One tag. The order of the fields is that of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tag {
    /// What stands behind the `:` of its uri.
    pub(crate) tag: String,
    /// Minor version of its Python: `3.9`.
    pub(crate) python: String,
    /// Day of the package index of which its lock is, `YYYY-MM-DD`.
    pub(crate) released: String,
    /// Day from which on its root file system may be made; a later one than another tag's makes
    /// another root file system, with Debian's updates since.
    pub(crate) debian_state: String,
    /// One line for people.
    pub(crate) summary: String,
    /// Its lock file in `locks/`.
    pub(crate) lock: String,
    /// Its top-level libraries, `name==version`.
    pub(crate) libraries: Vec<String>,
    /// In which versions the libraries may move in the next tag: `flask>=2.2.5,<2.3`. Those not
    /// named here stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) bounds: Vec<String>,
    /// What a library's own metadata forgets: `numpy<2 for pyarrow` binds numpy, in the lock and
    /// for a package's requirements, as long as nobody replaces pyarrow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keep: Vec<String>,
    /// Debian packages beyond those of every image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) debian: Vec<String>,
    /// Whether it serves only models that have a single version.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) single_version: bool,
    /// The image to use in its place; it is deprecated if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replaced_by: Option<String>,
    /// Python lines that must run in a container of it, beside importing every library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) check: Option<String>,
    /// Libraries without a wheel, and what each requires: told here, so that resolving runs none
    /// of their code. They are built in a container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) source: BTreeMap<String, Vec<String>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A rule of [`Tag::keep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep<'a> {
    /// What binds: `numpy<2`.
    pub(crate) constraint: &'a str,
    /// As long as this library is the image's.
    pub(crate) library: &'a str,
}

impl File {
    /// Reads a file and checks what can be checked of it alone.
    ///
    /// # Errors
    /// What is wrong, in words for whoever wrote it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        if file.name.is_empty() || !file.name.chars().all(plain) {
            return Err(format!(
                "`{}` is no image name: letters, digits and `-._/`",
                file.name
            ));
        }
        for (i, tag) in file.tag.iter().enumerate() {
            tag.check()
                .map_err(|wrong| format!("tag `{}`: {wrong}", tag.tag))?;
            if file.tag[..i].iter().any(|other| other.tag == tag.tag) {
                return Err(format!("tag `{}` is there twice", tag.tag));
            }
        }
        Ok(file)
    }
}

impl Tag {
    fn check(&self) -> Result<(), String> {
        let word = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if self.tag.is_empty() || !self.tag.chars().all(word) {
            return Err("a tag is of letters, digits and `-._`".to_owned());
        }
        if !supported(&self.python) {
            return Err(format!(
                "python `{}` is not a minor version from 3.9 on, such as 3.11",
                self.python
            ));
        }
        for day in [&self.released, &self.debian_state] {
            if !is_day(day) {
                return Err(format!("`{day}` is not a day as 2026-11-24"));
            }
        }
        if !self.lock.chars().all(word) || self.lock.starts_with('.') || self.lock.is_empty() {
            return Err(format!(
                "lock `{}` is not the name of a file in locks/",
                self.lock
            ));
        }
        for library in &self.libraries {
            let pinned = library.split_once("==").is_some_and(|(name, version)| {
                is_name(name) && !version.is_empty() && version.chars().all(|c| word(c) || c == '+')
            });
            if !pinned {
                return Err(format!("library `{library}` is not `name==version`"));
            }
        }
        for bound in &self.bounds {
            let name = bound.split(['<', '>', '=', '!', '~']).next().unwrap_or("");
            if self.pin(name).is_none() {
                return Err(format!("bound `{bound}` is of none of the libraries"));
            }
        }
        for keep in &self.keep {
            let known = keep
                .split_once(" for ")
                .is_some_and(|(_, library)| self.pin(library).is_some());
            if !known {
                return Err(format!(
                    "keep `{keep}` is not `constraint for library` with one of the libraries"
                ));
            }
        }
        for package in &self.debian {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            if !package.starts_with(|c: char| c.is_ascii_alphanumeric())
                || !package.chars().all(plain)
            {
                return Err(format!("`{package}` is no name of a Debian package"));
            }
        }
        for name in self.source.keys() {
            if !is_name(name) {
                return Err(format!("`{name}` is no name of a library"));
            }
        }
        Ok(())
    }

    /// The `name==version` of a library, whatever its spelling.
    pub(crate) fn pin(&self, name: &str) -> Option<&str> {
        let name = normalised(name.trim());
        self.libraries
            .iter()
            .find(|pin| {
                pin.split("==")
                    .next()
                    .is_some_and(|n| normalised(n) == name)
            })
            .map(String::as_str)
    }

    /// The rules of `keep`.
    pub(crate) fn keeps(&self) -> impl Iterator<Item = Keep<'_>> {
        self.keep.iter().filter_map(|keep| {
            let (constraint, library) = keep.split_once(" for ")?;
            Some(Keep {
                constraint: constraint.trim(),
                library: library.trim(),
            })
        })
    }

    /// What the rest of the system knows of it.
    pub(crate) fn info(&self, name: &str) -> ImageInfo {
        ImageInfo {
            uri: format!("{name}:{}", self.tag),
            python: self.python.clone(),
            summary: self.summary.clone(),
            libraries: self.libraries.clone(),
            debian: self.debian.clone(),
            released: self.released.clone(),
            status: match &self.replaced_by {
                None => ImageStatus::Current,
                Some(uri) => ImageStatus::Deprecated {
                    replaced_by: uri.clone(),
                },
            },
            single_version: self.single_version,
        }
    }
}

/// Whether the runner can be loaded by this minor version of Python.
fn supported(python: &str) -> bool {
    python
        .strip_prefix("3.")
        .and_then(|minor| minor.parse::<u32>().ok())
        .is_some_and(|minor| minor >= 9 && python == format!("3.{minor}"))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

/// Whether a text is `YYYY-MM-DD`.
fn is_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let digits = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit())
    };
    matches!(parts.as_slice(), [y, m, d] if digits(y, 4) && digits(m, 2) && digits(d, 2))
}
