//! [`OciRuntime`]: the server's side. It starts shims, signals them and reads what they wrote.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use luthier_ports::{
    ContainerId, ContainerRuntime, ContainerSpec, ContainerState, ContainerStatus, Exit, LogLine,
    LogPart, Resized,
};
use luthier_types::{Code, Error, Evidence, Resources, Result};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::{
    cgroup::Cgroup,
    dir::{Dir, Stored},
    executor::MARK,
    logs, probe,
    process::ProcessId,
};

mod check;
mod launch;
mod resize;

/// How often a waiting `stop` looks.
const POLL: Duration = Duration::from_millis(10);

/// How long a killed container may take to be gone; the shim itself waits less for its cgroup.
const KILL_PATIENCE: Duration = Duration::from_secs(15);

/// Settings of an [`OciRuntime`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where containers are remembered; made if it is missing, for root alone. Must survive the
    /// server, and one runtime at a time may use it.
    pub state_dir: PathBuf,
    /// The program that, called as `<shim> shim <dir>`, calls [`crate::shim_main`].
    pub shim: PathBuf,
    /// Below which cgroup containers have theirs, such as `luthier`.
    pub cgroup_parent: String,
    /// Bound of the kept output of one container, in bytes.
    pub log_max_bytes: u64,
    /// First of the 65,536 host user ids that containers are mapped to. No user of the host may
    /// have one of them.
    pub uid_base: u32,
    /// Whether containers get a user namespace where the kernel allows it.
    pub user_namespaces: bool,
}

impl Options {
    /// The usual settings.
    pub fn new(state_dir: impl Into<PathBuf>, shim: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            shim: shim.into(),
            cgroup_parent: "luthier".to_owned(),
            log_max_bytes: 8 << 20,
            uid_base: 100_000,
            user_namespaces: true,
        }
    }
}

/// A [`ContainerRuntime`] on this machine, without a daemon.
pub struct OciRuntime {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    user_namespaces: bool,
    /// One per container being started or removed.
    locks: Mutex<HashMap<ContainerId, Arc<tokio::sync::Mutex<()>>>>,
    /// Held while the end of a container whose shim died is recorded.
    burial: Mutex<()>,
}

impl OciRuntime {
    /// A runtime over `options.state_dir`, with every container already there.
    ///
    /// # Errors
    /// `ContainerFailed` when the directory cannot be made or the process is not root's.
    pub fn new(mut options: Options) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::new(
                Code::ContainerFailed,
                "the embedded runtime needs root to make containers",
            )
            .hint("Run the server as root, or choose the Docker or Kubernetes runtime."));
        }
        options.state_dir = check::prepare_state(&options.state_dir)?;
        let refused = options
            .user_namespaces
            .then(|| probe::user_namespaces().err())
            .flatten();
        if let Some(cause) = &refused {
            tracing::warn!(
                %cause,
                "the kernel refuses user namespaces; containers run as an unprivileged host user"
            );
        }
        Ok(Self {
            inner: Arc::new(Inner {
                user_namespaces: options.user_namespaces && refused.is_none(),
                options,
                locks: Mutex::default(),
                burial: Mutex::default(),
            }),
        })
    }

    /// The host's user and group id of containers' processes: what they write belongs to it.
    pub fn host_uid(&self) -> u32 {
        self.inner.options.uid_base + crate::oci::UID
    }

    /// Runs blocking work on the thread pool for it.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|e| Error::internal(what, e))?
    }

    /// Waits until the container has ended and its shim is gone, or `patience` runs out; whether
    /// it has.
    async fn ended(&self, id: &ContainerId, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        loop {
            let id = id.clone();
            let over = self
                .blocking("waiting for a container's end", move |inner| {
                    inner.over(&id)
                })
                .await?;
            if over || Instant::now() >= deadline {
                return Ok(over);
            }
            sleep(POLL).await;
        }
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<()> {
        let id = id.clone();
        self.blocking("signalling a container", move |inner| {
            if let Some(shim) = inner.dir(&id).shim().map_err(unreadable)? {
                shim.signal(signal);
            }
            Ok(())
        })
        .await
    }

    /// Kills the container and waits until nothing of it runs.
    async fn kill(&self, id: &ContainerId) -> Result<()> {
        self.signal(id, Signal::SIGUSR1).await?;
        if self.ended(id, KILL_PATIENCE).await? {
            return Ok(());
        }
        // A shim that does not react; its container dies with it.
        tracing::warn!(%id, "a shim does not react and is killed");
        self.signal(id, Signal::SIGKILL).await?;
        if self.ended(id, KILL_PATIENCE).await? {
            return Ok(());
        }
        Err(Error::new(
            Code::ContainerFailed,
            format!("the container {id} does not end, even when killed"),
        )
        .hint("A process of it is likely stuck in the kernel; look at `dmesg`, and restart the machine if it stays."))
    }
}

