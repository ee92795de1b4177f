//! One claimed job, from its first unrecorded step to its end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use luthier_store::audit::{self, Caller, Change};
use luthier_types::{Code, Error, JobId, Result, TRACES};
use serde_json::Value;
use sqlx::{Sqlite, Transaction};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    Job, JobKind, Logger, Queue, StepContext, WorkerOptions,
    job::{cancelled, failed, now, text},
    log::Pending,
    metrics,
    worker::micros,
};

/// The recorded name of the hook [`JobKind::failed`].
pub const COMPENSATE: &str = "compensate";
/// Its place after every step.
const COMPENSATE_POSITION: i64 = 1_000_000;
/// How often the hook is tried within one claim.
const COMPENSATE_ATTEMPTS: u32 = 3;
/// How often a job may be found with a dead worker in the same step.
const MAX_CRASHES: u32 = 10;
/// How often gathered lines are written.
const FLUSH: Duration = Duration::from_millis(300);

pub(crate) struct Run {
    pub(crate) queue: Queue,
    pub(crate) kind: Option<Arc<dyn JobKind>>,
    pub(crate) job: Job,
    pub(crate) owner: String,
    pub(crate) options: Arc<WorkerOptions>,
    pub(crate) shutdown: CancellationToken,
}

/// Why a job was left before its end.
enum Left {
    /// The lease is another's.
    Lost,
    /// The server stops.
    Stopping,
    /// The database failed.
    Failed(Error),
}

impl From<Error> for Left {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What the parts of a run share.
struct Shared {
    pending: Arc<Mutex<Pending>>,
    /// Held while taken lines are written, so that the last flush of a job waits for them.
    flushing: tokio::sync::Mutex<()>,
    /// Progress at the beginning of the current step, and what the step is worth.
    base: Mutex<(f64, f64)>,
    /// The user asked to cancel.
    cancel: CancellationToken,
    /// The lease was lost.
    lost: CancellationToken,
}

// === impl Run ===

impl Run {
    /// Runs the job; every failure ends in the database or in the log.
    pub(crate) async fn run(self) {
        let shared = Shared {
            pending: Arc::default(),
            flushing: tokio::sync::Mutex::default(),
            base: Mutex::new((self.job.progress, 0.0)),
            cancel: CancellationToken::new(),
            lost: CancellationToken::new(),
        };
        if self.job.cancel_requested {
            shared.cancel.cancel();
        }
        let left = tokio::select! {
            ended = self.drive(&shared) => ended.err(),
            never = self.keep(&shared) => match never {},
        };
        match left {
            None => {}
            Some(Left::Lost) => {
                tracing::warn!(job = %self.job.id, "lost the lease; another worker has the job");
            }
            Some(Left::Stopping) => {
                if let Err(error) = self.release(&shared).await {
                    tracing::warn!(job = %self.job.id, error = error.chain(), "cannot give a job back");
                }
            }
            Some(Left::Failed(error)) => {
                tracing::error!(job = %self.job.id, error = error.chain(),
                    "cannot record a job's state; it will be taken up again when its lease is over");
            }
        }
        // A job with the same key may wait for this one.
        self.queue.wake();
    }

