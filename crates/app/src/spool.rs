//! Blobs as temporary files, for readers that need to seek.

use luthier_types::{Digest, Error, Result};
use tempfile::NamedTempFile;

use crate::App;

impl App {
    /// A copy of a blob as a file that goes away when dropped.
    ///
    /// # Errors
    /// `NotFound` when there is no such blob; `Internal`.
    pub(crate) async fn spool(&self, digest: &Digest) -> Result<NamedTempFile> {
        let failed = |e| Error::internal("copying a file", e);
        let mut blob = self.deps.blobs.get(digest).await?;
        let copy = self.scratch_file()?;
        let file = copy.reopen().map_err(failed)?;
        let mut file = tokio::fs::File::from_std(file);
        tokio::io::copy(&mut blob, &mut file)
            .await
            .map_err(failed)?;
        tokio::io::AsyncWriteExt::flush(&mut file)
            .await
            .map_err(failed)?;
        Ok(copy)
    }

    /// An empty file that goes away when dropped.
    pub(crate) fn scratch_file(&self) -> Result<NamedTempFile> {
        let scratch = self.deps.layout.scratch();
        fs_err::create_dir_all(&scratch)
            .map_err(|e| Error::internal("making a temporary directory", e))?;
        NamedTempFile::new_in(&scratch).map_err(|e| Error::internal("making a temporary file", e))
    }
}

/// Runs work that takes a processor for a while where it holds up no request.
pub(crate) async fn heavy<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("working on a request", e))?
}
