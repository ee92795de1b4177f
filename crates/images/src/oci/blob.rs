//! Blobs: bytes named by their SHA-256.

use std::{
    fs::File,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use luthier_types::{Digest, layout::CacheLayout};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A blob's name, size and, when it is a layer, the digest of what it unpacks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Digest of the uncompressed bytes.
    pub diff: Digest,
}

impl Blob {
    /// The blob of these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let digest = Digest::of(bytes);
        Self {
            size: bytes.len() as u64,
            diff: digest.clone(),
            digest,
        }
    }

    /// Its name in manifests.
    pub fn name(&self) -> String {
        format!("sha256:{}", self.digest)
    }

    /// Its place in the cache.
    pub(crate) fn path(&self, layout: &CacheLayout) -> PathBuf {
        directory(layout).join("blobs").join(self.digest.as_str())
    }
}

/// Where layer blobs are kept. Nothing else needs them: it may be removed at any time.
pub(crate) fn directory(layout: &CacheLayout) -> PathBuf {
    layout.root().join("oci")
}

/// Whether the file holds exactly this blob.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn is_whole(path: &Path, blob: &Blob) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    if file.metadata()?.len() != blob.size {
        return Ok(false);
    }
    let mut hashing = Hashing::new(io::sink());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hashing.write_all(&buffer[..n])?,
        }
    }
    Ok(hashing.finish().1 == blob.digest)
}

/// Hands bytes on, and counts and hashes them.
pub(crate) struct Hashing<W> {
    inner: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            size: 0,
        }
    }

    /// What it wrote to, the digest and the number of bytes.
    pub(crate) fn finish(self) -> (W, Digest, u64) {
        (
            self.inner,
            Digest::from_sha256(self.hasher.finalize().into()),
            self.size,
        )
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