    async fn drive(&self, shared: &Shared) -> Result<(), Left> {
        let Some(kind) = &self.kind else {
            let error = Error::new(
                Code::Internal,
                format!("this server knows no jobs of kind `{}`", self.job.kind),
            )
            .hint("The job was made by another version of the server; start it again.");
            self.begin_failure(&error, None).await?;
            return self.end(shared, "FAILURE", Some(&error)).await;
        };
        let mut results = BTreeMap::new();
        let mut failing = false;
        for step in self.queue.steps(self.job.id).await? {
            failing |= step.name == COMPENSATE;
            if let Some(result) = step.result {
                results.insert(step.name, result);
            }
        }
        if failing {
            let error = self.job.error.clone().unwrap_or_else(|| {
                Error::internal("running a job", "it failed without a recorded error")
            });
            return self.compensate(shared, kind, results, error).await;
        }
        if self.job.attempt > MAX_CRASHES {
            let error = Error::new(
                Code::Internal,
                format!("the server died {MAX_CRASHES} times while running this step"),
            )
            .hint("Look at the server's log and at the machine's memory and disk.");
            return match self.begin_failure(&error, kind.decides()).await? {
                Some(_) => self.end(shared, "SUCCESS", None).await,
                None => self.compensate(shared, kind, results, error).await,
            };
        }
        let mut attempt = self.job.attempt;
        let steps = kind.steps();
        let share = 100.0 / steps.len().max(1) as f64;
        for (position, step) in steps.iter().enumerate() {
            if results.contains_key(*step) {
                continue;
            }
            let base = share * position as f64;
            if let Ok(mut place) = shared.base.lock() {
                *place = (base, share);
            }
            self.begin_step(step, position as i64, base).await?;
            let ctx = self.context(shared, &results, step);
            let (kind_, name) = (kind.clone(), *step);
            let decided = kind.decides().is_some_and(|d| results.contains_key(d));
            let outcome = self
                .guarded(
                    shared,
                    !decided,
                    async move { kind_.run_step(&ctx, name).await }
                        .instrument(tracing::trace_span!(target: TRACES, "step", otel.name = name)),
                )
                .await?;
            match outcome {
                Ok(result) => {
                    self.pause(step).await;
                    self.flush(shared).await?;
                    self.record(step, &result, base + share).await?;
                    results.insert((*step).to_owned(), result);
                    attempt = 1;
                }
                Err(error)
                    if (decided || error.code().retryable())
                        && attempt < self.options.max_attempts =>
                {
                    tracing::warn!(job = %self.job.id, step, error = error.chain(), "a step will be tried again");
                    Logger::new(step, shared.pending.clone())
                        .line(format!("{error}; trying again"));
                    return self.retry(shared, &error, attempt).await;
                }
                Err(error) => {
                    let Some(result) = self.begin_failure(&error, kind.decides()).await? else {
                        tracing::warn!(job = %self.job.id, step, error = error.chain(), "a job failed");
                        return self.compensate(shared, kind, results, error).await;
                    };
                    // Stopped after its effect was committed, or tidying up after it failed.
                    tracing::warn!(job = %self.job.id, step, error = error.chain(), "a job that is decided goes on");
                    if let Some(decider) = kind.decides() {
                        results.insert(decider.to_owned(), result);
                    }
                }
            }
        }
        self.end(shared, "SUCCESS", None).await
    }

    /// Runs the hook, then writes the job's end.
    async fn compensate(
        &self,
        shared: &Shared,
        kind: &Arc<dyn JobKind>,
        results: BTreeMap<String, Value>,
        error: Error,
    ) -> Result<(), Left> {
        for attempt in 1..=COMPENSATE_ATTEMPTS {
            let ctx = self.context(shared, &results, COMPENSATE);
            let (kind, cause) = (kind.clone(), error.clone());
            let outcome = self
                .guarded(
                    shared,
                    false,
                    async move { kind.failed(&ctx, &cause).await },
                )
                .await?;
            match outcome {
                Ok(()) => break,
                Err(e) => {
                    tracing::error!(job = %self.job.id, attempt, error = e.chain(), "cannot undo a failed job");
                    tokio::time::sleep(self.options.retry_delay).await;
                }
            }
        }
        let status = match error.code() {
            Code::Cancelled => "REVOKED",
            _ => "FAILURE",
        };
        self.end(shared, status, Some(&error)).await
    }

    /// Runs `work` in a task of its own, so that a panic is a failure of the step alone, and waits
    /// for it to be gone when it must stop.
    async fn guarded<T: Send + 'static>(
        &self,
        shared: &Shared,
        cancellable: bool,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<Result<T>, Left> {
        let mut tasks = JoinSet::new();
        if cancellable && shared.cancel.is_cancelled() {
            return Ok(Err(cancelled()));
        }
        tasks.spawn(work);
        tokio::select! {
            () = shared.cancel.cancelled(), if cancellable => {
                tasks.shutdown().await;
                Ok(Err(cancelled()))
            }
            () = shared.lost.cancelled() => {
                tasks.shutdown().await;
                Err(Left::Lost)
            }
            () = self.shutdown.cancelled() => {
                tasks.shutdown().await;
                Err(Left::Stopping)
            }
            ended = tasks.join_next() => Ok(match ended {
                Some(Ok(result)) => result,
                Some(Err(error)) => Err(Error::internal("running a step of a job", error)),
                None => Err(Error::internal("running a step of a job", "it vanished")),
            }),
        }
    }

    fn context(
        &self,
        shared: &Shared,
        results: &BTreeMap<String, Value>,
        step: &str,
    ) -> StepContext {
        StepContext {
            job: self.job.id,
            owner: self.owner.clone(),
            step: step.to_owned(),
            payload: self.job.payload.clone(),
            results: results.clone(),
            logger: Logger::new(step, shared.pending.clone()),
            cancel: shared.cancel.clone(),
        }
    }

