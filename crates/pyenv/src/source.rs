//! Packages that the index has as source only: built into wheels inside a container.
//!
//! The container has the image's file system with compilers, its interpreter, a cache of its own, a
//! way to the hosts of the indexes and nothing else: what a build leaves in a shared cache would be
//! installed for others. Credentials of the server's indexes stay outside, so an index that asks for
//! them serves wheels only. The host installs what comes out without running anything of it.

mod container;
mod gate;
mod wheels;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use luthier_host::Staged;
use luthier_ports::{ContainerRuntime, Lock, LogSink, ResolvedImage};
use luthier_types::{Code, Error, Result};

pub(crate) use container::shown;
pub(crate) use wheels::{Read, used};

use crate::{
    UvEnvs,
    failure::{self, Asked, Kind},
    lockfile,
};
use wheels::Inputs;

/// Most rounds in which one more package turns out to need building.
const ROUNDS: usize = 10;

/// Builds for one image.
pub(crate) struct Builder<'a> {
    pub(crate) envs: &'a UvEnvs,
    pub(crate) image: &'a ResolvedImage,
    pub(crate) runtime: &'a Arc<dyn ContainerRuntime>,
    /// Where the requirements say that files come from.
    pub(crate) origins: &'a [String],
}

/// The builder of an image's wheels, if there is a runtime to build in.
pub(crate) fn builder<'a>(
    envs: &'a UvEnvs,
    image: &'a ResolvedImage,
    origins: &'a [String],
) -> Option<Builder<'a>> {
    let runtime = envs.options.runtime.as_ref()?;
    Some(Builder {
        envs,
        image,
        runtime,
        origins,
    })
}

impl Builder<'_> {
    /// Resolves the files in `inputs` by `uv` with the arguments `resolve`, building the packages
    /// `names`, and others that turn out to need it and that `may` be built; keeps their wheels.
    /// Returns the lock.
    pub(crate) async fn lock(
        &self,
        inputs: &Path,
        resolve: &[String],
        mut names: BTreeSet<String>,
        may: impl Fn(&BTreeSet<String>) -> Result<()> + Send + Sync,
        asked: &Asked<'_>,
        log: &LogSink,
    ) -> Result<String> {
        for _ in 0..ROUNDS {
            may(&names)?;
            say(&names, log);
            let staged = Staged::new(&self.envs.layout().staging(), "source")?;
            let ran = self.run(&staged, inputs, resolve, &names, log).await?;
            if ran.outcome.success() {
                let work = staged.scratch().join("work");
                let lock = fs_err::read_to_string(work.join("lock.txt"))
                    .map_err(|e| Error::internal("reading the lock", e))?;
                let lock = lockfile::canonical(&lock);
                self.keep(&work, &lock, &names).await?;
                return Ok(lock);
            }
            let before = names.len();
            names.extend(failure::needs_build(&ran.outcome));
            if failure::classify(&ran.outcome) != Kind::NeedsBuild || names.len() == before {
                return Err(ran.error(asked));
            }
        }
        Err(too_many())
    }

    /// Builds the pins of `lock` that `names` names, and keeps their wheels.
    pub(crate) async fn build(
        &self,
        lock: &str,
        names: &BTreeSet<String>,
        asked: &Asked<'_>,
        log: &LogSink,
    ) -> Result<()> {
        say(names, log);
        let staged = Staged::new(&self.envs.layout().staging(), "source")?;
        let inputs = Staged::new(&self.envs.layout().staging(), "source-lock")?;
        fs_err::write(inputs.scratch().join("lock.txt"), lock)
            .map_err(|e| Error::internal("writing the lock", e))?;
        let ran = self.run(&staged, inputs.scratch(), &[], names, log).await?;
        if !ran.outcome.success() {
            return Err(ran.error(asked));
        }
        self.keep(&staged.scratch().join("work"), lock, names).await
    }

    async fn keep(&self, work: &Path, lock: &str, names: &BTreeSet<String>) -> Result<()> {
        let layout = self.envs.layout().clone();
        let (cache, lock) = (work.join("cache"), lock.to_owned());
        let (names, image) = (names.clone(), self.image.clone());
        tokio::task::spawn_blocking(move || wheels::keep(&layout, &lock, &names, &image, &cache))
            .await
            .map_err(|e| Error::internal("keeping built wheels", e))?
    }
}

/// What the installer is given for `lock`: the wheels that were built here are as they were made.
pub(crate) async fn inputs(
    envs: &UvEnvs,
    lock: &Lock,
    image: &ResolvedImage,
    log: &LogSink,
) -> Result<Inputs> {
    loop {
        let inputs = wheels::inputs(envs.layout(), &lock.text, image);
        if !discard_damaged(envs, &inputs, Read::Changed, log).await? {
            return Ok(inputs);
        }
    }
}

/// See [`wheels::discard_damaged`].
pub(crate) async fn discard_damaged(
    envs: &UvEnvs,
    inputs: &Inputs,
    read: Read,
    log: &LogSink,
) -> Result<bool> {
    let (layout, log) = (envs.layout().clone(), log.clone());
    let wheels = inputs.wheels.clone();
    tokio::task::spawn_blocking(move || wheels::discard_damaged(&layout, &wheels, read, &log))
        .await
        .map_err(|e| Error::internal("reading the wheels that were built here", e))?
}

/// Builds what a lock still needs before it can be installed, when an installation that may build
/// nothing ended as `ended` tells. Returns whether anything was built.
pub(crate) async fn build_missing(
    envs: &UvEnvs,
    lock: &Lock,
    image: &ResolvedImage,
    names: &BTreeSet<String>,
    log: &LogSink,
) -> Result<bool> {
    match builder(envs, image, &lock.origins) {
        Some(builder) if !names.is_empty() => {
            let asked = Asked {
                uri: &image.info.uri,
                ..Asked::default()
            };
            builder.build(&lock.text, names, &asked, log).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn say(names: &BTreeSet<String>, log: &LogSink) {
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    log.line(format!(
        "no wheel for {}; building from source in a container",
        list.join(", ")
    ));
}

fn too_many() -> Error {
    Error::new(
        Code::RequirementsError,
        "too many requirements have no ready-made wheel",
    )
    .hint("Pin versions that have wheels, in requirements.txt.")
}
