//! Containers.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    path::PathBuf,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_types::{Mebibytes, Millicpu, Resources, Result};
use serde::{Deserialize, Serialize};

/// Names a container within its runtime: 1 to 63 lower-case letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host directory seen inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Directory on the host.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Whether the container may write.
    pub read_only: bool,
}

/// What a container reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Only its own loopback.
    Loopback,
    /// The host's network; for building packages from source.
    Host,
}

/// What to run and within which bounds. Everything else is closed: read-only root, no
/// capabilities, no new privileges, seccomp, own user, pid, ipc, uts and mount namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique within the runtime.
    pub id: ContainerId,
    /// Root file system on the host, mounted read-only.
    pub rootfs: PathBuf,
    /// Directories mounted into it.
    pub mounts: Vec<Mount>,
    /// Where on the host the socket is on which the program listens. It gets the listener, as
    /// descriptor [`LISTENER`](luthier_types::runner::LISTENER), and nothing of the directory: it
    /// can neither fill that nor put something else in the socket's place.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Working directory inside.
    pub cwd: PathBuf,
    /// Hard limit of memory, swap included.
    pub memory: Mebibytes,
    /// CPU reservation, as a weight.
    pub cpu: Millicpu,
    /// Whether `cpu` is a hard cap as well.
    pub cpu_cap: bool,
    /// Most processes and threads.
    pub pids: u32,
    /// Size of the writable scratch space, a tmpfs on `/tmp`, which counts against `memory`.
    pub scratch: Mebibytes,
    /// What it reaches.
    pub network: Network,
    /// Labels that `list` gives back.
    pub labels: BTreeMap<String, String>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, if it exited by itself.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of it for want of memory.
    pub out_of_memory: bool,
    /// Most memory it used, in bytes.
    pub memory_peak: Option<u64>,
    /// Set when it could not be started, or its end was not seen: the cause.
    pub error: Option<String>,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Being made.
    Starting,
    /// Its first process, as the host numbers it, runs.
    Running {
        /// Process id on the host.
        pid: u32,
    },
    /// It ended.
    Exited(Exit),
}

/// A container as `list` and `status` see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its id.
    pub id: ContainerId,
    /// Labels of its spec.
    pub labels: BTreeMap<String, String>,
    /// Where it stands.
    pub state: ContainerState,
    /// Memory it uses now, in bytes, when running.
    pub memory: Option<u64>,
    /// Most memory it has used so far, in bytes, file cache included, when running.
    pub memory_peak: Option<u64>,
    /// CPU time it has used so far, when running.
    pub cpu_time: Option<Duration>,
    /// Its memory limit.
    pub memory_limit: Mebibytes,
}

/// What became of a wish to change what a container may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resized {
    /// It may use that now; its processes have gone on.
    Done,
    /// Nothing has changed; this is why. Another container must take its place.
    Refused(String),
}

/// A line of a container's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was written: later than the line before it, so that it says where one has read to.
    /// `None` where that was not recorded.
    pub at: Option<Timestamp>,
    /// Its text, without the end of the line.
    #[serde(rename = "line")]
    pub text: String,
}

/// Which lines of a log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// Only lines written after this.
    pub after: Option<Timestamp>,
    /// At most so many.
    pub lines: usize,
    /// Which, when there are more: the first or the last.
    pub end: LogEnd,
}

/// An end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// The oldest lines.
    First,
    /// The newest lines.
    Last,
}

impl LogPart {
    /// The last `lines` lines.
    pub const fn last(lines: usize) -> Self {
        Self {
            after: None,
            lines,
            end: LogEnd::Last,
        }
    }

    /// Picks the lines out of whole logs.
    pub fn pick(&self, lines: impl IntoIterator<Item = LogLine>) -> Vec<LogLine> {
        let mut kept = VecDeque::new();
        let wanted = lines.into_iter().filter(|line| {
            self.after
                .is_none_or(|after| line.at.is_some_and(|at| at > after))
        });
        for line in wanted {
            if kept.len() == self.lines {
                match self.end {
                    LogEnd::First => break,
                    LogEnd::Last => drop(kept.pop_front()),
                }
            }
            if self.lines > 0 {
                kept.push_back(line);
            }
        }
        kept.into()
    }
}

/// Runs containers on this machine or elsewhere.
///
/// **Guarantees:** containers outlive the server; a new runtime over the same state directory
/// sees them. A container that has ended keeps its status and logs until `remove`.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + 'static {
    /// Starts a container. Returns when it is accepted; `status` tells of the rest.
    ///
    /// **Guarantees:** idempotent: starting an id that exists changes nothing.
    ///
    /// # Errors
    /// `ContainerFailed` when this machine cannot start it, with the cause and next step.
    async fn start(&self, spec: &ContainerSpec) -> Result<()>;

    /// Changes what a running container may use, and its labels, while its processes go on. A hard
    /// cap of CPU stays one, and its environment variables and scratch space stay as they are.
    ///
    /// **Guarantees:** done wholly or refused. A memory limit below the most that the container ever
    /// used is refused, so that nothing dies of it and what has run within the limit can again. May
    /// be repeated. `list` and a later runtime over the same state give the new figures.
    ///
    /// # Errors
    /// When the runtime itself fails; the container then has the old or the new limits, and the wish
    /// may be repeated.
    async fn resize(
        &self,
        id: &ContainerId,
        resources: Resources,
        labels: &BTreeMap<String, String>,
    ) -> Result<Resized>;

    /// Ends a container: SIGTERM, and SIGKILL to all of it after `grace`. Returns when it has
    /// ended. No error when it has ended already or does not exist.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()>;

    /// Forgets an ended container with all it left: status, logs, cgroup, mounts, directories. A
    /// running one is killed first. No error when it does not exist.
    async fn remove(&self, id: &ContainerId) -> Result<()>;

    /// Every container, by id.
    async fn list(&self) -> Result<Vec<ContainerStatus>>;

    /// One container; `None` when it does not exist.
    async fn status(&self, id: &ContainerId) -> Result<Option<ContainerStatus>>;

    /// Lines of its output, oldest first, both streams as they were written. Empty when it does not
    /// exist. What has grown beyond the runtime's bound has lost its beginning.
    async fn read_log(&self, id: &ContainerId, part: LogPart) -> Result<Vec<LogLine>>;

    /// The text of the last `lines` lines of its output.
    async fn logs(&self, id: &ContainerId, lines: usize) -> Result<Vec<String>> {
        let lines = self.read_log(id, LogPart::last(lines)).await?;
        Ok(lines.into_iter().map(|line| line.text).collect())
    }
}
