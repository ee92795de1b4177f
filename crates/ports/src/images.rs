//! Catalogue images, made ready on this machine.

use async_trait::async_trait;
use luthier_types::{Digest, Result};
use serde::{Deserialize, Serialize};

use crate::LogSink;

/// A catalogue entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Its name, for example `md-base/python/python-39:2.0.2`.
    pub uri: String,
    /// Minor version of its Python, for example `3.9`.
    pub python: String,
    /// One line for people.
    pub summary: String,
    /// Its preinstalled top-level libraries, `name==version`.
    pub libraries: Vec<String>,
}

/// An image whose root file system and interpreter are on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// The catalogue entry.
    pub info: ImageInfo,
    /// Digest of everything that makes the image: root file system, interpreter and lock.
    pub digest: Digest,
    /// The root file system layer.
    pub rootfs: Digest,
    /// The interpreter layer.
    pub interpreter: Digest,
    /// The image's own lock: hashed requirements of every preinstalled library.
    pub lock: String,
}

/// The catalogue.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// Every image, in catalogue order.
    fn list(&self) -> Vec<ImageInfo>;

    /// Makes the image's layers, if they are not there yet.
    ///
    /// **Guarantees:** idempotent; safe to call concurrently, also from several processes.
    ///
    /// # Errors
    /// `UnknownImage` naming the images there are; `ImageUnavailable` when a layer cannot be made.
    async fn ensure(&self, uri: &str, log: &LogSink) -> Result<ResolvedImage>;
}
