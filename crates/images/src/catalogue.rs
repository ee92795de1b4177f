//! The catalogue and its lock files, which lie in `images/` of the repository and inside the binary.

use luthier_ports::{ImageInfo, ImageStatus};
use luthier_types::{Code, Error, Result};
use serde::Deserialize;

const CATALOGUE: &str = include_str!("../../../images/catalogue.toml");
const LIBRARIES: &str = include_str!("../../../images/libraries.in");
/// Each lock file, by its name in the catalogue.
const LOCKS: &[(&str, &str)] = &[
    (
        "python-39.lock",
        include_str!("../../../images/python-39.lock"),
    ),
    (
        "python-310.lock",
        include_str!("../../../images/python-310.lock"),
    ),
    (
        "python-311.lock",
        include_str!("../../../images/python-311.lock"),
    ),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    image: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    uri: String,
    lock: String,
    python: String,
    released: String,
    summary: String,
}

/// An image and its lock.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) info: ImageInfo,
    pub(crate) lock: &'static str,
}

/// Reads the catalogue.
///
/// # Errors
/// `Internal` when the file inside the binary is wrong, which a test rules out.
pub(crate) fn read() -> Result<Vec<Entry>> {
    let file: File =
        toml::from_str(CATALOGUE).map_err(|e| Error::internal("reading the catalogue", e))?;
    let libraries: Vec<String> = LIBRARIES
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    file.image
        .into_iter()
        .map(|row| {
            let lock = LOCKS
                .iter()
                .find(|(name, _)| *name == row.lock)
                .map(|(_, text)| *text)
                .ok_or_else(|| {
                    Error::internal("reading the catalogue", format!("no lock {}", row.lock))
                })?;
            Ok(Entry {
                info: ImageInfo {
                    uri: row.uri,
                    python: row.python,
                    summary: row.summary,
                    libraries: libraries.clone(),
                    debian: vec![],
                    released: row.released,
                    status: ImageStatus::Current,
                    single_version: false,
                },
                lock,
            })
        })
        .collect()
}

/// The entry called `uri`.
///
/// # Errors
/// `UnknownImage` naming the images there are and the one most like `uri`.
pub(crate) fn find<'a>(entries: &'a [Entry], uri: &str) -> Result<&'a Entry> {
    if let Some(entry) = entries.iter().find(|e| e.info.uri == uri) {
        return Ok(entry);
    }
    let names: Vec<&str> = entries.iter().map(|e| e.info.uri.as_str()).collect();
    let mut hint = String::new();
    if let Some(closest) = names
        .iter()
        .map(|name| (distance(uri, name), name))
        .filter(|(d, name)| *d <= name.len() / 2)
        .min()
        .map(|(_, name)| name)
    {
        hint = format!("Did you mean `{closest}`? ");
    }
    hint.push_str(&format!("The images are: {}.", names.join(", ")));
    Err(Error::new(Code::UnknownImage, format!("there is no image `{uri}`")).hint(hint))
}

/// The number of single-byte insertions, deletions and replacements between two texts
/// (Levenshtein); texts longer than 200 bytes are cut, so that its cost is bounded.
fn distance(a: &str, b: &str) -> usize {
    let a = &a.as_bytes()[..a.len().min(200)];
    let b = &b.as_bytes()[..b.len().min(200)];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
