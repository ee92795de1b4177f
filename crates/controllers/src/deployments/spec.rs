//! From a revision to the container of one replica, and back from a container's labels.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use luthier_ports::{ContainerId, ContainerSpec, Mount, Network};
use luthier_store::deployments::Revision;
use luthier_types::{
    DeploymentId, Error, Mebibytes, Millicpu, ModelId, ReplicaId, Resources, Result, RevisionId,
    layout::{CacheLayout, container},
    runner::{self, RunnerConfig},
};

use super::{Settings, plan::Template};

const DEPLOYMENT: &str = "luthier.deployment";
const MODEL: &str = "luthier.model";
const REVISION: &str = "luthier.revision";
const REPLICA: &str = "luthier.replica";
const CPU: &str = "luthier.cpu";
const MEMORY: &str = "luthier.memory";
/// For who asks which environments are in use.
const ENVIRONMENT: &str = "luthier.environment";

/// Most processes and threads of a replica.
pub(super) const PIDS: u32 = 512;

/// Longest path of a Unix socket, without the terminating zero.
const LONGEST_SOCKET: usize = 107;

/// Who a container is, as its labels say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) deployment: DeploymentId,
    pub(super) model: ModelId,
    pub(super) replica: ReplicaId,
    pub(super) template: Template,
}

/// Whether a container is some deployment's replica.
pub(super) fn is_replica(labels: &BTreeMap<String, String>) -> bool {
    labels.contains_key(DEPLOYMENT)
}

/// Reads the labels of a replica; `None` when one is missing or wrong.
pub(super) fn identity(labels: &BTreeMap<String, String>) -> Option<Identity> {
    fn read<T: std::str::FromStr>(labels: &BTreeMap<String, String>, label: &str) -> Option<T> {
        labels.get(label)?.parse().ok()
    }
    Some(Identity {
        deployment: read::<DeploymentId>(labels, DEPLOYMENT)?,
        model: read::<ModelId>(labels, MODEL)?,
        replica: read::<ReplicaId>(labels, REPLICA)?,
        template: Template {
            revision: read::<RevisionId>(labels, REVISION)?,
            resources: Resources {
                cpu: Millicpu(read(labels, CPU)?),
                memory: Mebibytes(read(labels, MEMORY)?),
            },
            outside: None,
        },
    })
}

/// The labels of a replica.
pub(super) fn labels(id: &Identity, revision: &Revision) -> BTreeMap<String, String> {
    [
        (DEPLOYMENT, id.deployment.to_string()),
        (MODEL, id.model.to_string()),
        (REVISION, id.template.revision.to_string()),
        (REPLICA, id.replica.to_string()),
        (CPU, id.template.resources.cpu.0.to_string()),
        (MEMORY, id.template.resources.memory.0.to_string()),
        (ENVIRONMENT, revision.env.to_string()),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into()
}

/// The container of a replica.
pub(super) fn container_id(replica: ReplicaId) -> ContainerId {
    ContainerId(format!("r-{}", replica.0.simple()))
}

/// The directories of one replica on the host.
#[derive(Clone, Debug)]
pub(super) struct RunDir(PathBuf);

impl RunDir {
    pub(super) fn new(run: &Path, replica: ReplicaId) -> Self {
        Self(run.join(replica.0.simple().to_string()))
    }

    /// The replicas that have one below `run`.
    pub(super) fn list(run: &Path) -> Result<Vec<ReplicaId>> {
        let read = || {
            let mut found = vec![];
            for entry in fs_err::read_dir(run)? {
                let name = entry?.file_name();
                let id = name.to_str().and_then(|n| uuid::Uuid::try_parse(n).ok());
                found.extend(id.map(ReplicaId));
            }
            Ok::<_, std::io::Error>(found)
        };
        match read() {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::internal("listing the replicas' directories", e))
            }
            found => Ok(found.unwrap_or_default()),
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("s/runner.sock")
    }

    /// Makes the directories and writes the runner's configuration.
    pub(super) fn prepare(&self, config: &RunnerConfig) -> Result<()> {
        let json = serde_json::to_vec(config)
            .map_err(|e| Error::internal("writing a replica's configuration", e))?;
        let write = || {
            // Whoever the container runs as must be able to read its configuration, and no more.
            for (dir, mode) in [("config", 0o755), ("s", 0o700)] {
                let dir = self.0.join(dir);
                fs_err::create_dir_all(&dir)?;
                fs_err::set_permissions(&dir, std::fs::Permissions::from_mode(mode))?;
            }
            fs_err::set_permissions(&self.0, std::fs::Permissions::from_mode(0o755))?;
            let file = self.0.join("config/runner.json");
            fs_err::write(&file, json)?;
            fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o644))
        };
        write().map_err(|e: std::io::Error| Error::internal("making a replica's directories", e))
    }

    /// Removes them; no error when they are not there.
    pub(super) fn remove(&self) -> Result<()> {
        match fs_err::remove_dir_all(&self.0) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::internal("removing a replica's directories", e))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// `Internal` when sockets below `run` would have a path longer than the system takes.
    pub(super) fn check(run: &Path) -> Result<()> {
        let longest = Self::new(run, ReplicaId(uuid::Uuid::nil())).socket();
        if longest.as_os_str().len() <= LONGEST_SOCKET {
            return Ok(());
        }
        let most = LONGEST_SOCKET - (longest.as_os_str().len() - run.as_os_str().len());
        Err(Error::new(
            luthier_types::Code::ContainerFailed,
            format!(
                "the path of the data directory is too long for Unix sockets: `{}` may have {most} \
                 bytes",
                run.display()
            ),
        )
        .hint("Start the server with a shorter --data."))
    }
}

