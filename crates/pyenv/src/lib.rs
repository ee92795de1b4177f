//! Environments: a package's requirements over an image's libraries, resolved and hash-locked,
//! then built as a directory that is mounted read-only into containers.
//!
//! `uv` does the resolving and installing. On the host it is never let to build anything, so no
//! code of a package runs there.
//!
//! **What a lock follows.** A library that the package names replaces the image's pin of it; the
//! image's other top-level pins hold; everything else stays at the version of the image's lock as
//! long as that fits. The same requirements on the same image from the same sources give the same
//! lock for the life of the cache, so that deploying again changes nothing: an unpinned requirement
//! moves only when the text, the image or the server's sources do.
//!
//! **Where things lie**, below the layout's root: `envs/` environments, `requirements/` resolved
//! locks by the digest of what was asked, `wheels/` wheels built from source by their pin,
//! `bytecode/` compiled modules by the digest of their distribution, `checked/` what was compared with
//! its record, `uv/` the installer's own cache. Environments share files with `bytecode/` and `uv/` by
//! hard links.

#![forbid(unsafe_code)]

mod base;
mod bytecode;
mod collect;
mod disk;
mod failure;
mod heal;
mod install;
mod installed;
mod lockfile;
mod requirements;
mod resolve;
mod sbom;
mod source;
mod sources;
mod store;
mod verify;

pub use sources::Sources;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use luthier_host::{Program, find_uv};
use luthier_ports::{
    Collected, ContainerRuntime, EnvBuilder, EnvInfo, Images, Lock, LockRequest, LogSink,
    ResolvedImage,
};
use luthier_types::{Code, EnvId, Error, RequirementFiles, Result, layout::CacheLayout};

/// Whether a package's requirements are in a form that can be resolved; looks nothing up.
///
/// # Errors
/// `RequirementsError` naming file and line.
pub fn check_requirements(files: &RequirementFiles) -> Result<()> {
    requirements::Requirements::parse(files).map(drop)
}

/// What [`UvEnvs`] needs.
#[derive(Clone)]
pub struct Options {
    /// Where layers lie.
    pub layout: CacheLayout,
    /// The `uv` program; `None` looks for it (see [`luthier_host::find_uv`]) at each use.
    pub uv: Option<PathBuf>,
    /// Where packages come from.
    pub sources: Sources,
    /// Builds packages that have no wheel, in a container; `None` refuses them.
    pub runtime: Option<Arc<dyn ContainerRuntime>>,
    /// Gives the build containers their compilers; `None` builds in the image's own file system.
    pub images: Option<Arc<dyn Images>>,
    /// How long a resolution may take.
    pub lock_limit: Duration,
    /// How long downloading and installing may take.
    pub build_limit: Duration,
}

impl Options {
    /// The usual limits, `uv` looked for, no runtime.
    pub fn new(layout: CacheLayout) -> Self {
        Self {
            layout,
            uv: None,
            sources: Sources::default(),
            runtime: None,
            images: None,
            lock_limit: Duration::from_secs(10 * 60),
            build_limit: Duration::from_secs(30 * 60),
        }
    }
}

/// Environments made by `uv`.
#[derive(Clone)]
pub struct UvEnvs {
    options: Options,
}

impl UvEnvs {
    /// Environments below the layout of `options`.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// What they were made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn layout(&self) -> &CacheLayout {
        &self.options.layout
    }

    /// A run of `uv` with this cache, and with the server's settings but for those of where packages
    /// come from: [`Sources::apply`] adds them after the subcommand.
    fn uv(&self) -> Result<Program> {
        let path = self.options.uv.clone().or_else(find_uv).ok_or_else(|| {
            Error::new(
                Code::ImageUnavailable,
                "uv, which resolves and installs packages, is not installed",
            )
            .hint("Install it: `pip install uv`, or set LUTHIER_UV to its path.")
        })?;
        Ok(sources::without(luthier_host::uv(&path))
            .env("UV_CACHE_DIR", self.layout().installer_cache()))
    }

    /// Held by whoever builds, asks for or removes the environment.
    fn lock_of(&self, id: &EnvId) -> PathBuf {
        self.layout().root().join(format!("locks/env-{id}.lock"))
    }

    /// Shared by builds; held alone by who removes from the caches.
    fn caches_lock(&self) -> PathBuf {
        self.layout().root().join("locks/caches.lock")
    }

    /// The interpreter that resolves, installs and compiles for the image on the host.
    fn interpreter(&self, image: &ResolvedImage) -> PathBuf {
        self.layout()
            .interpreter(image.host_interpreter())
            .join("bin/python3")
    }
}

/// The platform of every environment built on this machine.
fn platform() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

#[async_trait]
impl EnvBuilder for UvEnvs {
    async fn lock(&self, request: &LockRequest, log: &LogSink) -> Result<Lock> {
        resolve::lock(self, request, log).await
    }

    async fn build(&self, lock: &Lock, image: &ResolvedImage, log: &LogSink) -> Result<PathBuf> {
        install::build(self, lock, image, log).await
    }

    async fn list(&self) -> Result<Vec<EnvInfo>> {
        store::list(self).await
    }

    async fn sbom(&self, id: &EnvId) -> Result<Option<serde_json::Value>> {
        store::sbom(self, id).await
    }

    async fn collect(&self, keep: &BTreeSet<EnvId>, log: &LogSink) -> Result<Collected> {
        collect::collect(self, keep, log).await
    }
}
