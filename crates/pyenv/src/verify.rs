//! Whether what was installed is what its authors made.
//!
//! An environment's files are other names of files in the installer's cache, which lie there for
//! months. Before an environment is used each file is compared with the digest in its
//! distribution's `RECORD`. What was compared once and has not changed by the file system's account
//! (device, inode, size, time) is not read again until the machine restarts, since a machine that
//! went down may have kept a file's name and size and lost its content.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use luthier_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::installed::{Distribution, Recorded};

/// Below the cache's root: what was compared, by the digest of the distribution's record.
pub(crate) const NOTES: &str = "checked";

/// A distribution that is not what its record says.
#[derive(Clone, Debug)]
pub(crate) struct Damaged {
    /// Its name.
    pub(crate) name: String,
    /// The files that differ or are missing.
    pub(crate) files: Vec<PathBuf>,
    record: Digest,
    /// Digest of what its files are.
    pub(crate) content: Digest,
}

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// For each distribution that is as it should be, a digest of what it is.
    pub(crate) contents: BTreeMap<String, Digest>,
    /// The others.
    pub(crate) damaged: Vec<Damaged>,
}

/// A line of [`NOTES`]: how the files looked when they were compared, and the digest of their
/// content if it is not that of the record but was so when fetched anew.
#[derive(Default)]
struct Note {
    look: String,
    accepted: Option<Digest>,
}

impl Note {
    fn read(notes: &Path, record: &Digest) -> Self {
        let text = fs_err::read_to_string(notes.join(record.as_str())).unwrap_or_default();
        let mut lines = text.lines();
        Self {
            look: lines.next().unwrap_or_default().to_owned(),
            accepted: lines.next().and_then(|line| line.parse().ok()),
        }
    }

    /// A torn note is one that does not fit, so it needs no care.
    fn write(&self, notes: &Path, record: &Digest) -> io::Result<()> {
        let accepted = self.accepted.as_ref().map_or("", Digest::as_str);
        fs_err::create_dir_all(notes)?;
        fs_err::write(
            notes.join(record.as_str()),
            format!("{}\n{accepted}\n", self.look),
        )
    }
}

/// Compares the environment at `tree` with the records of its distributions.
pub(crate) fn check(
    tree: &Path,
    distributions: &[Distribution],
    notes: &Path,
) -> io::Result<Checked> {
    let mut checked = Checked::default();
    let mut unknown = vec![];
    for distribution in distributions {
        let record = distribution.record();
        let note = Note::read(notes, &record);
        let (shared, own) = by_names(tree, distribution)?;
        let look = look(tree, shared.into_iter())?;
        if distribution.has_record() && look.as_deref() == Some(&note.look) && own {
            let content = note.accepted.unwrap_or(record);
            checked.contents.insert(distribution.name.clone(), content);
        } else {
            unknown.push((distribution, record, note, look));
        }
    }
    let promises = unknown.iter().flat_map(|(d, ..)| promised(d));
    let files: Vec<PathBuf> = promises.map(|file| tree.join(&file.path)).collect();
    let mut digests = hash_all(&files)?.into_iter();
    for (distribution, record, mut note, look) in unknown {
        let found: Vec<(&Recorded, Option<Digest>)> =
            promised(distribution).zip(digests.by_ref()).collect();
        let differ: Vec<PathBuf> = found
            .iter()
            .filter(|(file, digest)| file.digest != *digest)
            .map(|(file, _)| file.path.clone())
            .collect();
        let content = content(&found);
        let fine = distribution.has_record() && differ.is_empty();
        if !fine && note.accepted.as_ref() != Some(&content) {
            checked.damaged.push(Damaged {
                name: distribution.name.clone(),
                files: differ,
                record,
                content,
            });
            continue;
        }
        note.accepted = (!fine).then_some(content);
        note.look = look.unwrap_or_default();
        note.write(notes, &record)?;
        let content = note.accepted.unwrap_or(record);
        checked.contents.insert(distribution.name.clone(), content);
    }
    Ok(checked)
}

/// Remembers that a distribution's own record is wrong: what was fetched anew is the same.
pub(crate) fn accept(damaged: &Damaged, notes: &Path) -> io::Result<()> {
    let note = Note {
        look: String::new(),
        accepted: Some(damaged.content.clone()),
    };
    note.write(notes, &damaged.record)
}

/// The files that the installer's cache holds too, and whether those it wrote for this environment
/// alone (programs, its own marks), which are few and small, are as promised.
fn by_names<'a>(tree: &Path, distribution: &'a Distribution) -> io::Result<(Vec<&'a Path>, bool)> {
    let mut shared = vec![];
    let mut own = true;
    for file in promised(distribution) {
        let path = tree.join(&file.path);
        match fs_err::symlink_metadata(&path) {
            Ok(metadata) if metadata.nlink() == 1 => own &= digest_of(&path)? == file.digest,
            _ => shared.push(file.path.as_path()),
        }
    }
    Ok((shared, own))
}

/// The files whose content is promised.
fn promised(distribution: &Distribution) -> impl Iterator<Item = &Recorded> {
    distribution
        .files
        .iter()
        .filter(|file| file.digest.is_some())
}

/// How files below `directory` look to the file system since the machine started, as one digest;
/// `None` when one is missing.
pub(crate) fn look<'a>(
    directory: &Path,
    files: impl Iterator<Item = &'a Path>,
) -> io::Result<Option<String>> {
    let mut hasher = Sha256::new();
    hasher.update(fs_err::read("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    for file in files {
        let metadata = match fs_err::symlink_metadata(directory.join(file)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        hasher.update(file.as_os_str().as_bytes());
        for figure in [metadata.dev(), metadata.ino(), metadata.size()] {
            hasher.update(figure.to_le_bytes());
        }
        for figure in [metadata.mtime(), metadata.mtime_nsec()] {
            hasher.update(figure.to_le_bytes());
        }
    }
    let digest = Digest::from_sha256(hasher.finalize().into());
    Ok(Some(digest.as_str().to_owned()))
}

fn content(found: &[(&Recorded, Option<Digest>)]) -> Digest {
    Digest::of_fields(found.iter().flat_map(|(file, digest)| {
        [
            file.path.as_os_str().as_bytes(),
            digest.as_ref().map_or(b"", |d| d.as_str().as_bytes()),
        ]
    }))
}

/// The digests of files, in their order; `None` for what is no file. On all CPUs.
pub(crate) fn hash_all(files: &[PathBuf]) -> io::Result<Vec<Option<Digest>>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = vec![];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(index) else {
                return Ok(done);
            };
            done.push((index, digest_of(file)?));
        }
    };
    let mut digests = vec![None; files.len()];
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            let failed = |_| Err(io::Error::other("a thread that read files failed"));
            let done: io::Result<Vec<_>> = thread.join().unwrap_or_else(failed);
            for (index, digest) in done? {
                digests[index] = digest;
            }
        }
        Ok(digests)
    })
}

/// The digest of a file's content; `None` if there is no such file.
pub(crate) fn digest_of(path: &Path) -> io::Result<Option<Digest>> {
    let mut file = match fs_err::File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(Digest::from_sha256(hasher.finalize().into()))),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests;
