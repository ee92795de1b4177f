//! The catalogue of images, and how one is made on this machine: a base root file system, an
//! interpreter and a lock, each a content-addressed layer.
//!
//! An image's digest covers all three. What [`LocalImages::ensure`] found or made is written down
//! under the cache, so that an image stays the same for the life of the cache and finding it again
//! costs one small read.

#![forbid(unsafe_code)]

mod base;
mod catalogue;
mod copy;
mod disk;
mod doctor;
mod elf;
mod installed;
mod interpreter;
pub mod oci;
mod rootfs;
pub mod runner_layer;
mod update;
mod verify;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use luthier_ports::{
    AllowedRegistries, ContainerRuntime, ImageInfo, Images, LogSink, ResolvedImage, names_registry,
};
use luthier_types::{Digest, Result, layout::CacheLayout};

pub use doctor::{Probe, probe};

pub use catalogue::Problem;
pub use update::{Change, Outdated};

use catalogue::{Catalogue, Entry};
use rootfs::Recipe;

/// What [`LocalImages`] needs.
#[derive(Clone)]
pub struct Options {
    /// Where layers lie.
    pub layout: CacheLayout,
    /// Debian mirror for the base file system; `None` for Debian's own.
    pub mirror: Option<String>,
    /// Registries whose images may be bases.
    pub registries: AllowedRegistries,
    /// Logins at them.
    pub credentials: oci::Credentials,
    /// Looks at such images, in a container; `None` refuses them.
    pub runtime: Option<Arc<dyn ContainerRuntime>>,
}

impl Options {
    /// Debian's own mirror, no registries.
    pub fn new(layout: CacheLayout) -> Self {
        Self {
            layout,
            mirror: None,
            registries: AllowedRegistries::default(),
            credentials: oci::Credentials::default(),
            runtime: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("layout", &self.layout)
            .field("mirror", &self.mirror)
            .field("registries", &self.registries)
            .finish_non_exhaustive()
    }
}

/// Makes the catalogue's images on this machine.
#[derive(Debug)]
pub struct LocalImages {
    options: Options,
    /// The operator's own directory of images.
    own: Option<PathBuf>,
    /// Images made or found, by the digest of their entry.
    known: Mutex<HashMap<Digest, ResolvedImage>>,
    /// What was last found wrong with the directory, so that it is told once.
    told: Mutex<Vec<Problem>>,
}

impl LocalImages {
    /// The catalogue over a cache.
    ///
    /// # Errors
    /// `Internal` when the catalogue in the binary is broken.
    pub fn new(options: Options) -> Result<Self> {
        Catalogue::read(None)?;
        Ok(Self {
            options,
            own: None,
            known: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// Reads a directory of images over the catalogue in the binary: the operator's own.
    #[must_use]
    pub fn with_own(mut self, directory: PathBuf) -> Self {
        self.own = Some(directory);
        self
    }

    /// The files of the operator's directory that are left out because something is wrong.
    ///
    /// # Errors
    /// `Internal` when the catalogue in the binary is broken.
    pub fn problems(&self) -> Result<Vec<Problem>> {
        Ok(self.catalogue()?.problems)
    }

    /// An image and the text of its lock, whether or not it is made on this machine.
    ///
    /// # Errors
    /// `UnknownImage` naming the images there are.
    pub fn locked(&self, uri: &str) -> Result<(ImageInfo, String)> {
        let catalogue = self.catalogue()?;
        let entry = catalogue.find(uri)?;
        Ok((entry.info.clone(), entry.lock.clone()))
    }

    /// The catalogue as it is now.
    fn catalogue(&self) -> Result<Catalogue> {
        let catalogue = Catalogue::read(self.own.as_deref())?;
        if let Ok(mut told) = self.told.lock()
            && *told != catalogue.problems
        {
            for problem in &catalogue.problems {
                tracing::warn!(
                    file = %problem.path.display(),
                    wrong = problem.wrong,
                    "a file of the own catalogue is left out"
                );
            }
            told.clone_from(&catalogue.problems);
        }
        Ok(catalogue)
    }

    fn known(&self, entry: &Digest) -> Option<ResolvedImage> {
        let known = self.known.lock().ok()?.get(entry).cloned()?;
        let layout = &self.options.layout;
        let there = layout.rootfs(&known.rootfs).is_dir()
            && layout.interpreter(&known.interpreter).is_dir();
        there.then_some(known)
    }
}

#[async_trait]
impl Images for LocalImages {
    fn list(&self) -> Vec<ImageInfo> {
        match self.catalogue() {
            Ok(catalogue) => catalogue.entries.into_iter().map(|e| e.info).collect(),
            Err(e) => {
                tracing::error!(chain = e.chain(), "reading the catalogue");
                vec![]
            }
        }
    }

    async fn disk(&self, uri: &str) -> Result<Option<(u64, u64)>> {
        let catalogue = self.catalogue()?;
        if names_registry(uri) && !catalogue.has(uri) {
            return disk::of_base(&self.options.layout, uri).await;
        }
        let entry = catalogue.find(uri)?;
        let others: Vec<&Entry> = catalogue.entries.iter().filter(|e| *e != entry).collect();
        disk::of(&self.options.layout, entry, &others).await
    }

    async fn toolchain(&self, image: &ResolvedImage, log: &LogSink) -> Result<Digest> {
        if image.base.is_some() {
            return Ok(image.rootfs.clone());
        }
        let recipe = match self.catalogue()?.find(&image.info.uri) {
            Ok(entry) => Recipe::of(&entry.tag),
            Err(_) => Recipe::of_packages(&image.info.debian),
        };
        let (layout, mirror) = (&self.options.layout, self.options.mirror.as_deref());
        rootfs::ensure(layout, &recipe.with_toolchain(), mirror, log).await
    }

    async fn ensure(&self, uri: &str, log: &LogSink) -> Result<ResolvedImage> {
        let catalogue = self.catalogue()?;
        if names_registry(uri) && !catalogue.has(uri) {
            return base::ensure(&self.options, uri, log).await;
        }
        let entry = catalogue.find(uri)?;
        let key = entry.digest();
        if let Some(image) = self.known(&key) {
            return Ok(image);
        }
        let layout = &self.options.layout;
        luthier_host::sweep(&layout.staging())?;
        let recipe = Recipe::of(&entry.tag);
        let rootfs = rootfs::ensure(layout, &recipe, self.options.mirror.as_deref(), log).await?;
        let interpreter = interpreter::ensure(layout, &entry.info.python, log).await?;
        let image = ResolvedImage {
            info: entry.info.clone(),
            digest: Digest::of_fields([rootfs.as_str(), interpreter.as_str(), &entry.lock]),
            rootfs,
            interpreter,
            lock: entry.lock.clone(),
            base: None,
        };
        if let Ok(mut known) = self.known.lock() {
            known.insert(key, image.clone());
        }
        Ok(image)
    }
}
