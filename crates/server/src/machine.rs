//! This machine: the adapters that work on it, put together. `serve` uses them through the core;
//! `luthier run`, `doctor` and `purge` use them as they are.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use luthier_host::FileLock;
use luthier_images::{Options as ImageOptions, oci::Credentials, runner_layer};
use luthier_ports::{
    ContainerId, ContainerRuntime, ContainerSpec, EnvBuilder as _, Exit, ImageStatus, Images as _,
    LockRequest, Mount, Network,
};
use luthier_pyenv::{Options as EnvOptions, UvEnvs};
use luthier_runtime_oci::{OciRuntime, Options as RuntimeOptions};
use luthier_types::{
    Code, Digest, Error, Mebibytes, Millicpu, RequirementFiles, Result,
    layout::{CacheLayout, container},
};
use tokio::time::timeout;
use uuid::Uuid;

pub use luthier_host::mask_credentials;
pub use luthier_images::{Change, LocalImages};
pub use luthier_ports::AllowedRegistries;
pub use luthier_ports::LogSink;
pub use luthier_pyenv::Sources;

/// How long what a killed server was about to start may outlive it.
const LAST_OF_THE_KILLED: Duration = Duration::from_secs(2);

/// Where things lie on this machine.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// Directory of all state.
    pub data: PathBuf,
    /// Directory of layers; `data/cache` when `None`.
    pub cache: Option<PathBuf>,
    /// Where containers are remembered; `data/containers` when `None`.
    pub containers: Option<PathBuf>,
}

/// The adapters of this machine.
pub struct Machine {
    /// Directory of all state.
    pub data: PathBuf,
    /// Where layers lie.
    pub layout: CacheLayout,
    /// The catalogue.
    pub images: Arc<LocalImages>,
    /// Environments.
    pub envs: Arc<UvEnvs>,
    /// Containers.
    pub runtime: Arc<OciRuntime>,
}

/// Where images come from beside the catalogue.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Registries whose images may be named.
    pub allowed: AllowedRegistries,
    /// Logins at them.
    pub credentials: Credentials,
}

impl Registries {
    /// Those of `allowed` (see [`AllowedRegistries::parse`]), with the logins of a file, or of the
    /// user when none is named.
    ///
    /// # Errors
    /// `BadRequest` naming the entry, or the file that is none.
    pub fn new(allowed: &[String], logins: Option<&Path>) -> Result<Self> {
        let allowed = AllowedRegistries::parse(allowed)?;
        let credentials = match logins {
            Some(path) => Credentials::read(path)?,
            None if allowed.is_empty() => Credentials::default(),
            None => Credentials::of_user()?,
        };
        Ok(Self {
            allowed,
            credentials,
        })
    }

    /// The settings in this process's environment: `LUTHIER_ALLOWED_REGISTRIES` (separated by
    /// spaces) and `LUTHIER_REGISTRY_AUTH`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_env() -> Result<Self> {
        let allowed = std::env::var("LUTHIER_ALLOWED_REGISTRIES").unwrap_or_default();
        let allowed: Vec<String> = allowed.split_whitespace().map(str::to_owned).collect();
        let logins = std::env::var_os("LUTHIER_REGISTRY_AUTH").map(PathBuf::from);
        Self::new(&allowed, logins.as_deref())
    }
}

