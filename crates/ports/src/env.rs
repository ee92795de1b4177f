//! Environments: from requirements to a locked set of packages to a directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_types::{Digest, EnvId, RequirementFiles, Result};
use serde::{Deserialize, Serialize};

use crate::ResolvedImage;

/// Receives the lines of a step's log as they come.
#[derive(Clone)]
pub struct LogSink(Arc<dyn Fn(&str) + Send + Sync>);

impl LogSink {
    /// Hands each line to `f`, which must not block.
    pub fn new(f: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }

    /// Drops every line.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    /// Hands on one line.
    pub fn line(&self, line: impl AsRef<str>) {
        (self.0)(line.as_ref());
    }
}

/// What to resolve.
#[derive(Clone, Debug)]
pub struct LockRequest {
    /// The image below.
    pub image: ResolvedImage,
    /// The package's requirements; empty when it has none.
    pub requirements: RequirementFiles,
    /// Whether what has no wheel is refused (`RequirementsError`) instead of built.
    pub wheels_only: bool,
}

/// A resolved environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Its id.
    pub id: EnvId,
    /// Hashed requirements, one resolution for one interpreter and platform, no index lines.
    pub text: String,
    /// Digest of the image it is for.
    pub image: Digest,
    /// Where the package's requirements say that files come from, beside the server's indexes, as
    /// lines of a requirements file (`--extra-index-url https://…`); no credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
}

impl Lock {
    /// What it installs: names normalised as PEP 503 says, and versions. What is named by an
    /// address has the version its wheel's file name tells, or none (an empty text).
    pub fn versions(&self) -> BTreeMap<String, String> {
        self.text.lines().filter_map(pin).collect()
    }
}

/// The name and version of a lock's line, if it starts a pin.
fn pin(line: &str) -> Option<(String, String)> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))?;
    let (name, rest) = line.split_at(end);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let rest = rest.trim_start();
    let version = match rest.strip_prefix("==") {
        Some(version) => version.split([' ', ';', '\\']).next()?,
        None => rest
            .strip_prefix('@')?
            .split_whitespace()
            .next()
            .and_then(|address| address.rsplit('/').next())
            .and_then(|file| file.split('-').nth(1))
            .unwrap_or_default(),
    };
    Some((normalised(name), version.to_owned()))
}

/// A distribution's name as PEP 503 compares it: lower case, runs of `-`, `_` and `.` as one `-`.
pub fn normalised(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        if "-_.".contains(c) {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.push(c.to_ascii_lowercase());
        }
    }
    normal
}

/// An environment on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvInfo {
    /// Its id.
    pub id: EnvId,
    /// When it was built.
    pub built: Timestamp,
    /// Minor version of its Python, for example `3.11`.
    pub python: String,
    /// How many distributions are in it.
    pub packages: usize,
    /// Bytes of all its files.
    pub bytes: u64,
    /// Bytes of the files that no other environment and no cache holds: what removing it frees.
    pub alone: u64,
}

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Environments that are gone.
    pub environments: Vec<EnvId>,
    /// Bytes that are free again, caches included.
    pub bytes: u64,
}

/// Resolves and builds environments.
#[async_trait]
pub trait EnvBuilder: Send + Sync + 'static {
    /// Resolves the package's requirements over the image's.
    ///
    /// **Guarantees:** no code of any package runs outside a container.
    ///
    /// # Errors
    /// `RequirementsError` with the resolver's own explanation; `IndexUnreachable`.
    async fn lock(&self, request: &LockRequest, log: &LogSink) -> Result<Lock>;

    /// Builds the environment of `lock` on `image`; its directory is the layout's
    /// [`env`](luthier_types::layout::CacheLayout::env) of the lock's id.
    ///
    /// **Guarantees:** idempotent and a no-op when it exists; concurrent calls build once; killed
    /// at any instant, the environment is whole or absent.
    ///
    /// # Errors
    /// `RequirementsError` with the installer's output; `IndexUnreachable`.
    async fn build(&self, lock: &Lock, image: &ResolvedImage, log: &LogSink) -> Result<PathBuf>;

    /// The environments on this machine, oldest first.
    ///
    /// # Errors
    /// `Internal` when they cannot be read.
    async fn list(&self) -> Result<Vec<EnvInfo>>;

    /// What is in an environment, as a CycloneDX 1.6 document; `None` when it is not there.
    ///
    /// # Errors
    /// `Internal` when it cannot be read.
    async fn sbom(&self, id: &EnvId) -> Result<Option<serde_json::Value>>;

    /// Removes every environment not in `keep`, and what the caches hold only for those.
    ///
    /// **Guarantees:** never removes one in `keep`, nor one that is being built; killed at any
    /// instant, each environment is whole or absent.
    ///
    /// # Errors
    /// `Internal` when one cannot be removed.
    async fn collect(&self, keep: &BTreeSet<EnvId>, log: &LogSink) -> Result<Collected>;
}
