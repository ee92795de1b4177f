//! `serve`: everything wired together, started in order, and stopped in order.
//!
//! Start: lock the data directory, bind the port, open the database, adopt running containers,
//! take requests, run jobs. Stop: no new requests, jobs hand back their leases, the controller
//! rests; containers keep running.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use luthier_app::{App, Capacity, Deps, Settings, Token};
use luthier_controllers::{DeploymentController, Deps as ControllerDeps};
use luthier_gateway::Gateway;
use luthier_jobs::{Pause, Queue, Worker, WorkerOptions};
use luthier_store::{Store, blobs::LocalBlobs, replica_logs::ReplicaLogs};
use luthier_types::{Code, Error, Mebibytes, Millicpu, Result};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    connections::{self, Limits},
    machine::{Machine, MachineOptions, Registries, Sources},
};

/// Settings of a server. Secrets are among them, so they cannot be shown as a whole.
#[derive(Clone)]
pub struct Config {
    /// Address to listen on.
    pub listen: String,
    /// Directory of all state.
    pub data: PathBuf,
    /// Directory of layers; `data/cache` when `None`.
    pub cache: Option<PathBuf>,
    /// Admin token; made and kept in `data/admin-token` when `None`.
    pub admin_token: Option<String>,
    /// Seconds a model may take to load.
    pub load_timeout_seconds: u64,
    /// Seconds a predict may take, waiting included.
    pub predict_timeout_seconds: u64,
    /// Seconds a call of a model may go on past its time, before its replica is replaced.
    pub hang_timeout_seconds: u64,
    /// Most MiB that a package may unpack to.
    pub max_package_mib: u64,
    /// Whether a replica's CPU reservation is a hard cap as well.
    pub cpu_cap: bool,
    /// Most rows of recent requests that are remembered of each model.
    pub recent_rows: usize,
    /// A token that reads the metrics and nothing else.
    pub metrics_token: Option<String>,
    /// Days that entries of the audit log are kept.
    pub audit_days: u32,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Seconds a client may be silent when it is its turn to send or to read.
    pub client_timeout_seconds: u64,
    /// Where packages come from.
    pub sources: Sources,
    /// Where images come from beside the catalogue.
    pub registries: Registries,
    /// For tests: the job step (`kind.step`) after whose effect the worker stops for good.
    pub pause_after: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8580".to_owned(),
            data: "luthier-data".into(),
            cache: None,
            admin_token: None,
            load_timeout_seconds: 120,
            predict_timeout_seconds: 60,
            hang_timeout_seconds: 30,
            max_package_mib: 4096,
            cpu_cap: false,
            recent_rows: luthier_gateway::Options::default().recent_rows,
            metrics_token: None,
            audit_days: 365,
            max_connections: 16_384,
            client_timeout_seconds: 75,
            sources: Sources::default(),
            registries: Registries::default(),
            pause_after: None,
        }
    }
}

