//! What lies below a directory, and what it takes on disk.

use std::{
    collections::HashMap,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Bytes of a directory's files and directories as they lie on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of them, a file with several names once.
    pub bytes: u64,
    /// Of those that have no name outside of the directory: what removing it frees.
    pub alone: u64,
}

/// Visits everything below `directory`, itself first and each directory before what is in it;
/// links are not followed.
///
/// # Errors
/// Those of `visit`, and when something cannot be read.
pub fn walk(
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
///
/// # Errors
/// When something below it cannot be read.
pub fn usage(directory: &Path) -> io::Result<Usage> {
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
        fs_err::hard_link(file("ours"), dir.path().join("elsewhere")).unwrap();
        let all = usage(&tree).unwrap();
        assert_eq!(all.bytes - empty.bytes, 3 * 4096);
        assert_eq!(all.alone - empty.alone, 2 * 4096);
    }

    #[test]
    fn a_walk_stays_below_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs_err::create_dir_all(tree.join("a/b")).unwrap();
        fs_err::write(tree.join("a/b/file"), "x").unwrap();
        fs_err::write(dir.path().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink("..", tree.join("a/up")).unwrap();
        let mut seen = vec![];
        walk(&tree, |path, metadata| {
            let below = path.strip_prefix(&tree).unwrap();
            seen.push((below.display().to_string(), metadata.is_dir()));
            Ok(())
        })
        .unwrap();
        let place = |name: &str| seen.iter().position(|(n, _)| n == name).unwrap();
        assert!(place("") < place("a") && place("a") < place("a/b"));
        seen.sort();
        let seen: Vec<_> = seen.iter().map(|(n, d)| (n.as_str(), *d)).collect();
        let (up, file) = (("a/up", false), ("a/b/file", false));
        assert_eq!(seen, [("", true), ("a", true), ("a/b", true), file, up]);
    }
}