    /// Keeps the lease alive, writes gathered lines and looks for a wish to cancel.
    async fn keep(&self, shared: &Shared) -> std::convert::Infallible {
        let beat = self.options.lease / 4;
        let mut last_beat = tokio::time::Instant::now();
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(FLUSH.min(beat)) => false,
                () = self.queue.cancels.notified() => true,
            };
            if asked || last_beat.elapsed() >= beat {
                match self.heartbeat().await {
                    Ok(Some(cancel_requested)) => {
                        last_beat = tokio::time::Instant::now();
                        if cancel_requested {
                            shared.cancel.cancel();
                        }
                    }
                    Ok(None) => shared.lost.cancel(),
                    Err(error) => {
                        tracing::error!(job = %self.job.id, error = error.chain(), "cannot renew a lease");
                    }
                }
            }
            if let Err(error) = self.flush(shared).await {
                tracing::warn!(job = %self.job.id, error = error.chain(), "cannot write a job's log");
            }
        }
    }

    /// Renews the lease; gives whether cancelling was asked for, or `None` when the lease is lost.
    async fn heartbeat(&self) -> Result<Option<bool>> {
        sqlx::query_scalar(
            "UPDATE jobs SET lease_until = ? WHERE id = ? AND lease_owner = ?
             RETURNING cancel_requested",
        )
        .bind(now() + micros(self.options.lease))
        .bind(self.job.id.to_string())
        .bind(&self.owner)
        .fetch_optional(&self.queue.pool)
        .await
        .map_err(failed("renewing a lease"))
    }

    /// Writes gathered lines and progress.
    async fn flush(&self, shared: &Shared) -> Result<()> {
        let _flushing = shared.flushing.lock().await;
        let Some(pending) = Pending::take(&shared.pending) else {
            return Ok(());
        };
        let fraction = pending.fraction();
        let mut db = self.write().await?;
        pending.write(&mut db, self.job.id).await?;
        if let Some(fraction) = fraction {
            let (base, share) = shared.base.lock().map_or((0.0, 0.0), |place| *place);
            sqlx::query("UPDATE jobs SET progress = ? WHERE id = ? AND lease_owner = ?")
                .bind(base + share * fraction)
                .bind(self.job.id.to_string())
                .bind(&self.owner)
                .execute(&mut *db)
                .await
                .map_err(failed("writing a job's progress"))?;
        }
        db.commit().await.map_err(failed("writing a job's log"))
    }

    async fn begin_step(&self, step: &str, position: i64, progress: f64) -> Result<(), Left> {
        let mut db = self.fenced(Some(progress)).await?;
        insert_step(&mut db, self.job.id, step, position).await?;
        Ok(db.commit().await.map_err(failed("beginning a step"))?)
    }

    /// Records a step's result; the count of attempts begins anew.
    async fn record(&self, step: &str, result: &Value, progress: f64) -> Result<(), Left> {
        let mut db = self.fenced(Some(progress)).await?;
        sqlx::query(
            "UPDATE job_steps SET result = ?, finished_at = ? WHERE job_id = ? AND name = ?",
        )
        .bind(text(result)?)
        .bind(now())
        .bind(self.job.id.to_string())
        .bind(step)
        .execute(&mut *db)
        .await
        .map_err(failed("recording a step"))?;
        sqlx::query("UPDATE jobs SET attempt = 1, error = NULL WHERE id = ?")
            .bind(self.job.id.to_string())
            .execute(&mut *db)
            .await
            .map_err(failed("recording a step"))?;
        Ok(db.commit().await.map_err(failed("recording a step"))?)
    }

    /// Records that the job has failed for good; from here on only the hook runs. Where the step
    /// that `decides` has recorded its result, nothing has failed, and it gives that result.
    async fn begin_failure(
        &self,
        error: &Error,
        decides: Option<&str>,
    ) -> Result<Option<Value>, Left> {
        let mut db = self.fenced(None).await?;
        // Read while no other transaction can be under way, in which a stopped step records it.
        let decided: Option<Option<String>> =
            sqlx::query_scalar("SELECT result FROM job_steps WHERE job_id = ? AND name = ?")
                .bind(self.job.id.to_string())
                .bind(decides)
                .fetch_optional(&mut *db)
                .await
                .map_err(failed("reading a step's result"))?;
        if let Some(result) = decided.flatten() {
            let result = serde_json::from_str(&result)
                .map_err(|e| Error::internal("reading a step's result", e))?;
            return Ok(Some(result));
        }
        insert_step(&mut db, self.job.id, COMPENSATE, COMPENSATE_POSITION).await?;
        sqlx::query("UPDATE jobs SET error = ? WHERE id = ?")
            .bind(text(&error.to_public())?)
            .bind(self.job.id.to_string())
            .execute(&mut *db)
            .await
            .map_err(failed("recording a failure"))?;
        db.commit().await.map_err(failed("recording a failure"))?;
        Ok(None)
    }

    async fn retry(&self, shared: &Shared, error: &Error, attempt: u32) -> Result<(), Left> {
        self.flush(shared).await?;
        let delay = self.options.delay(attempt);
        let mut db = self.fenced(None).await?;
        sqlx::query(
            "UPDATE jobs SET status = 'RETRY', run_at = ?, error = ?, lease_owner = NULL,
                 lease_until = NULL WHERE id = ?",
        )
        .bind(now() + micros(delay))
        .bind(text(&error.to_public())?)
        .bind(self.job.id.to_string())
        .execute(&mut *db)
        .await
        .map_err(failed("putting a job off"))?;
        db.commit().await.map_err(failed("putting a job off"))?;
        let queue = self.queue.clone();
        // Only saves waiting for the next look into the queue; nothing depends on it.
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            queue.wake();
        });
        Ok(())
    }

    async fn end(
        &self,
        shared: &Shared,
        status: &'static str,
        error: Option<&Error>,
    ) -> Result<(), Left> {
        self.flush(shared).await?;
        let mut db = self.fenced(None).await?;
        sqlx::query("UPDATE job_steps SET finished_at = ? WHERE job_id = ? AND name = ?")
            .bind(now())
            .bind(self.job.id.to_string())
            .bind(COMPENSATE)
            .execute(&mut *db)
            .await
            .map_err(failed("ending a job"))?;
        sqlx::query(
            "UPDATE jobs SET status = ?1, error = ?2, lease_owner = NULL, lease_until = NULL,
                 progress = CASE WHEN ?1 = 'SUCCESS' THEN 100 ELSE progress END WHERE id = ?3",
        )
        .bind(status)
        .bind(error.map(|e| text(&e.to_public())).transpose()?)
        .bind(self.job.id.to_string())
        .execute(&mut *db)
        .await
        .map_err(failed("ending a job"))?;
        self.audit(&mut db, status, error).await?;
        db.commit().await.map_err(failed("ending a job"))?;
        let took = Timestamp::now().duration_since(self.job.created_at);
        let took = Duration::try_from(took).unwrap_or_default();
        metrics::ended(self.queue.job_seconds(), &self.job.kind, status, took);
        Ok(())
    }

    /// Who asked for the job stands in the entry of the request, which names the job.
    async fn audit(
        &self,
        db: &mut Transaction<'static, Sqlite>,
        status: &str,
        error: Option<&Error>,
    ) -> Result<()> {
        let outcome = status.to_ascii_lowercase();
        let mut change = Change::new(format!("job.{outcome}"))
            .target(self.job.id, &self.job.name)
            .job(self.job.id);
        let model = self.job.payload.get("model_id").and_then(Value::as_str);
        change.model_id = model.and_then(|id| id.parse().ok());
        if let Some(error) = error {
            change
                .changes
                .insert("error".to_owned(), error.code().to_string().into());
        }
        audit::insert(db, Timestamp::now(), &Caller::server(), &change).await
    }

    /// Gives the job back; an interrupted attempt does not count.
    async fn release(&self, shared: &Shared) -> Result<()> {
        self.flush(shared).await?;
        sqlx::query(
            "UPDATE jobs SET lease_owner = NULL, lease_until = NULL, attempt = max(attempt - 1, 0)
             WHERE id = ? AND lease_owner = ?",
        )
        .bind(self.job.id.to_string())
        .bind(&self.owner)
        .execute(&self.queue.pool)
        .await
        .map_err(failed("giving a job back"))?;
        Ok(())
    }

    /// A transaction in which this worker certainly holds the lease.
    async fn fenced(&self, progress: Option<f64>) -> Result<Transaction<'static, Sqlite>, Left> {
        let mut db = self.write().await?;
        let held = sqlx::query(
            "UPDATE jobs SET updated_at = ?, progress = coalesce(?, progress)
             WHERE id = ? AND lease_owner = ?",
        )
        .bind(now())
        .bind(progress)
        .bind(self.job.id.to_string())
        .bind(&self.owner)
        .execute(&mut *db)
        .await
        .map_err(failed("checking a lease"))?;
        if held.rows_affected() == 0 {
            return Err(Left::Lost);
        }
        Ok(db)
    }

    async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        self.queue
            .pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed("beginning a transaction"))
    }

    /// Stops for good when a test asked for it; see [`crate::Pause`].
    async fn pause(&self, step: &str) {
        if let Some(pause) = &self.options.pause_after
            && pause.step == format!("{}.{step}", self.job.kind)
        {
            if let Err(error) = tokio::fs::write(&pause.marker, b"").await {
                tracing::error!(%error, "cannot make the marker of a pause");
            }
            std::future::pending::<()>().await;
        }
    }
}

async fn insert_step(
    db: &mut Transaction<'static, Sqlite>,
    job: JobId,
    step: &str,
    position: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO job_steps (job_id, position, name, started_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (job_id, name) DO UPDATE SET started_at = excluded.started_at",
    )
    .bind(job.to_string())
    .bind(position)
    .bind(step)
    .bind(now())
    .execute(&mut **db)
    .await
    .map_err(failed("beginning a step"))?;
    Ok(())
}
