//! The catalogue of images, and how one is made on this machine: a base root file system, an
//! interpreter and a lock, each a content-addressed layer.
//!
//! An image's digest covers all three. What [`LocalImages::ensure`] found or made is written down
//! under the cache, so that an image stays the same for the life of the cache and finding it again
//! costs one small read.

#![forbid(unsafe_code)]

mod catalogue;
mod copy;
mod doctor;
mod elf;
mod installed;
mod interpreter;
pub mod oci;
mod rootfs;
pub mod runner_layer;

use std::{collections::HashMap, sync::Mutex};

use async_trait::async_trait;
use luthier_ports::{ImageInfo, Images, LogSink, ResolvedImage};
use luthier_types::{Digest, Result, layout::CacheLayout};

pub use doctor::{Probe, probe};

use catalogue::Entry;

/// What [`LocalImages`] needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where layers lie.
    pub layout: CacheLayout,
    /// Debian mirror for the base file system; `None` for Debian's own.
    pub mirror: Option<String>,
}

/// Makes the catalogue's images on this machine.
#[derive(Debug)]
pub struct LocalImages {
    options: Options,
    entries: Vec<Entry>,
    known: Mutex<HashMap<String, ResolvedImage>>,
}

impl LocalImages {
    /// The catalogue over a cache.
    ///
    /// # Errors
    /// `Internal` when the catalogue in the binary is broken.
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self {
            options,
            entries: catalogue::read()?,
            known: Mutex::default(),
        })
    }

    fn known(&self, uri: &str) -> Option<ResolvedImage> {
        let known = self.known.lock().ok()?.get(uri).cloned()?;
        let layout = &self.options.layout;
        let there = layout.rootfs(&known.rootfs).is_dir()
            && layout.interpreter(&known.interpreter).is_dir();
        there.then_some(known)
    }
}

#[async_trait]
impl Images for LocalImages {
    fn list(&self) -> Vec<ImageInfo> {
        self.entries.iter().map(|e| e.info.clone()).collect()
    }

    async fn disk(&self, uri: &str) -> Result<Option<(u64, u64)>> {
        catalogue::find(&self.entries, uri)?;
        Ok(None)
    }

    async fn toolchain(&self, image: &ResolvedImage, _log: &LogSink) -> Result<Digest> {
        Ok(image.rootfs.clone())
    }

    async fn ensure(&self, uri: &str, log: &LogSink) -> Result<ResolvedImage> {
        let entry = catalogue::find(&self.entries, uri)?;
        if let Some(image) = self.known(uri) {
            return Ok(image);
        }
        let layout = &self.options.layout;
        luthier_host::sweep(&layout.staging())?;
        let rootfs = rootfs::ensure(layout, self.options.mirror.as_deref(), log).await?;
        let interpreter = interpreter::ensure(layout, &entry.info.python, log).await?;
        let image = ResolvedImage {
            info: entry.info.clone(),
            digest: Digest::of_fields([rootfs.as_str(), interpreter.as_str(), entry.lock]),
            rootfs,
            interpreter,
            lock: entry.lock.to_owned(),
        };
        if let Ok(mut known) = self.known.lock() {
            known.insert(uri.to_owned(), image.clone());
        }
        Ok(image)
    }
}
