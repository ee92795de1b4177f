//! Where things lie: content-addressed layers on the host, and their places inside a container.
//! Paths only; nothing here touches the file system.

use std::path::{Path, PathBuf};

use crate::{Digest, EnvId};

/// Paths inside a container.
pub mod container {
    /// The interpreter layer: a whole CPython installation.
    pub const PYTHON: &str = "/opt/luthier/python";
    /// The environment layer: a virtual environment whose interpreter is [`PYTHON`].
    pub const ENV: &str = "/opt/luthier/env";
    /// The interpreter of the environment.
    pub const ENV_PYTHON: &str = "/opt/luthier/env/bin/python";
    /// The runner layer.
    pub const RUNNER: &str = "/opt/luthier/runner";
    /// The file that starts the runner; its one argument is [`CONFIG`].
    pub const RUNNER_MAIN: &str = "/opt/luthier/runner/main.py";
    /// The package layer.
    pub const PACKAGE: &str = "/opt/luthier/package";
    /// A read-only directory holding the runner's configuration.
    pub const CONFIG_DIR: &str = "/opt/luthier/config";
    /// The runner's configuration ([`crate::runner::RunnerConfig`] as JSON).
    pub const CONFIG: &str = "/opt/luthier/config/runner.json";
    /// An empty directory, for runtimes that cannot hand over a socket.
    pub const SOCKET_DIR: &str = "/run/luthier";
    /// The environment variable that tells a package its memory limit, in MiB. Programs that size
    /// themselves, as a Java virtual machine does, would take the host's memory for their own: the
    /// container sees no control groups.
    pub const MEMORY_VARIABLE: &str = "LUTHIER_MEMORY_MIB";
}

/// The directories of content-addressed layers. Each layer is complete or absent: it is made
/// beside its place and renamed into it.
#[derive(Clone, Debug)]
pub struct CacheLayout {
    root: PathBuf,
    own: PathBuf,
}

impl CacheLayout {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            own: root.clone(),
            root,
        }
    }

    /// Keeps packages below `own`, which belongs to one server. What lies below the root can be made
    /// again by anyone, and servers may share it.
    #[must_use]
    pub fn with_own(mut self, own: impl Into<PathBuf>) -> Self {
        self.own = own.into();
        self
    }

    /// The directory below which everything lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A base root file system.
    pub fn rootfs(&self, digest: &Digest) -> PathBuf {
        self.root.join("rootfs").join(digest.as_str())
    }

    /// An interpreter; holds `bin/python3`.
    pub fn interpreter(&self, digest: &Digest) -> PathBuf {
        self.root.join("interpreters").join(digest.as_str())
    }

    /// A built environment.
    pub fn env(&self, id: &EnvId) -> PathBuf {
        self.root.join("envs").join(id.0.as_str())
    }

    /// The runner's files.
    pub fn runner(&self, digest: &Digest) -> PathBuf {
        self.root.join("runners").join(digest.as_str())
    }

    /// An unpacked package.
    pub fn package(&self, digest: &Digest) -> PathBuf {
        self.packages().join(digest.as_str())
    }

    /// Where unpacked packages lie.
    pub fn packages(&self) -> PathBuf {
        self.own.join("packages")
    }

    /// Where a server makes and removes packages, on their file system, and keeps temporary files. It
    /// empties it when it starts.
    pub fn scratch(&self) -> PathBuf {
        self.own.join("scratch")
    }

    /// Where layers are made before they are renamed into place; on the same file system.
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// The package installer's own cache; on the same file system, so that it can hard-link.
    pub fn installer_cache(&self) -> PathBuf {
        self.root.join("uv")
    }
}