/// Layers on which a command can run.
#[derive(Clone, Debug)]
pub struct Layers {
    rootfs: PathBuf,
    interpreter: PathBuf,
    env: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Machine {
    /// Opens the machine, making the directories that are missing. Packages and images come from
    /// where this process's environment says ([`Sources::from_env`], [`Registries::from_env`]), and
    /// containers have their cgroups below `LUTHIER_CGROUP_PARENT`, or `luthier`.
    ///
    /// # Errors
    /// `Internal` when a directory cannot be made; `ContainerFailed` when this machine has no
    /// container runtime; `BadRequest` when a setting names what is not there.
    pub fn open(options: &MachineOptions) -> Result<Self> {
        Self::open_with(options, Sources::from_env(), Registries::from_env()?)
    }

    /// As [`open`](Self::open), with packages from `sources` and images from `registries`.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_with(
        options: &MachineOptions,
        sources: Sources,
        registries: Registries,
    ) -> Result<Self> {
        let sources = sources.checked()?;
        let is_new = !options.data.exists();
        let data = absolute(&options.data)?;
        if is_new {
            // Uploads, the token and the sockets of models are nobody else's business.
            fs_err::set_permissions(&data, std::fs::Permissions::from_mode(0o700))
                .map_err(|e| Error::internal("closing the data directory to others", e))?;
        }
        let cache = match &options.cache {
            Some(cache) => absolute(cache)?,
            None => absolute(&data.join("cache"))?,
        };
        let containers = options
            .containers
            .clone()
            .unwrap_or_else(|| data.join("containers"));
        let layout = CacheLayout::new(cache).with_own(&data);
        let shim = std::env::current_exe()
            .map_err(|e| Error::internal("finding this program's own file", e))?;
        let mut runtime_options = RuntimeOptions::new(containers, shim);
        if let Some(parent) = cgroup_parent(std::env::var("LUTHIER_CGROUP_PARENT").ok())? {
            runtime_options.cgroup_parent = parent;
        }
        let runtime = Arc::new(OciRuntime::new(runtime_options)?);
        let mut image_options = ImageOptions::new(layout.clone());
        image_options.runtime = Some(runtime.clone());
        image_options.registries = registries.allowed;
        image_options.credentials = registries.credentials;
        let images = LocalImages::new(image_options)?;
        let images = Arc::new(images.with_own(own_images(&data)));
        let mut env_options = EnvOptions::new(layout.clone());
        env_options.runtime = Some(runtime.clone());
        env_options.images = Some(images.clone());
        env_options.sources = sources;
        let envs = Arc::new(UvEnvs::new(env_options));
        Ok(Self {
            data,
            layout,
            images,
            envs,
            runtime,
        })
    }

    /// The operator's own directory of images, read over the catalogue.
    pub fn own_images(&self) -> PathBuf {
        own_images(&self.data)
    }

    /// The images that are still to be chosen.
    pub fn current_images(&self) -> Vec<String> {
        let images = self.images.list().into_iter();
        images
            .filter(|image| image.status == ImageStatus::Current)
            .map(|image| image.uri)
            .collect()
    }

    /// Makes sure that no other server or command works on the data directory. One that has just
    /// been killed may have been starting a process, which holds the lock until it is another
    /// program: so this waits a moment.
    ///
    /// # Errors
    /// `Conflict` when one does.
    pub async fn lock_data(&self) -> Result<FileLock> {
        let lock = self.data.join("server.lock");
        timeout(LAST_OF_THE_KILLED, FileLock::acquire(&lock))
            .await
            .unwrap_or_else(|_| {
                let cause = format!(
                    "another server uses the data directory {}",
                    self.data.display()
                );
                Err(Error::new(Code::Conflict, cause)
                    .hint("Stop it first, or give --data another directory."))
            })
    }

    /// Writes the runner layer and gives its digest.
    ///
    /// # Errors
    /// `Internal` when it cannot be written.
    pub fn runner(&self) -> Result<Digest> {
        runner_layer::materialise(&self.layout)?;
        Ok(runner_layer::digest().clone())
    }

    /// Builds the environment of `requirements` on an image.
    ///
    /// # Errors
    /// Those of the image and environment ports.
    pub async fn environment(
        &self,
        image: &str,
        requirements: RequirementFiles,
        log: &LogSink,
    ) -> Result<Layers> {
        let image = self.images.ensure(image, log).await?;
        let request = LockRequest {
            image: image.clone(),
            requirements,
            wheels_only: false,
        };
        let lock = self.envs.lock(&request, log).await?;
        let env = self.envs.build(&lock, &image, log).await?;
        Ok(Layers {
            rootfs: self.layout.rootfs(&image.rootfs),
            interpreter: self.layout.interpreter(&image.interpreter),
            env,
            variables: image.variables(),
        })
    }