#[async_trait]
impl ContainerRuntime for OciRuntime {
    async fn start(&self, spec: &ContainerSpec) -> Result<()> {
        check::spec(spec)?;
        let lock = self.inner.lock(&spec.id);
        let held = lock.lock_owned().await;
        let spec = spec.clone();
        // Runs to its end even when the caller goes away, so that nothing is left half made.
        self.blocking("starting a container", move |inner| {
            let _held = held;
            if inner.dir(&spec.id).stored().map_err(unreadable)?.is_some() {
                return Ok(());
            }
            inner.launch(&spec)
        })
        .await
    }

    async fn resize(
        &self,
        id: &ContainerId,
        resources: Resources,
        labels: &BTreeMap<String, String>,
    ) -> Result<Resized> {
        if !check::is_valid(id) {
            return Ok(Resized::Refused("there is no such container".to_owned()));
        }
        let held = self.inner.lock(id).lock_owned().await;
        let (id, labels) = (id.clone(), labels.clone());
        self.blocking("changing a container's limits", move |inner| {
            let _held = held;
            inner.resize(&id, resources, &labels)
        })
        .await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        if !check::is_valid(id) || self.ended(id, Duration::ZERO).await? {
            return Ok(());
        }
        self.signal(id, Signal::SIGTERM).await?;
        if self.ended(id, grace).await? {
            return Ok(());
        }
        self.kill(id).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        if !check::is_valid(id) {
            return Ok(());
        }
        let lock = self.inner.lock(id);
        let held = lock.lock_owned().await;
        if !self.ended(id, Duration::ZERO).await? {
            self.kill(id).await?;
        }
        let id = id.clone();
        self.blocking("removing a container", move |inner| {
            let _held = held;
            inner.forget(&id)
        })
        .await
    }

    async fn list(&self) -> Result<Vec<ContainerStatus>> {
        self.blocking("listing containers", |inner| {
            let mut all = vec![];
            let entries = fs_err::read_dir(&inner.options.state_dir).map_err(unreadable)?;
            for entry in entries {
                let name = entry.map_err(unreadable)?.file_name();
                let id = ContainerId(name.to_string_lossy().into_owned());
                if check::is_valid(&id) {
                    all.extend(inner.status(&id)?);
                }
            }
            all.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(all)
        })
        .await
    }

    async fn status(&self, id: &ContainerId) -> Result<Option<ContainerStatus>> {
        if !check::is_valid(id) {
            return Ok(None);
        }
        let id = id.clone();
        self.blocking("reading a container's status", move |inner| {
            inner.status(&id)
        })
        .await
    }

    async fn read_log(&self, id: &ContainerId, part: LogPart) -> Result<Vec<LogLine>> {
        if !check::is_valid(id) {
            return Ok(vec![]);
        }
        let id = id.clone();
        self.blocking("reading a container's output", move |inner| {
            logs::read(&inner.dir(&id).log(), part).map_err(unreadable)
        })
        .await
    }
}

impl Inner {
    fn dir(&self, id: &ContainerId) -> Dir {
        Dir::new(self.options.state_dir.join(&id.0))
    }

    fn lock(&self, id: &ContainerId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = lock(&self.locks);
        // Those that nobody waits for are dropped on the way.
        locks.retain(|_, held| Arc::strong_count(held) > 1);
        Arc::clone(locks.entry(id.clone()).or_default())
    }

    fn status(&self, id: &ContainerId) -> Result<Option<ContainerStatus>> {
        let dir = self.dir(id);
        let Some(stored) = dir.stored().map_err(unreadable)? else {
            return Ok(None);
        };
        let state = self.state(&dir, &stored)?;
        let running = matches!(state, ContainerState::Running { .. });
        let cgroup = running.then(|| stored.cgroup());
        Ok(Some(ContainerStatus {
            id: id.clone(),
            memory: cgroup.as_ref().and_then(Cgroup::current),
            memory_peak: cgroup.as_ref().and_then(Cgroup::peak),
            cpu_time: cgroup.as_ref().and_then(Cgroup::cpu_time),
            memory_limit: stored.container.memory,
            labels: stored.container.labels,
            state,
        }))
    }

