//! Layers of an image of a registry, laid over each other into one tree.
//!
//! The archives are a stranger's. Every path is resolved below the tree, with links leading nowhere
//! out of it; nothing belongs to anybody but us; device nodes and set-id bits stay out; bytes and
//! files are bounded. Removals are the OCI image specification's (*Image Layer Filesystem
//! Changeset*, "Whiteouts").

use std::{
    ffi::OsStr,
    fs::Permissions,
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::{Component, Path, PathBuf},
};

use safe_path::scoped_join;
use tar::{Entry, EntryType};

/// What an image may unpack to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Files, directories and links.
    pub(crate) entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 30 << 30,
            entries: 1_500_000,
        }
    }
}

/// Removes what is called so behind it, from the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// Empties its directory of the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A tree that layers are laid into, lowest first.
pub(crate) struct Tree<'a> {
    root: &'a Path,
    left: Limits,
}

impl<'a> Tree<'a> {
    /// An empty tree, made at `root`.
    pub(crate) fn new(root: &'a Path, limits: Limits) -> io::Result<Self> {
        fs_err::create_dir(root)?;
        fs_err::set_permissions(root, Permissions::from_mode(0o755))?;
        Ok(Self { root, left: limits })
    }

    /// Lays the layer in the archive over what is there.
    ///
    /// # Errors
    /// When the archive is damaged, leads out of the tree, or holds more than it may.
    pub(crate) fn lay(&mut self, archive: impl Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(archive);
        // What this layer itself put below an opaque directory stays.
        let mut mine: Vec<PathBuf> = vec![];
        for entry in archive.entries()? {
            let mut entry = entry?;
            self.count(entry.size())?;
            let path = plain(&entry.path()?)?;
            let Some(name) = path.file_name() else {
                continue;
            };
            let parent = self.parent(&path)?;
            if name.as_bytes() == OPAQUE {
                empty(&parent, &mine)?;
            } else if let Some(gone) = name.as_bytes().strip_prefix(WHITEOUT) {
                if !matches!(gone, b"" | b"." | b"..") && !gone.contains(&b'/') {
                    remove(&parent.join(OsStr::from_bytes(gone)))?;
                }
            } else {
                let place = parent.join(name);
                self.put(&mut entry, &place)?;
                mine.push(place);
            }
        }
        Ok(())
    }

    /// The directory of a path of an archive in the tree, made where it is missing.
    fn parent(&self, path: &Path) -> io::Result<PathBuf> {
        let parent = scoped_join(self.root, path.parent().unwrap_or(Path::new("")))?;
        make_dirs(self.root, &parent)?;
        Ok(parent)
    }

    fn put(&self, entry: &mut Entry<'_, impl Read>, place: &Path) -> io::Result<()> {
        let mode = entry.header().mode()? & 0o1777;
        match entry.header().entry_type() {
            EntryType::Directory => {
                if !fs_err::symlink_metadata(place).is_ok_and(|m| m.is_dir()) {
                    remove(place)?;
                    fs_err::create_dir(place)?;
                }
                fs_err::set_permissions(place, Permissions::from_mode(mode | 0o755))
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                remove(place)?;
                let mut file = fs_err::File::create_new(place)?;
                io::copy(entry, &mut file)?;
                file.set_permissions(Permissions::from_mode(mode | 0o444))
            }
            EntryType::Symlink => {
                remove(place)?;
                let target = entry.link_name()?.unwrap_or_default();
                symlink(target, place)
            }
            EntryType::Link => {
                let target = plain(&entry.link_name()?.unwrap_or_default())?;
                let name = target
                    .file_name()
                    .ok_or_else(|| io::Error::other("a hard link to nothing"))?;
                // The link's own name is not followed: a link may lead to a link.
                let target = self.parent(&target)?.join(name);
                if target != place {
                    remove(place)?;
                    fs_err::hard_link(target, place)?;
                }
                Ok(())
            }
            // Devices, sockets and the archive's own notes.
            _ => Ok(()),
        }
    }

    fn count(&mut self, bytes: u64) -> io::Result<()> {
        let too_large = || io::Error::other("the image unpacks to more than it may");
        self.left.bytes = self.left.bytes.checked_sub(bytes).ok_or_else(too_large)?;
        self.left.entries = self.left.entries.checked_sub(1).ok_or_else(too_large)?;
        Ok(())
    }
}

/// The path without `/` at its beginning and `.` in it.
fn plain(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let path = path.display();
                return Err(io::Error::other(format!("the path {path} leads upwards")));
            }
        }
    }
    Ok(plain)
}

/// Makes the directories of `path`, which is below `root` and has no links in it. What else stands
/// in the way goes, as with a directory of an upper layer over a file of a lower one.
fn make_dirs(root: &Path, path: &Path) -> io::Result<()> {
    let root = fs_err::canonicalize(root)?;
    let below = path
        .strip_prefix(&root)
        .map_err(|_| io::Error::other("a path leads out of the image"))?;
    let mut at = root;
    for name in below {
        at.push(name);
        if !fs_err::symlink_metadata(&at).is_ok_and(|m| m.is_dir()) {
            remove(&at)?;
            fs_err::create_dir(&at)?;
            fs_err::set_permissions(&at, Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Removes what is at the path, not following it.
fn remove(path: &Path) -> io::Result<()> {
    match fs_err::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(found) if found.is_dir() => fs_err::remove_dir_all(path),
        Ok(_) => fs_err::remove_file(path),
    }
}

/// Removes what is in the directory, but for what is in `mine` and what leads there.
fn empty(directory: &Path, mine: &[PathBuf]) -> io::Result<()> {
    for entry in fs_err::read_dir(directory)? {
        let path = entry?.path();
        if mine.contains(&path) {
            if fs_err::symlink_metadata(&path)?.is_dir() {
                empty(&path, mine)?;
            }
        } else if !mine.iter().any(|m| m.starts_with(&path)) {
            remove(&path)?;
        } else {
            empty(&path, mine)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
