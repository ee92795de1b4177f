//! Environments: from requirements to a locked set of packages to a directory.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use luthier_types::{Digest, EnvId, Result};
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
    /// The package's `requirements.txt`, if it has one.
    pub requirements: Option<String>,
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
}
