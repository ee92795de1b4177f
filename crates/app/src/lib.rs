//! Use cases and job definitions: authorise, validate, one transaction, wake. The only home of
//! policy. [`App`] has one method per use case; it makes ids and times, the store writes as given.

#![forbid(unsafe_code)]

pub mod artifacts;
pub mod audit;
pub mod baselines;
pub mod deploy;
pub mod deployments;
pub mod environments;
pub mod envs;
pub mod events;
pub mod explain;
pub mod files;
pub mod images;
pub mod infer;
pub mod influence;
mod job_info;
pub mod job_view;
pub mod logs;
pub mod lookup;
pub mod manual;
pub mod metrics;
pub mod models;
pub mod names;
pub mod predict;
pub mod projects;
mod references;
pub mod revisions;
mod serving;
mod settings;
pub mod sizing;
mod spool;
pub mod status;
mod token;
mod unavailable;
pub mod upkeep;

use std::sync::Arc;

use luthier_gateway::Gateway;
use luthier_jobs::{JobKind, Queue};
use luthier_ports::{BlobStore, ContainerRuntime, EnvBuilder, Images};
use luthier_store::{Store, replica_logs::ReplicaLogs};
use luthier_types::{Digest, Error, OrgId, Result, UserId, layout::CacheLayout};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use settings::{Capacity, Settings};
pub use token::Token;

/// What the use cases work with. Everything that touches the world comes in here.
pub struct Deps {
    /// The database.
    pub store: Store,
    /// Uploaded files, packages, datasets.
    pub blobs: Arc<dyn BlobStore>,
    /// The catalogue of images.
    pub images: Arc<dyn Images>,
    /// Resolves and builds environments.
    pub envs: Arc<dyn EnvBuilder>,
    /// Read only here: statuses and logs. Only controllers start or stop containers.
    pub runtime_logs: Arc<dyn ContainerRuntime>,
    /// The logs of replicas that are gone.
    pub replica_logs: ReplicaLogs,
    /// The job queue.
    pub queue: Queue,
    /// The replicas that serve.
    pub gateway: Arc<Gateway>,
    /// Told after every change of a deployment's intent.
    pub wake_deployments: Arc<Notify>,
    /// Where layers lie.
    pub layout: CacheLayout,
    /// The runner layer.
    pub runner: Digest,
    /// Limits and names.
    pub settings: Settings,
}

/// The use cases.
pub struct App {
    deps: Deps,
    serving: serving::Cache,
    references: references::Cache,
    /// Held while a package layer is placed, and while unused ones are looked for and removed.
    layers: Arc<tokio::sync::Mutex<()>>,
    /// Told when something may have come into nobody's use.
    upkeep: Notify,
    metrics: metrics::Metrics,
    /// Taken by those who follow logs.
    followers: Arc<Semaphore>,
    /// Fires when the server stops taking requests.
    stopping: CancellationToken,
    /// Read while a blob is stored or looked up, until it is mentioned; written while unused ones are
    /// removed.
    blobs_in_use: tokio::sync::RwLock<()>,
    /// Read while a job makes sure of its environment; written while unused ones are removed.
    environments_in_use: tokio::sync::RwLock<()>,
}

/// Every kind of job, for the worker.
pub fn job_kinds(app: &Arc<App>) -> Vec<Arc<dyn JobKind>> {
    vec![
        Arc::new(deploy::DeployJob::new(Arc::clone(app))),
        Arc::new(deployments::ApplyJob::new(Arc::clone(app))),
        Arc::new(manual::SetRunnerJob::new(Arc::clone(app))),
        Arc::new(envs::CollectJob::new(Arc::clone(app))),
        Arc::new(events::PublishDataset(Arc::clone(app))),
        Arc::new(events::PublishEvents(Arc::clone(app))),
        Arc::new(events::DeleteEvents(Arc::clone(app))),
        Arc::new(models::DeleteModel(Arc::clone(app))),
    ]
}

impl App {
    /// The one organisation of a server. Fixed, so that it is the same after every restart.
    pub const ORGANIZATION: OrgId =
        OrgId(Uuid::from_u128(0x6c75_7468_6965_4f72_8000_0000_0000_0001));
    /// The one user of a server: who holds the admin token.
    pub const ADMIN: UserId = UserId(Uuid::from_u128(0x6c75_7468_6965_4164_8000_0000_0000_0001));

    /// The use cases over `deps`.
    pub fn new(deps: Deps) -> Arc<Self> {
        Arc::new(Self {
            deps,
            serving: serving::Cache::default(),
            references: references::Cache::default(),
            layers: Arc::default(),
            upkeep: Notify::new(),
            metrics: metrics::Metrics::default(),
            followers: Arc::new(Semaphore::new(logs::FOLLOWERS)),
            stopping: CancellationToken::new(),
            blobs_in_use: tokio::sync::RwLock::default(),
            environments_in_use: tokio::sync::RwLock::default(),
        })
    }

    /// What the use cases work with.
    pub fn deps(&self) -> &Deps {
        &self.deps
    }

    /// Limits and names.
    pub fn settings(&self) -> &Settings {
        &self.deps.settings
    }

    /// Ends requests that would not end by themselves. For the end of a server.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Checks that the database answers, without which nothing is served but predictions.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn check_ready(&self) -> Result<()> {
        let mut db = self.deps.store.read().await?;
        sqlx::query("SELECT 1")
            .execute(&mut *db)
            .await
            .map(drop)
            .map_err(|e| Error::internal("asking the database", e))
    }

    /// Makes a transaction last.
    pub(crate) async fn commit(&self, db: sqlx::Transaction<'_, sqlx::Sqlite>) -> Result<()> {
        db.commit()
            .await
            .map_err(luthier_store::failed("committing a transaction"))
    }
}
