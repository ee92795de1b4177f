//! What directories take on disk, and errors for want of it.

use std::{
    collections::HashMap,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use luthier_types::{Code, Error};

/// Bytes of a directory's files and directories as they lie on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// All of them, a file with several names once.
    pub(crate) bytes: u64,
    /// Of those that have no name outside of the directory: what removing it frees.
    pub(crate) alone: u64,
}

/// Walks everything below `directory`, itself included; links are not followed.
pub(crate) fn walk(
    directory: &Path,
    mut visit: impl FnMut(&Path, &Metadata) -> io::Result<()>,
) -> io::Result<()> {
    let mut waiting: Vec<PathBuf> = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs_err::symlink_metadata(&path)?;
        visit(&path, &metadata)?;
        if metadata.is_dir() {
            for entry in fs_err::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// What `directory` takes.
pub(crate) fn usage(directory: &Path) -> io::Result<Usage> {
    let mut usage = Usage::default();
    // Names seen of the files that have several.
    let mut several: HashMap<(u64, u64), u64> = HashMap::new();
    walk(directory, |_, metadata| {
        let bytes = metadata.blocks() * 512;
        if metadata.is_dir() || metadata.nlink() == 1 {
            usage.bytes += bytes;
            usage.alone += bytes;
            return Ok(());
        }
        let seen = several.entry((metadata.dev(), metadata.ino())).or_default();
        *seen += 1;
        if *seen == 1 {
            usage.bytes += bytes;
        }
        if *seen == metadata.nlink() {
            usage.alone += bytes;
        }
        Ok(())
    })?;
    Ok(usage)
}

/// Whether a file below `directory` has another name, such as one in an environment.
pub(crate) fn is_shared(directory: &Path) -> io::Result<bool> {
    let mut shared = false;
    walk(directory, |_, metadata| {
        shared |= !metadata.is_dir() && metadata.nlink() > 1;
        Ok(())
    })?;
    Ok(shared)
}

/// The error in plain words if its cause is a full disk, else the error as it is.
pub(crate) fn explained(error: Error, place: &Path) -> Error {
    let text = error.chain();
    let output = error.observed().output.as_deref().unwrap_or_default();
    let told = |word: &str| text.contains(word) || output.contains(word);
    let cause = if told("No space left on device") || told("os error 28") {
        "the disk is full"
    } else if told("Disk quota exceeded") || told("os error 122") {
        "the disk quota is used up"
    } else {
        return error;
    };
    let evidence = error.observed().clone();
    Error::new(
        Code::CapacityExceeded,
        format!(
            "{cause}: no space left for environments in {}",
            place.display()
        ),
    )
    .hint(
        "Make room there, for example with `luthier envs gc`, or give the server another cache \
         directory; then deploy again. Nothing is left of what was begun.",
    )
    .evidence(evidence)
    .source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_another_name_elsewhere_is_not_alone() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs_err::create_dir(&tree).unwrap();
        let empty = usage(&tree).unwrap();
        let file = |name: &str| {
            fs_err::write(tree.join(name), vec![1; 4096]).unwrap();
            tree.join(name)
        };
        file("mine");
        fs_err::hard_link(file("twice"), tree.join("again")).unwrap();
        assert!(is_shared(&tree).unwrap());
        fs_err::hard_link(file("ours"), dir.path().join("elsewhere")).unwrap();
        let all = usage(&tree).unwrap();
        assert_eq!(all.bytes - empty.bytes, 3 * 4096);
        assert_eq!(all.alone - empty.alone, 2 * 4096);
    }

    #[test]
    fn a_full_disk_is_told_and_other_errors_are_not_touched() {
        let full = Error::internal("writing", io::Error::from_raw_os_error(28));
        let told = explained(full, Path::new("/cache"));
        assert_eq!(told.code(), Code::CapacityExceeded);
        assert!(told.message().contains("the disk is full") && told.message().contains("/cache"));
        let other = Error::internal("writing", io::Error::from_raw_os_error(13));
        assert_eq!(explained(other, Path::new("/cache")).code(), Code::Internal);
    }
}
