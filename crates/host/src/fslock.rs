//! Locks between processes, by advisory locks on files: gone with the process that holds them,
//! however it ended.

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use luthier_types::{Error, Result};

/// A lock, held until dropped: exclusive, or shared with others that take it so.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

/// Given back for every copy of the descriptor: a child that this process is just making has one
/// until it becomes another program.
impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing it is the next best.
        let _ = self.file.unlock();
    }
}

/// How often a waiting lock is tried again.
const POLL: Duration = Duration::from_millis(50);

impl FileLock {
    /// Waits until the lock at `path` is free and takes it. The file is made when it is missing
    /// and stays. Excludes other processes and other callers in this one.
    ///
    /// **Cancellation:** the lock is not taken.
    ///
    /// # Errors
    /// `Internal` when the file cannot be made or locked.
    pub async fn acquire(path: &Path) -> Result<Self> {
        loop {
            if let Some(lock) = Self::try_acquire(path)? {
                return Ok(lock);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// As [`acquire`](Self::acquire), together with others that share it.
    ///
    /// **Cancellation:** the lock is not taken.
    ///
    /// # Errors
    /// `Internal` when the file cannot be made or locked.
    pub async fn share(path: &Path) -> Result<Self> {
        loop {
            if let Some(lock) = Self::try_lock(path, File::try_lock_shared)? {
                return Ok(lock);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// `Internal` when the file cannot be made or locked.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        Self::try_lock(path, File::try_lock)
    }

    fn try_lock(
        path: &Path,
        lock: impl FnOnce(&File) -> std::result::Result<(), TryLockError>,
    ) -> Result<Option<Self>> {
        let failed = |e: std::io::Error| Error::internal(format!("locking {}", path.display()), e);
        if let Some(parent) = path.parent() {
            fs_err::create_dir_all(parent).map_err(failed)?;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(failed)?;
        match lock(&file) {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(failed(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_excludes_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/a.lock");
        let held = FileLock::acquire(&path).await.unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(held);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_is_free_once_dropped_though_a_child_has_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let held = FileLock::try_acquire(&path).unwrap().unwrap();
        let _copy = held.file.try_clone().unwrap();
        drop(held);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }

    #[tokio::test]
    async fn a_shared_lock_excludes_only_the_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        let one = FileLock::share(&path).await.unwrap();
        let other = FileLock::share(&path).await.unwrap();
        drop(one);
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(other);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
    }
}
