//! What a kind of job is made of.

use std::collections::BTreeMap;

use async_trait::async_trait;
use luthier_types::{Error, JobId, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::SqliteConnection;
use tokio_util::sync::CancellationToken;

use crate::{
    Logger,
    job::{cancelled, failed, now, text},
};

/// A kind of job: its steps and how each runs.
///
/// **Guarantees kept by the worker:** steps run in order; a step whose result is recorded never
/// runs again; after a job has failed for good, [`failed`](JobKind::failed) runs to its end at least
/// once before the job shows as failed.
#[async_trait]
pub trait JobKind: Send + Sync + 'static {
    /// Its name, as stored with each job.
    fn kind(&self) -> &'static str;

    /// Its steps, in order.
    fn steps(&self) -> &'static [&'static str];

    /// The step past which the job cannot fail any more, where what it did cannot be undone. That
    /// step records its own result, by [`StepContext::record`] in the transaction of its effect.
    /// The steps after it tidy up: they cannot be cancelled, are tried again whatever their error,
    /// and when that does not help the job has succeeded all the same.
    fn decides(&self) -> Option<&'static str> {
        None
    }

    /// Runs one step and gives its result, which later steps can read.
    ///
    /// **Assumptions:** running a step again, also after it ended without its result having been
    /// recorded, leaves the same state as running it once.
    ///
    /// **Cancellation:** dropped at an await point when the job is cancelled or the server stops.
    ///
    /// # Errors
    /// A retryable code runs the step again later, a bounded number of times; any other fails the
    /// job.
    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value>;

    /// Undoes what the steps did, once the job has failed for good or was cancelled. Runs again
    /// after a crash.
    ///
    /// # Errors
    /// Tried again a few times; then logged, and the job shows as failed all the same.
    async fn failed(&self, _ctx: &StepContext, _error: &Error) -> Result<()> {
        Ok(())
    }
}

/// What a running step knows and may use.
pub struct StepContext {
    pub(crate) job: JobId,
    pub(crate) owner: String,
    pub(crate) step: String,
    pub(crate) payload: Value,
    pub(crate) results: BTreeMap<String, Value>,
    pub(crate) logger: Logger,
    pub(crate) cancel: CancellationToken,
}

// === impl StepContext ===

impl StepContext {
    /// The job's id.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// The job's payload.
    ///
    /// # Errors
    /// `Internal` when it does not have this form.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.payload.clone())
            .map_err(|e| Error::internal("reading a job's payload", e))
    }

    /// The recorded result of an earlier step; `None` when it was not reached.
    ///
    /// # Errors
    /// `Internal` when it does not have this form.
    pub fn result<T: DeserializeOwned>(&self, step: &str) -> Result<Option<T>> {
        self.results
            .get(step)
            .map(|value| serde_json::from_value(value.clone()))
            .transpose()
            .map_err(|e| Error::internal("reading a step's result", e))
    }

    /// Like [`result`](Self::result) for a step that must have run.
    ///
    /// # Errors
    /// `Internal` when it did not, or has another form.
    pub fn need<T: DeserializeOwned>(&self, step: &str) -> Result<T> {
        self.result(step)?
            .ok_or_else(|| Error::internal("reading a step's result", format!("no {step} yet")))
    }

    /// Records this step's result in the caller's transaction, so that both happen or neither does,
    /// and gives the result that stands: the first, when the step ran before. Call it before the
    /// transaction is committed.
    ///
    /// # Errors
    /// `Cancelled` when the job was cancelled or another worker has it: then nothing may be
    /// committed.
    pub async fn record(&self, db: &mut SqliteConnection, result: &Value) -> Result<Value> {
        let held = sqlx::query(
            "UPDATE jobs SET updated_at = ? WHERE id = ? AND lease_owner = ? AND NOT cancel_requested",
        )
        .bind(now())
        .bind(self.job.to_string())
        .bind(&self.owner)
        .execute(&mut *db)
        .await
        .map_err(failed("checking a lease"))?;
        if held.rows_affected() == 0 {
            return Err(cancelled());
        }
        let stands: String = sqlx::query_scalar(
            "UPDATE job_steps SET result = coalesce(result, ?), finished_at = ?
             WHERE job_id = ? AND name = ? RETURNING result",
        )
        .bind(text(result)?)
        .bind(now())
        .bind(self.job.to_string())
        .bind(&self.step)
        .fetch_one(db)
        .await
        .map_err(failed("recording a step"))?;
        serde_json::from_str(&stands).map_err(|e| Error::internal("reading a step's result", e))
    }

    /// Writes lines to the step's log.
    pub fn logger(&self) -> &Logger {
        &self.logger
    }

    /// Says how far this step is, from 0 to 1.
    pub fn progress(&self, fraction: f64) {
        self.logger.progress(fraction);
    }

    /// Fires when the job is cancelled; for work that cannot be dropped at an await point.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }
}