    fn state(&self, dir: &Dir, stored: &Stored) -> Result<ContainerState> {
        if let Some(ended) = dir.ended().map_err(unreadable)? {
            return Ok(ContainerState::Exited(ended.exit));
        }
        let shim = match dir.shim().map_err(unreadable)? {
            None if dir.being_started().map_err(unreadable)? => {
                return Ok(ContainerState::Starting);
            }
            // It may have come to be between the two looks.
            None => dir.shim().map_err(unreadable)?,
            found => found,
        };
        match shim {
            Some(shim) if shim.alive() => Ok(match dir.running().map_err(unreadable)? {
                Some(running) => ContainerState::Running { pid: running.pid },
                None => ContainerState::Starting,
            }),
            shim => self.bury(dir, stored, shim),
        }
    }

    /// Cleans up after a shim that died, and records the end it can no longer record.
    fn bury(&self, dir: &Dir, stored: &Stored, shim: Option<ProcessId>) -> Result<ContainerState> {
        let _burial = lock(&self.burial);
        // It may have recorded the end just before it ended, or another thread has.
        if let Some(ended) = dir.ended().map_err(unreadable)? {
            return Ok(ContainerState::Exited(ended.exit));
        }
        let mut cause = if shim.is_some() {
            "the process that supervised the container died, and the container with it"
        } else {
            "the server ended while it was starting the container"
        }
        .to_owned();
        let said = fs_err::read_to_string(dir.shim_log()).unwrap_or_default();
        if let Some(last) = said.lines().last() {
            cause.push_str(": ");
            cause.push_str(last);
        }
        let cgroup = stored.cgroup();
        let exit = Exit {
            code: None,
            signal: None,
            out_of_memory: cgroup.oom_kills() > 0,
            memory_peak: cgroup.peak(),
            error: Some(cause),
        };
        tracing::warn!(id = %stored.container.id, cause = ?exit.error, "a container was lost");
        cgroup
            .remove()
            .map_err(|e| Error::internal("removing the cgroup of a lost container", e))?;
        dir.write_ended(exit.clone()).map_err(unreadable)?;
        Ok(ContainerState::Exited(exit))
    }

    /// Whether nothing of the container runs any more, its shim included.
    fn over(&self, id: &ContainerId) -> Result<bool> {
        let dir = self.dir(id);
        Ok(match self.status(id)? {
            None => true,
            Some(status) => {
                matches!(status.state, ContainerState::Exited(_))
                    && !dir
                        .shim()
                        .map_err(unreadable)?
                        .is_some_and(|shim| shim.alive())
            }
        })
    }

    fn forget(&self, id: &ContainerId) -> Result<()> {
        let dir = self.dir(id);
        if let Some(stored) = dir.stored().map_err(unreadable)? {
            stored
                .cgroup()
                .remove()
                .map_err(|e| Error::internal("removing a container's cgroup", e))?;
        }
        discard(dir.path()).map_err(|e| Error::internal("removing a container's directory", e))
    }
}

/// Removes a directory, so that it is there whole or not at all.
fn discard(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    let gone = path.with_file_name(format!(".gone-{}", name.to_string_lossy()));
    match fs_err::rename(path, &gone) {
        Ok(()) => fs_err::remove_dir_all(&gone),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unreadable(cause: io::Error) -> Error {
    Error::internal("using the containers' state directory", cause)
}

/// A container that this machine cannot start.
fn cannot_start(id: &ContainerId, cause: &str, output: &str) -> Error {
    let (cause, hint) = match cause.split_once(MARK) {
        Some((_, cause)) => (
            cause,
            "Build the revision again: what it starts does not fit its image.",
        ),
        None => (
            cause,
            "Run `luthier doctor` on the server's machine; it names what the machine lacks.",
        ),
    };
    let error = Error::new(
        Code::ContainerFailed,
        format!("the container {id} cannot be started: {cause}"),
    )
    .hint(hint);
    if output.is_empty() {
        error
    } else {
        error.evidence(Evidence::output(output))
    }
}
