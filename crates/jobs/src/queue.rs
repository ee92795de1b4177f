//! The queue: enqueue, read, cancel, reclaim.

use std::sync::Arc;

use luthier_types::{JobId, Result};
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::Notify;

use crate::{
    Job, JobSeconds, LogLine, NewJob, Step,
    job::{failed, now, text},
    metrics,
};

/// A handle to the queue; cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(crate) pool: SqlitePool,
    pub(crate) work: Arc<Notify>,
    pub(crate) cancels: Arc<Notify>,
    seconds: JobSeconds,
}

// === impl Queue ===

impl Queue {
    /// The queue in the migrated database behind `pool`.
    pub fn new(pool: SqlitePool) -> Self {
        Self {
            pool,
            work: Arc::default(),
            cancels: Arc::default(),
            seconds: metrics::job_seconds(),
        }
    }

    /// How long jobs took since this queue was made.
    pub const fn job_seconds(&self) -> &JobSeconds {
        &self.seconds
    }

    /// How many jobs are not finished: of which kind, in which state, how many.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn unfinished(&self) -> Result<Vec<(String, String, u64)>> {
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT kind, status, count(*) FROM jobs
             WHERE status IN ('PENDING', 'STARTED', 'RETRY') GROUP BY kind, status",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("counting jobs"))?;
        let count = |(kind, status, n): (_, _, i64)| (kind, status, n.unsigned_abs());
        Ok(rows.into_iter().map(count).collect())
    }

    /// Adds a job within the caller's transaction. Call [`wake`](Self::wake) once that is
    /// committed; without it the job is found at the worker's next look.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn enqueue(&self, db: &mut SqliteConnection, job: NewJob) -> Result<JobId> {
        let id = JobId::new();
        let now = now();
        sqlx::query(
            "INSERT INTO jobs (id, kind, name, status, payload, info, exclusive_key, run_at,
                 created_at, updated_at)
             VALUES (?, ?, ?, 'PENDING', ?, ?, ?, ?, ?, ?)",
        )
        .bind(id.to_string())
        .bind(job.kind)
        .bind(job.name)
        .bind(text(&job.payload)?)
        .bind(text(&job.info)?)
        .bind(job.exclusive_key)
        .bind(now)
        .bind(now)
        .bind(now)
        .execute(db)
        .await
        .map_err(failed("enqueueing a job"))?;
        Ok(id)
    }

    /// Tells the worker that there may be something to do.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// A job by id.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn get(&self, id: JobId) -> Result<Option<Job>> {
        let row = sqlx::query("SELECT * FROM jobs WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("reading a job"))?;
        row.as_ref().map(Job::read).transpose()
    }

    /// The latest jobs, newest first.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn list(&self, limit: u32) -> Result<Vec<Job>> {
        let rows = sqlx::query("SELECT * FROM jobs ORDER BY id DESC LIMIT ?")
            .bind(limit)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("listing jobs"))?;
        rows.iter().map(Job::read).collect()
    }

    /// The jobs with this exclusive key that are not finished, oldest first.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn open(&self, db: &mut SqliteConnection, exclusive_key: &str) -> Result<Vec<Job>> {
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE status IN ('PENDING', 'STARTED', 'RETRY')
                 AND exclusive_key = ? ORDER BY id",
        )
        .bind(exclusive_key)
        .fetch_all(db)
        .await
        .map_err(failed("listing open jobs"))?;
        rows.iter().map(Job::read).collect()
    }

    /// The steps of a job that were begun, in order.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn steps(&self, id: JobId) -> Result<Vec<Step>> {
        let rows = sqlx::query("SELECT * FROM job_steps WHERE job_id = ? ORDER BY position")
            .bind(id.to_string())
            .fetch_all(&self.pool)
            .await
            .map_err(failed("reading a job's steps"))?;
        rows.iter().map(Step::read).collect()
    }

    /// The last `lines` lines of a job's log, oldest first.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn logs(&self, id: JobId, lines: u32) -> Result<Vec<LogLine>> {
        let mut rows =
            sqlx::query("SELECT * FROM job_logs WHERE job_id = ? ORDER BY seq DESC LIMIT ?")
                .bind(id.to_string())
                .bind(lines)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("reading a job's log"))?;
        rows.reverse();
        rows.iter().map(LogLine::read).collect()
    }

    /// Asks for a job to be cancelled. It ends as `REVOKED` once its step has stopped and its work
    /// is undone. Gives `false` when there is no such job or it has ended.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn cancel(&self, id: JobId) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE jobs SET cancel_requested = 1, run_at = min(run_at, ?1), updated_at = ?1
             WHERE id = ?2 AND status IN ('PENDING', 'STARTED', 'RETRY')",
        )
        .bind(now())
        .bind(id.to_string())
        .execute(&self.pool)
        .await
        .map_err(failed("cancelling a job"))?;
        self.cancels.notify_waiters();
        self.wake();
        Ok(done.rows_affected() > 0)
    }

    /// Ends every lease at once. For the start of a server that owns its database alone: whoever
    /// held a lease is dead. Gives the number of jobs that will be taken up again.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn reclaim(&self) -> Result<u64> {
        let done = sqlx::query(
            "UPDATE jobs SET lease_owner = NULL, lease_until = NULL
             WHERE status IN ('PENDING', 'STARTED', 'RETRY') AND lease_owner IS NOT NULL",
        )
        .execute(&self.pool)
        .await
        .map_err(failed("reclaiming jobs"))?;
        Ok(done.rows_affected())
    }
}