/// What the runner reads at start.
pub(super) fn runner_config(revision: &Revision, settings: &Settings) -> RunnerConfig {
    RunnerConfig {
        package: container::PACKAGE.to_owned(),
        listen: format!("fd:{}", runner::LISTENER),
        inputs: revision.inputs.clone(),
        outputs: revision.outputs.clone(),
        threads: settings.runner_threads,
        max_body_bytes: settings.max_body_bytes,
    }
}

/// The container of replica `id`.
pub(super) fn container_spec(
    id: &Identity,
    revision: &Revision,
    layout: &CacheLayout,
    dir: &RunDir,
    settings: &Settings,
) -> ContainerSpec {
    let mount = |source: PathBuf, target: &str, read_only| Mount {
        source,
        target: target.into(),
        read_only,
    };
    let resources = id.template.resources;
    ContainerSpec {
        id: container_id(id.replica),
        rootfs: layout.rootfs(&revision.rootfs),
        mounts: vec![
            mount(
                layout.interpreter(&revision.interpreter),
                container::PYTHON,
                true,
            ),
            mount(layout.env(&revision.env), container::ENV, true),
            mount(layout.runner(&revision.runner), container::RUNNER, true),
            mount(layout.package(&revision.package), container::PACKAGE, true),
            mount(dir.0.join("config"), container::CONFIG_DIR, true),
        ],
        socket: Some(dir.socket()),
        args: runner::COMMAND.map(str::to_owned).into(),
        env: environment(resources, revision),
        cwd: container::PACKAGE.into(),
        memory: resources.memory,
        cpu: resources.cpu,
        cpu_cap: settings.cpu_cap,
        pids: PIDS,
        scratch: scratch(resources),
        network: Network::Loopback,
        labels: labels(id, revision),
    }
}

/// Size of a replica's scratch space.
pub(super) fn scratch(resources: Resources) -> Mebibytes {
    Mebibytes((resources.memory.0 / 2).min(256))
}

/// How many threads the libraries of a replica use: as many as the reservation has cores, not as
/// the machine has.
pub(super) fn threads(resources: Resources) -> u32 {
    resources.cpu.0.div_ceil(1000).max(1)
}

/// The environment variables of a replica.
fn environment(resources: Resources, revision: &Revision) -> BTreeMap<String, String> {
    let memory = resources.memory.0.to_string();
    let threads = threads(resources).to_string();
    let mut env: BTreeMap<String, String> = [
        (container::MEMORY_VARIABLE, memory.as_str()),
        ("OMP_NUM_THREADS", threads.as_str()),
        ("OPENBLAS_NUM_THREADS", threads.as_str()),
        ("MKL_NUM_THREADS", threads.as_str()),
        ("NUMEXPR_NUM_THREADS", threads.as_str()),
    ]
    .into_iter()
    .chain(runner::ENVIRONMENT)
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    env.extend(revision.variables.clone());
    // Some machines need it told which kernels their processor can run.
    if let Ok(core) = std::env::var("OPENBLAS_CORETYPE") {
        env.insert("OPENBLAS_CORETYPE".to_owned(), core);
    }
    env
}
