//! Files that several directories share, and errors for want of disk.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use luthier_host::disk::walk;
use luthier_types::{Code, Error};

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
    fn a_file_with_another_name_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs_err::create_dir(&tree).unwrap();
        fs_err::write(tree.join("file"), "x").unwrap();
        assert!(!is_shared(&tree).unwrap());
        fs_err::hard_link(tree.join("file"), dir.path().join("elsewhere")).unwrap();
        assert!(is_shared(&tree).unwrap());
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
