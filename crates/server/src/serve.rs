//! `serve`: everything wired together, started in order, and stopped in order.
//!
//! Start: lock the data directory, bind the port, open the database, adopt running containers,
//! take requests, run jobs. Stop: no new requests, jobs hand back their leases, the controller
//! rests; containers keep running.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use luthier_app::{App, Capacity, Deps, Settings, Token};
use luthier_controllers::{ControllerDeps, DeploymentController};
use luthier_gateway::Gateway;
use luthier_jobs::{Queue, Worker, WorkerOptions};
use luthier_store::{Store, blobs::LocalBlobs};
use luthier_types::{Code, Error, Mebibytes, Millicpu, Result};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::machine::{Machine, MachineOptions};

/// Settings of a server.
#[derive(Clone, Debug)]
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
    /// Most MiB that a package may unpack to.
    pub max_package_mib: u64,
    /// Whether a replica's CPU reservation is a hard cap as well.
    pub cpu_cap: bool,
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
            max_package_mib: 4096,
            cpu_cap: false,
            pause_after: None,
        }
    }
}