    /// A host directory seen at `target`.
    pub fn mount(&self, source: &Path, target: &str, read_only: bool) -> Mount {
        Mount {
            source: source.to_owned(),
            target: target.into(),
            read_only,
        }
    }

    /// Runs `command` on `layers` in the package directory, without network, handing each line of
    /// its output to `on_line`, and removes the container at the end.
    ///
    /// # Errors
    /// `ContainerFailed` when it cannot be started.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one setting of the one container"
    )]
    pub async fn run_to_end(
        &self,
        layers: &Layers,
        mut mounts: Vec<Mount>,
        command: Vec<String>,
        mut env: BTreeMap<String, String>,
        memory: Mebibytes,
        cpu: Millicpu,
        on_line: impl FnMut(&str),
    ) -> Result<Exit> {
        for (name, value) in &layers.variables {
            env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        mounts.push(self.mount(&layers.interpreter, container::PYTHON, true));
        mounts.push(self.mount(&layers.env, container::ENV, true));
        let spec = ContainerSpec {
            id: ContainerId(format!("run-{}", Uuid::now_v7().simple())),
            rootfs: layers.rootfs.clone(),
            mounts,
            socket: None,
            args: command,
            env,
            cwd: container::PACKAGE.into(),
            memory,
            cpu,
            cpu_cap: false,
            pids: 512,
            scratch: Mebibytes(memory.0 / 2),
            network: Network::Loopback,
            labels: BTreeMap::new(),
        };
        let runtime: Arc<dyn ContainerRuntime> = self.runtime.clone();
        let ended = luthier_host::container::run(&runtime, &spec, None, on_line).await?;
        Ok(ended.exit)
    }

    /// Stops and removes every container; gives how many there were.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn remove_containers(&self) -> Result<usize> {
        let containers = self.runtime.list().await?;
        for container in &containers {
            self.runtime
                .stop(&container.id, Duration::from_secs(5))
                .await?;
            self.runtime.remove(&container.id).await?;
        }
        Ok(containers.len())
    }
}

/// Where the layers of a server with this data directory (and this cache, if it has one of its own)
/// lie. Makes nothing.
pub fn layout_of(data: &Path, cache: Option<&Path>) -> CacheLayout {
    CacheLayout::new(cache.map_or_else(|| data.join("cache"), Path::to_owned)).with_own(data)
}

/// The setting `LUTHIER_CGROUP_PARENT`, which becomes a path below every hierarchy.
fn cgroup_parent(setting: Option<String>) -> Result<Option<String>> {
    let plain = |name: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        name.chars().all(known) && !name.trim_matches('.').is_empty()
    };
    match setting {
        Some(parent) if !parent.split('/').all(plain) => Err(Error::new(
            Code::BadRequest,
            format!("LUTHIER_CGROUP_PARENT is no name of a cgroup: `{parent}`"),
        )
        .hint("Give a name such as `luthier`, or several with `/` between them.")),
        parent => Ok(parent),
    }
}

fn own_images(data: &Path) -> PathBuf {
    data.join("images")
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs_err::create_dir_all(path)
        .and_then(|()| fs_err::canonicalize(path))
        .map_err(|e| {
            Error::new(
                Code::BadRequest,
                format!("the directory {} cannot be used", path.display()),
            )
            .hint("Give a directory that can be written.")
            .source(e)
        })
}

#[cfg(test)]
mod tests {
    use super::cgroup_parent;

    #[test]
    fn a_cgroup_is_a_path_of_plain_names() {
        for good in ["luthier", "machine.slice/luthier-2"] {
            let given = cgroup_parent(Some(good.to_owned())).unwrap();
            assert_eq!(given.as_deref(), Some(good));
        }
        assert_eq!(cgroup_parent(None).unwrap(), None);
        for bad in ["", "/luthier", "a//b", "../luthier", "a b", "luthier/"] {
            assert!(cgroup_parent(Some(bad.to_owned())).is_err(), "{bad}");
        }
    }
}
