//! Blobs in memory.

use std::{collections::HashMap, io::Cursor, sync::Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use luthier_types::{Code, Digest, Error, Result};
use tokio::io::AsyncReadExt as _;

use crate::{Blob, BlobReader, BlobStore};

/// A [`BlobStore`] that forgets with its process.
#[derive(Default)]
pub struct MemoryBlobs(Mutex<HashMap<Digest, Bytes>>);

impl MemoryBlobs {
    fn blobs(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Bytes>> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn put(&self, reader: BlobReader, limit: u64) -> Result<Blob> {
        let mut bytes = vec![];
        reader
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| Error::internal("reading a blob", e))?;
        if bytes.len() as u64 > limit {
            return Err(Error::new(
                Code::TooLarge,
                format!("more than {limit} bytes"),
            ));
        }
        let blob = Blob {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
        };
        self.blobs().insert(blob.digest.clone(), bytes.into());
        Ok(blob)
    }

    async fn get(&self, digest: &Digest) -> Result<BlobReader> {
        match self.blobs().get(digest) {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            None => Err(Error::new(
                Code::NotFound,
                format!("no blob {}", digest.short()),
            )),
        }
    }

    async fn exists(&self, digest: &Digest) -> Result<bool> {
        Ok(self.blobs().contains_key(digest))
    }

    async fn list(&self) -> Result<Vec<Blob>> {
        let blob = |(digest, bytes): (&Digest, &Bytes)| Blob {
            digest: digest.clone(),
            size: bytes.len() as u64,
        };
        Ok(self.blobs().iter().map(blob).collect())
    }

    async fn delete(&self, digest: &Digest) -> Result<()> {
        self.blobs().remove(digest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn conforms() {
        crate::conformance::blobs(&MemoryBlobs::default()).await;
    }
}
