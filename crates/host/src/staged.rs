//! Directories that are complete or absent: made in a staging directory, renamed into place.
//!
//! Each staged directory lies in a box of its own beside a lock file that its maker holds, so that
//! [`sweep`] can tell what a killed maker left behind from what is being made now.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime},
};

use luthier_types::{Error, Result};

use crate::FileLock;

const PREFIX: &str = "layer-";
/// The lock file of a box, beside the directory being made.
const LOCK: &str = "lock";
/// A box without a lock file is being made right now, unless it is older than this.
const UNLOCKED_GRACE: Duration = Duration::from_secs(3600);

/// A directory being made; removed when dropped before [`publish`](Self::publish).
#[derive(Debug)]
pub struct Staged {
    outer: PathBuf,
    tree: PathBuf,
    _lock: FileLock,
}

impl Staged {
    /// A fresh place below `staging`, which is made when missing. `what` is a word for its name.
    ///
    /// # Errors
    /// `Internal` when it cannot be made.
    pub fn new(staging: &Path, what: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let failed = |e: io::Error| Error::internal(format!("making {}", staging.display()), e);
        fs_err::create_dir_all(staging).map_err(failed)?;
        loop {
            let name = format!(
                "{PREFIX}{what}-{}-{}",
                std::process::id(),
                COUNTER.fetch_add(1, Ordering::Relaxed)
            );
            let outer = staging.join(name);
            match fs_err::create_dir(&outer) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made.map_err(failed)?,
            }
            // A sweep may be quicker to lock it; then this box is lost and the next is tried.
            if let Some(lock) = FileLock::try_acquire(&outer.join(LOCK))? {
                let tree = outer.join("tree");
                return Ok(Self {
                    outer,
                    tree,
                    _lock: lock,
                });
            }
        }
    }

    /// Where to make the directory; it does not exist yet.
    pub fn path(&self) -> &Path {
        &self.tree
    }

    /// A directory beside it for whatever the making needs; it exists and goes with this value.
    pub fn scratch(&self) -> &Path {
        &self.outer
    }

    /// Renames the directory to `place`. When another maker was quicker its directory stays and
    /// this one is dropped.
    ///
    /// # Errors
    /// `Internal` when it cannot be renamed.
    pub fn publish(self, place: &Path) -> Result<()> {
        let failed = |e: io::Error| Error::internal(format!("making {}", place.display()), e);
        if let Some(parent) = place.parent() {
            fs_err::create_dir_all(parent).map_err(failed)?;
        }
        match fs_err::rename(&self.tree, place) {
            Err(_) if place.is_dir() => Ok(()),
            renamed => renamed.map_err(failed),
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(e) = remove_box(&self.outer) {
            tracing::warn!(error = %e, "could not remove a staged directory");
        }
    }
}

/// Removes what killed makers left in `staging`; never what is being made. Returns how many.
///
/// # Errors
/// `Internal` when the directory cannot be read.
pub fn sweep(staging: &Path) -> Result<usize> {
    let failed = |e: io::Error| Error::internal(format!("reading {}", staging.display()), e);
    let entries = match fs_err::read_dir(staging) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed)?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let path = entry.path();
        let lock_path = path.join(LOCK);
        let lock = if lock_path.exists() {
            match FileLock::try_acquire(&lock_path) {
                Ok(Some(lock)) => Some(lock),
                Ok(None) | Err(_) => continue,
            }
        } else if older_than(&path, UNLOCKED_GRACE) {
            None
        } else {
            continue;
        };
        match remove_box(&path) {
            Ok(()) => removed += 1,
            Err(e) => tracing::warn!(error = %e, "could not remove an abandoned directory"),
        }
        drop(lock);
    }
    Ok(removed)
}

/// Removes a box, its lock file last: a box without one could not be told from one being made, and
/// would stay if its remover were killed now.
fn remove_box(outer: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(outer)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs_err::remove_dir_all(entry.path())?;
        } else if entry.file_name() != LOCK {
            fs_err::remove_file(entry.path())?;
        }
    }
    fs_err::remove_dir_all(outer)
}

fn older_than(path: &Path, age: Duration) -> bool {
    fs_err::metadata(path)
        .and_then(|m| m.modified())
        .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|d| d > age))
}

#[cfg(test)]
mod tests {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};

    use super::*;

    #[test]
    fn a_dropped_directory_is_removed_and_a_published_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let staging = dir.path().join("staging");
        let staged = Staged::new(&staging, "x").unwrap();
        fs_err::create_dir(staged.path()).unwrap();
        drop(staged);
        assert_eq!(fs_err::read_dir(&staging).unwrap().count(), 0);

        let staged = Staged::new(&staging, "x").unwrap();
        fs_err::create_dir(staged.path()).unwrap();
        fs_err::write(staged.path().join("f"), "1").unwrap();
        let place = dir.path().join("layers/a");
        staged.publish(&place).unwrap();
        assert_eq!(fs_err::read_to_string(place.join("f")).unwrap(), "1");
        assert_eq!(fs_err::read_dir(&staging).unwrap().count(), 0);
    }

    #[test]
    fn the_first_of_two_makers_wins() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a");
        for text in ["1", "2"] {
            let staged = Staged::new(dir.path(), "x").unwrap();
            fs_err::create_dir(staged.path()).unwrap();
            fs_err::write(staged.path().join("f"), text).unwrap();
            staged.publish(&place).unwrap();
        }
        assert_eq!(fs_err::read_to_string(place.join("f")).unwrap(), "1");
    }

    #[test]
    fn what_cannot_be_removed_now_is_removed_by_a_later_sweep() {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().join("layer-x-0-0");
        fs_err::create_dir_all(outer.join("tree")).unwrap();
        fs_err::write(outer.join(LOCK), "").unwrap();
        // A mount point cannot be removed.
        let (tree, none) = (outer.join("tree"), None::<&str>);
        mount(Some("tmpfs"), &tree, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let swept = sweep(dir.path());
        umount2(&tree, MntFlags::MNT_DETACH).unwrap();
        assert_eq!(swept.unwrap(), 0);
        assert!(outer.join(LOCK).exists());
        assert_eq!(sweep(dir.path()).unwrap(), 1);
    }

    #[test]
    fn a_sweep_takes_the_abandoned_and_leaves_the_living() {
        let dir = tempfile::tempdir().unwrap();
        let living = Staged::new(dir.path(), "x").unwrap();
        let abandoned = dir.path().join("layer-x-0-0");
        fs_err::create_dir(&abandoned).unwrap();
        fs_err::write(abandoned.join("lock"), "").unwrap();
        let fresh = dir.path().join("layer-x-0-1");
        fs_err::create_dir(&fresh).unwrap();
        let foreign = dir.path().join("unpack-1");
        fs_err::create_dir(&foreign).unwrap();
        assert_eq!(sweep(dir.path()).unwrap(), 1);
        assert!(!abandoned.exists());
        assert!(living.scratch().exists() && fresh.exists() && foreign.exists());
    }
}