/// Serves until SIGTERM or SIGINT. Replicas keep running; the next server adopts them.
///
/// # Errors
/// `BadRequest` when the address or the directory cannot be used, `Conflict` when another server
/// uses the directory, `Internal` when the database cannot be opened.
pub async fn run(config: Config) -> Result<()> {
    let machine = Machine::open_with(
        &MachineOptions {
            data: config.data.clone(),
            cache: config.cache.clone(),
            containers: None,
        },
        config.sources.clone(),
        config.registries.clone(),
    )?;
    let _alone = machine.lock_data().await?;
    let listener = bind(&config.listen).await?;
    let limits = Limits::new(
        config.max_connections.max(1),
        Duration::from_secs(config.client_timeout_seconds.max(1)),
    );
    let token = admin_token(&config, &machine.data)?;
    let runner = machine.runner()?;

    let store = Store::open(&machine.data.join("luthier.db")).await?;
    let blobs = Arc::new(LocalBlobs::new(machine.data.join("blobs"))?);
    let gateway = Arc::new(Gateway::new(luthier_gateway::Options {
        recent_rows: config.recent_rows,
        ..luthier_gateway::Options::default()
    }));
    let wake = Arc::new(Notify::new());
    let replica_logs = ReplicaLogs::new(machine.data.join("replica-logs"));
    let queue = Queue::new(store.pool().clone());

    let mut settings = Settings::new(Token::new(token), capacity());
    settings.load_timeout = Duration::from_secs(config.load_timeout_seconds);
    settings.predict_timeout = Duration::from_secs(config.predict_timeout_seconds);
    settings.max_package_bytes = config.max_package_mib << 20;
    settings.registries = config.registries.allowed;
    settings.metrics_token = config.metrics_token.map(Token::new);
    settings.audit_kept = SignedDuration::from_hours(24 * i64::from(config.audit_days));

    let mut controller = DeploymentController::new(ControllerDeps {
        store: store.clone(),
        runtime: machine.runtime.clone(),
        gateway: Arc::clone(&gateway),
        blobs: blobs.clone(),
        layout: machine.layout.clone(),
        logs: replica_logs.clone(),
        wake: Arc::clone(&wake),
        settings: luthier_controllers::Settings {
            load_timeout: settings.load_timeout,
            hang_timeout: Duration::from_secs(config.hang_timeout_seconds),
            cpu_cap: config.cpu_cap,
            machine_memory: Some(settings.machine.memory),
            ..luthier_controllers::Settings::default()
        },
        run_dir: machine.data.join("run"),
    })?;
    let app = App::new(Deps {
        store: store.clone(),
        blobs,
        images: machine.images.clone(),
        envs: machine.envs.clone(),
        runtime_logs: machine.runtime.clone(),
        replica_logs,
        queue: queue.clone(),
        gateway,
        wake_deployments: wake,
        layout: machine.layout.clone(),
        runner,
        settings,
    });
    let worker = Worker::new(
        queue.clone(),
        luthier_app::job_kinds(&app),
        WorkerOptions {
            pause_after: config.pause_after.map(|step| Pause {
                step,
                marker: machine.data.join("paused"),
            }),
            ..WorkerOptions::default()
        },
    );

    // Running replicas serve again before the first request is taken, and jobs of a killed server
    // are free again before a worker looks for work.
    controller.first_pass().await?;
    queue.reclaim().await?;
    app.clear_scratch().await?;

    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(controller.run(stop.clone()));
    tasks.spawn(worker.run(stop.clone()));
    tasks.spawn(Arc::clone(&app).upkeep(stop.clone()));
    tasks.close();

    tracing::info!(address = %config.listen, data = %machine.data.display(), "serving");
    let stopped = Arc::clone(&app);
    let signalled = async move {
        signalled().await;
        stopped.stop();
    };
    connections::serve(listener, crate::router(app), limits, signalled).await;
    stop.cancel();
    if tokio::time::timeout(Duration::from_secs(30), tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("some tasks did not end in time and were left");
    }
    store.close().await;
    tracing::info!("stopped; replicas keep running");
    Ok(())
}

async fn bind(address: &str) -> Result<TcpListener> {
    let wrong = |cause: String| {
        Error::new(Code::BadRequest, cause)
            .hint("Give --listen an address and port that are free, for example 127.0.0.1:8580.")
    };
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| wrong(format!("`{address}` is no address with a port")))?;
    TcpListener::bind(parsed)
        .await
        .map_err(|e| wrong(format!("cannot listen on {address}: {e}")).source(e))
}

/// The admin token: the given one, the kept one, or a new one that is printed once.
fn admin_token(config: &Config, data: &Path) -> Result<String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(token) = &config.admin_token {
        return Ok(token.clone());
    }
    let failed = |e: std::io::Error| Error::internal("keeping the admin token", e);
    let path = data.join("admin-token");
    match fs_err::read_to_string(&path) {
        Ok(token) => return Ok(token.trim().to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(e)),
    }
    let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    writeln!(file, "{token}")
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    // To standard error and not to the log: it is shown once, to who started the server.
    let note = format!("admin token (kept in {}): {token}\n", path.display());
    std::io::stderr()
        .write_all(note.as_bytes())
        .map_err(failed)?;
    Ok(token)
}

/// All CPU and memory of the machine.
fn capacity() -> Capacity {
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let memory = fs_err::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(1024, |kibibytes| (kibibytes / 1024) as u32);
    Capacity {
        cpu: Millicpu(cpus * 1000),
        memory: Mebibytes(memory),
    }
}

/// Ends at the first SIGTERM or SIGINT; a second one ends the process at once.
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(term), Ok(int)) => (term, int),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "cannot listen for signals");
            return std::future::pending().await;
        }
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    tracing::info!("stopping; a second signal stops at once");
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        std::process::exit(1);
    });
}
