//! The catalogue: data only. `images/*.toml` and `images/locks/` of the repository lie inside the
//! binary; an operator's directory of the same form is read over them each time it is asked, so
//! that a tag added there needs no restart.

mod file;

use std::{
    io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use luthier_ports::{ImageInfo, ImageStatus, unknown_image};
use luthier_types::{Digest, Error, Result};

pub(crate) use file::{File, Tag};

/// The files of `images/` and of `images/locks/`, written by the build script.
mod embedded {
    include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));
}

/// Largest file that is read, in bytes: a lock of some hundred packages is a tenth of it.
const FILE_BYTES: u64 = 4 << 20;

/// An image and its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What the rest of the system knows of it.
    pub(crate) info: ImageInfo,
    /// As it stands in its file.
    pub(crate) tag: Tag,
    /// Its lock file's text.
    pub(crate) lock: String,
}

impl Entry {
    /// The digest of everything that says what the image is.
    pub(crate) fn digest(&self) -> Digest {
        let tag = toml::to_string(&self.tag).unwrap_or_default();
        Digest::of_fields([self.info.uri.as_str(), &tag, &self.lock])
    }
}

/// A file of an operator's directory that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub wrong: String,
}

/// The images inside the binary, and those of a directory over them.
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    /// In the order of [`luthier_ports::Images::list`].
    pub(crate) entries: Vec<Entry>,
    /// What of the directory was left out.
    pub(crate) problems: Vec<Problem>,
}

impl Catalogue {
    /// Reads the catalogue. A tag of the directory takes the place of the binary's of the same
    /// uri; a file of it that is wrong is left out whole and told in `problems`.
    ///
    /// # Errors
    /// `Internal` when the catalogue inside the binary is wrong, which a test rules out.
    pub(crate) fn read(own: Option<&Path>) -> Result<Self> {
        static EMBEDDED: LazyLock<Result<Vec<Entry>>> = LazyLock::new(embedded_entries);
        let mut entries = EMBEDDED.as_ref().map_err(Clone::clone)?.clone();
        let mut problems = vec![];
        if let Some(own) = own {
            let (found, wrong) = directory(own);
            entries.retain(|e| found.iter().all(|f| f.info.uri != e.info.uri));
            entries.extend(found);
            problems = wrong;
        }
        entries.sort_by_cached_key(|e| order(&e.info));
        Ok(Self { entries, problems })
    }

    /// Whether there is an entry called `uri`.
    pub(crate) fn has(&self, uri: &str) -> bool {
        self.entries.iter().any(|e| e.info.uri == uri)
    }

    /// The entry called `uri`.
    ///
    /// # Errors
    /// `UnknownImage` naming the images there are and the one that would do, and the operator's
    /// files that could not be read, for it may stand in one of them.
    pub(crate) fn find(&self, uri: &str) -> Result<&Entry> {
        if let Some(entry) = self.entries.iter().find(|e| e.info.uri == uri) {
            return Ok(entry);
        }
        let known: Vec<ImageInfo> = self.entries.iter().map(|e| e.info.clone()).collect();
        let error = unknown_image(uri, &known);
        let Some(problem) = self.problems.first() else {
            return Err(error);
        };
        let hint = error.next_step().unwrap_or_default().to_owned();
        Err(error.hint(format!(
            "{hint} It may stand in {}, which is left out: {}.",
            problem.path.display(),
            problem.wrong
        )))
    }
}

/// The key of the catalogue's order: current ones first, then by name and tag, numbers as numbers.
fn order(info: &ImageInfo) -> (bool, Vec<Part>) {
    (
        info.status != ImageStatus::Current,
        parts(&info.uri.replace(':', "/")),
    )
}

/// A run of digits or of other characters. `python-39` comes before `python-310`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

fn parts(text: &str) -> Vec<Part> {
    let mut parts = vec![];
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digits = first.is_ascii_digit();
        let end = rest
            .find(|c: char| c.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        parts.push(match run.parse() {
            Ok(number) if digits => Part::Number(number),
            _ => Part::Text(run.to_owned()),
        });
        rest = after;
    }
    parts
}

fn embedded_entries() -> Result<Vec<Entry>> {
    let mut entries = vec![];
    for (name, text) in embedded::FILES {
        let wrong = |e: String| Error::internal(format!("reading the catalogue's {name}"), e);
        let file = File::parse(text).map_err(wrong)?;
        for tag in file.tag {
            let lock = embedded::LOCKS
                .iter()
                .find(|(name, _)| *name == tag.lock)
                .map(|(_, text)| (*text).to_owned())
                .ok_or_else(|| wrong(format!("there is no locks/{}", tag.lock)))?;
            entries.push(Entry {
                info: tag.info(&file.name),
                tag,
                lock,
            });
        }
    }
    Ok(entries)
}

/// The entries of a directory, and the files of it that are wrong. No directory is an empty one.
fn directory(own: &Path) -> (Vec<Entry>, Vec<Problem>) {
    let mut problems = vec![];
    let mut entries: Vec<Entry> = vec![];
    let mut files: Vec<PathBuf> = match fs_err::read_dir(own) {
        Ok(files) => files.flatten().map(|entry| entry.path()).collect(),
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                problems.push(Problem {
                    path: own.to_owned(),
                    wrong: e.to_string(),
                });
            }
            vec![]
        }
    };
    files.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    files.sort();
    for path in files {
        let found = entries_of(own, &path).and_then(|found| {
            let twice = |e: &&Entry| entries.iter().any(|o| o.info.uri == e.info.uri);
            match found.iter().find(twice) {
                Some(entry) => Err(format!("`{}` stands in another file too", entry.info.uri)),
                None => Ok(found),
            }
        });
        match found {
            Ok(found) => entries.extend(found),
            Err(wrong) => problems.push(Problem { path, wrong }),
        }
    }
    (entries, problems)
}

fn entries_of(own: &Path, path: &Path) -> Result<Vec<Entry>, String> {
    let file = File::parse(&read(path)?)?;
    file.tag
        .into_iter()
        .map(|tag| {
            let lock = lock_of(own, &tag.lock)?;
            Ok(Entry {
                info: tag.info(&file.name),
                tag,
                lock,
            })
        })
        .collect()
}

/// A lock of the directory, or the binary's of that name.
fn lock_of(own: &Path, name: &str) -> Result<String, String> {
    let path = own.join("locks").join(name);
    if path.exists() {
        let lock = read(&path)?;
        if lock.contains("://") {
            return Err(format!("locks/{name} names an address; a lock names none"));
        }
        return Ok(lock);
    }
    let inside = embedded::LOCKS.iter().find(|(there, _)| *there == name);
    inside
        .map(|(_, text)| (*text).to_owned())
        .ok_or_else(|| format!("there is no locks/{name}"))
}

fn read(path: &Path) -> Result<String, String> {
    let length = fs_err::metadata(path).map_err(|e| e.to_string())?.len();
    if length > FILE_BYTES {
        return Err(format!("{} is too large", path.display()));
    }
    fs_err::read_to_string(path).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
