//! Blobs as files named by their digest.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use luthier_ports::{Blob, BlobReader, BlobStore};
use luthier_types::{Code, Digest, Error, Result};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How much is read at a time.
const CHUNK: usize = 256 * 1024;

/// A [`BlobStore`] in a directory, for one process at a time.
///
/// A blob is written to a staging file, synced and renamed, so that it is whole or absent.
pub struct LocalBlobs {
    dir: PathBuf,
    staging: PathBuf,
}

// === impl LocalBlobs ===

impl LocalBlobs {
    /// The store in `dir`, which is made when missing; what a killed process left half-written is
    /// removed.
    ///
    /// # Errors
    /// `Internal` when the directory cannot be made.
    pub fn new(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let staging = dir.join("staging");
        let failed = |e| Error::internal("opening the blob store", e);
        match fs_err::remove_dir_all(&staging) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => fs_err::create_dir_all(&staging).map_err(failed)?,
        }
        Ok(Self { dir, staging })
    }

    fn place(&self, digest: &Digest) -> PathBuf {
        self.dir.join(&digest.as_str()[..2]).join(digest.as_str())
    }
}

#[async_trait]
impl BlobStore for LocalBlobs {
    async fn put(&self, mut reader: BlobReader, limit: u64) -> Result<Blob> {
        let staged = tempfile::NamedTempFile::new_in(&self.staging).map_err(unwritable)?;
        let (file, path) = staged.into_parts();
        let mut file = tokio::fs::File::from_std(file);
        let mut hasher = Sha256::new();
        let mut size = 0u64;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = reader
                .read(&mut chunk)
                .await
                .map_err(|e| Error::new(Code::BadRequest, "the upload broke off").source(e))?;
            if read == 0 {
                break;
            }
            size += read as u64;
            if size > limit {
                return Err(Error::new(
                    Code::TooLarge,
                    format!("the file is larger than the {limit} bytes the server takes"),
                )
                .hint("Send a smaller file, or have the operator raise the limit."));
            }
            hasher.update(&chunk[..read]);
            file.write_all(&chunk[..read]).await.map_err(unwritable)?;
        }
        file.flush().await.map_err(unwritable)?;
        file.sync_all().await.map_err(unwritable)?;
        drop(file);
        let digest = Digest::from_sha256(hasher.finalize().into());
        let place = self.place(&digest);
        let root = self.dir.clone();
        tokio::task::spawn_blocking(move || settle(path, &place, &root))
            .await
            .map_err(|e| Error::internal("storing a blob", e))?
            .map_err(unwritable)?;
        Ok(Blob { digest, size })
    }

    async fn get(&self, digest: &Digest) -> Result<BlobReader> {
        match tokio::fs::File::open(self.place(digest)).await {
            Ok(file) => Ok(Box::new(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::new(
                Code::NotFound,
                format!("there is no blob {}", digest.short()),
            )),
            Err(e) => Err(Error::internal("reading a blob", e)),
        }
    }

    async fn exists(&self, digest: &Digest) -> Result<bool> {
        tokio::fs::try_exists(self.place(digest))
            .await
            .map_err(|e| Error::internal("looking for a blob", e))
    }

    async fn list(&self) -> Result<Vec<Blob>> {
        let dir = self.dir.clone();
        tokio::task::spawn_blocking(move || listed(&dir))
            .await
            .map_err(|e| Error::internal("listing blobs", e))?
            .map_err(|e| Error::internal("listing blobs", e))
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        match tokio::fs::remove_file(self.place(digest)).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::internal("removing a blob", e))
            }
            _ => Ok(()),
        }
    }
}

/// Renames a synced staging file into place, and makes the renaming last.
fn settle(staged: tempfile::TempPath, place: &Path, root: &Path) -> std::io::Result<()> {
    let parent = place.parent().unwrap_or(root);
    if !parent.exists() {
        fs_err::create_dir_all(parent)?;
        fs_err::File::open(root)?.sync_all()?;
    }
    staged.persist(place)?;
    fs_err::File::open(parent)?.sync_all()
}

/// The files that are where a blob of their name belongs.
fn listed(root: &Path) -> std::io::Result<Vec<Blob>> {
    let mut found = vec![];
    for shelf in fs_err::read_dir(root)? {
        let shelf = shelf?;
        if !shelf.file_type()?.is_dir() {
            continue;
        }
        for entry in fs_err::read_dir(shelf.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let digest: Option<Digest> = name.to_str().and_then(|name| name.parse().ok());
            let Some(digest) = digest.filter(|d| shelf.file_name() == d.as_str()[..2]) else {
                continue;
            };
            match entry.metadata() {
                Ok(metadata) => found.push(Blob {
                    digest,
                    size: metadata.len(),
                }),
                // Removed meanwhile.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(found)
}

fn unwritable(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Error::internal("storing a blob: the disk is full", error)
            .hint("Free space in the server's data directory.");
    }
    Error::internal("storing a blob", error)
}

#[cfg(test)]
mod tests;
