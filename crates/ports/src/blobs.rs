//! Content-addressed bytes.

use async_trait::async_trait;
use luthier_types::{Digest, Result};
use tokio::io::AsyncRead;

/// A stream of a blob's bytes.
pub type BlobReader = Box<dyn AsyncRead + Send + Unpin>;

/// A stored blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
}

/// Keeps bytes by their digest.
///
/// **Guarantees:** a blob is wholly there or not at all; once `put` has returned it survives a
/// crash; putting the same bytes twice keeps one copy.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores what `reader` gives, refusing more than `limit` bytes.
    ///
    /// **Cancellation:** nothing is stored.
    ///
    /// # Errors
    /// `TooLarge` past the limit; `Internal` when the store fails.
    async fn put(&self, reader: BlobReader, limit: u64) -> Result<Blob>;

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    async fn get(&self, digest: &Digest) -> Result<BlobReader>;

    /// Whether the blob is there.
    async fn exists(&self, digest: &Digest) -> Result<bool>;

    /// Every blob, in no order.
    async fn list(&self) -> Result<Vec<Blob>>;

    /// Removes the blob; no error when it is not there.
    async fn delete(&self, digest: &Digest) -> Result<()>;
}
