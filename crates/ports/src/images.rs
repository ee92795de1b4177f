//! Catalogue images, made ready on this machine.

mod base;
mod nearest;
mod registries;

use async_trait::async_trait;
use luthier_types::{Digest, Result};
use serde::{Deserialize, Serialize};

use crate::LogSink;

pub use base::{Base, Provided};
pub use nearest::unknown_image;
pub use registries::{AllowedRegistries, names_registry};

/// Whether an image is still to be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum ImageStatus {
    /// It is.
    #[default]
    Current,
    /// It works, and another should be used.
    Deprecated {
        /// The other's uri.
        replaced_by: String,
    },
}

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
    /// Debian packages in it beyond the base file system's.
    #[serde(default)]
    pub debian: Vec<String>,
    /// Day of the state it was made of, `YYYY-MM-DD`.
    #[serde(default)]
    pub released: String,
    /// Whether it is still to be chosen.
    #[serde(default)]
    pub status: ImageStatus,
    /// Whether it serves only models that have a single version.
    #[serde(default)]
    pub single_version: bool,
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
    /// The image's own lock: hashed requirements of every preinstalled library; empty for one of a
    /// registry.
    pub lock: String,
    /// What an image of a registry brings; `None` for one of the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

/// The catalogue, and the registries beside it.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// Every image, in catalogue order: of the same name the oldest tag first, deprecated ones last.
    fn list(&self) -> Vec<ImageInfo>;

    /// Bytes on disk of an image's layers and how many of them it shares with no other image;
    /// `None` when it is not made yet.
    ///
    /// # Errors
    /// `UnknownImage`; `Internal` when they cannot be read.
    async fn disk(&self, uri: &str) -> Result<Option<(u64, u64)>>;

    /// The image's root file system with compilers and headers, in which packages are built from
    /// source; makes it if it is not there yet. One of a registry has what it has.
    ///
    /// **Guarantees:** as [`ensure`](Self::ensure).
    ///
    /// # Errors
    /// `ImageUnavailable` when it cannot be made.
    async fn toolchain(&self, image: &ResolvedImage, log: &LogSink) -> Result<Digest>;

    /// Makes the image's layers, if they are not there yet. An image of a registry is pulled; what
    /// its tag names is looked up each time, and the answer's `info.uri` names it by digest.
    ///
    /// **Guarantees:** idempotent; safe to call concurrently, also from several processes. An image
    /// of a registry that is named by digest and was pulled before needs no network.
    ///
    /// # Errors
    /// `UnknownImage` naming the images there are, or saying why one of a registry cannot be a base;
    /// `ImageUnavailable` when a layer cannot be made or a registry does not answer; `BadRequest`
    /// when images may not come from there; `Unauthorized` of the registry.
    async fn ensure(&self, uri: &str, log: &LogSink) -> Result<ResolvedImage>;
}
