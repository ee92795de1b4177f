//! The job that makes an uploaded archive a serving revision.
//!
//! `unpack` (the package layer, and what stood before) → `inspect` → `lock` (image and versions) →
//! `check` (the package against them) → `build` (the environment) → `publish` (the wanted revision) → `await_ready`. The controller does the rest;
//! this job starts nothing. Nothing else changes a model's deployment meanwhile, because every job
//! that does has the model's id as its exclusive key.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_jobs::{JobKind, Logger, StepContext};
use luthier_ports::LogSink;
use luthier_store::{artifacts, deployments, failed, rollouts};
use luthier_types::{Code, Digest, Error, Result, RevisionId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    DEPLOY, DeployPayload,
    before::Before,
    layers::Stage,
    lock::{Inspected, Locked},
};
use crate::{App, lookup::not_found, spool::heavy};

/// How often, and with what pause, it is looked whether traffic has left a revision.
const DISCARD_LOOKS: u32 = 200;
const DISCARD_PAUSE: Duration = Duration::from_millis(150);

/// Runs deploy jobs.
pub struct DeployJob(Arc<App>);

/// What `unpack` records.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unpacked {
    pub(crate) package: Digest,
    pub(crate) before: Before,
}

// === impl DeployJob ===

impl DeployJob {
    /// The kind, over the use cases.
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    async fn unpack(&self, ctx: &StepContext) -> Result<Unpacked> {
        let payload: DeployPayload = ctx.payload()?;
        let mut db = self.0.deps.store.read().await?;
        let before = Before::read(&mut db, payload.model_id)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        drop(db);
        let package = self
            .0
            .unpack(&payload.archive, Stage::Do, ctx.job(), ctx.cancelled())
            .await?;
        ctx.logger().line(format!("package {}", package.short()));
        Ok(Unpacked { package, before })
    }

    async fn inspect(&self, ctx: &StepContext) -> Result<Inspected> {
        let unpacked: Unpacked = ctx.need("unpack")?;
        let dir = self.0.deps.layout.package(&unpacked.package);
        let inspection = heavy(move || luthier_inspect::inspect(&dir)).await?;
        let imports: Vec<_> = inspection.imports.iter().map(String::as_str).collect();
        ctx.logger()
            .line(format!("imports: {}", imports.join(", ")));
        for recorded in &inspection.recorded {
            ctx.logger().line(format!(
                "{} was saved with {} {}",
                recorded.file, recorded.library, recorded.version
            ));
        }
        Ok(Inspected {
            requirements: inspection.requirements,
            imports: inspection.imports,
        })
    }

    /// Removes the revision of a failed deployment, once traffic has left it: it may have served
    /// for a moment before the job failed. One that is not left in time stays, and does no harm.
    async fn discard_revision(&self, id: RevisionId) -> Result<()> {
        for _ in 0..DISCARD_LOOKS {
            let mut db = self.0.deps.store.write().await?;
            let stored = deployments::revision(&mut db, id).await?;
            artifacts::delete_unused_revision(&mut db, id).await?;
            let gone = deployments::revision(&mut db, id).await?.is_none();
            db.commit().await.map_err(failed("removing a revision"))?;
            if gone {
                let validation = stored.map(|revision| revision.validation);
                self.0
                    .release_blobs(validation.into_iter().collect())
                    .await?;
                return Ok(());
            }
            tokio::time::sleep(DISCARD_PAUSE).await;
        }
        tracing::warn!(revision = %id, "the revision of a failed deployment still serves");
        Ok(())
    }

    async fn build(&self, ctx: &StepContext) -> Result<()> {
        let locked: Locked = ctx.need("lock")?;
        // Not while unused environments are removed: this one may look unused until here.
        let _environments = self.0.environments_in_use.read().await;
        self.0
            .deps
            .envs
            .build(&locked.lock, &locked.image, &sink(ctx.logger()))
            .await?;
        Ok(())
    }
}

#[async_trait]
impl JobKind for DeployJob {
    fn kind(&self) -> &'static str {
        DEPLOY
    }

    fn steps(&self) -> &'static [&'static str] {
        &[
            "unpack",
            "inspect",
            "lock",
            "check",
            "build",
            "publish",
            "await_ready",
        ]
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        match step {
            "unpack" => json(&self.unpack(ctx).await?),
            "inspect" => json(&self.inspect(ctx).await?),
            "lock" => json(&self.0.lock_package(ctx).await?),
            "check" => json(&self.0.check_package(ctx).await?),
            "build" => json(&self.build(ctx).await?),
            "publish" => json(&self.0.publish(ctx).await?),
            "await_ready" => json(&self.0.await_ready(ctx).await?),
            other => Err(unknown_step(other)),
        }
    }

    /// Brings back what stood before: the old revision goes on serving as it did, a first
    /// deployment is gone. The package layer goes when nothing else is made of it.
    async fn failed(&self, ctx: &StepContext, error: &Error) -> Result<()> {
        let payload: DeployPayload = ctx.payload()?;
        let unpacked: Option<Unpacked> = ctx.result("unpack")?;
        let revision = RevisionId(ctx.job().0);
        if let Some(unpacked) = &unpacked {
            let mut db = self.0.deps.store.write().await?;
            unpacked
                .before
                .restore(&mut db, payload.model_id, Timestamp::now())
                .await?;
            // One that is held can be let through.
            let held = error.code() == Code::RolloutHeld;
            let rollout = rollouts::get(&mut db, revision).await?;
            let sample = rollout.and_then(|r| r.sample).filter(|_| !held);
            rollouts::fail(&mut db, revision, error, held).await?;
            db.commit().await.map_err(failed("undoing a deployment"))?;
            self.0.forget_model(payload.model_id);
            self.0.deps.wake_deployments.notify_one();
            if !held {
                self.discard_revision(revision).await?;
                self.0.release_blobs(sample.into_iter().collect()).await?;
            }
        }
        let package = match unpacked {
            Some(unpacked) => Some(unpacked.package),
            // Unpacked, perhaps, but not recorded: unpack again to learn which layer it is. What
            // cannot be unpacked has left no layer.
            None => self
                .0
                .unpack(
                    &payload.archive,
                    Stage::Undo,
                    ctx.job(),
                    &CancellationToken::new(),
                )
                .await
                .ok(),
        };
        self.0.discard_layer(ctx.job(), package.as_ref()).await
    }
}

pub(crate) fn unknown_step(step: &str) -> Error {
    Error::internal("running a job", format!("there is no step {step}"))
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::internal("recording a step", e))
}

/// A step's log as the ports want it.
pub(crate) fn sink(logger: &Logger) -> LogSink {
    let logger = logger.clone();
    LogSink::new(move |line| logger.line(line))
}
