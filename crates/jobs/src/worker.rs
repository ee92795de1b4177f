//! The loop that claims jobs and runs each in a task of its own.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use luthier_types::{JobId, Result, TRACES};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    Job, JobKind, Queue,
    job::{failed, now, text},
    run::Run,
};

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Jobs run at once.
    pub concurrency: usize,
    /// How long a claim holds without a sign of life.
    pub lease: Duration,
    /// Longest time between looks into the queue.
    pub poll: Duration,
    /// How often a step is begun before a retryable failure is final.
    pub max_attempts: u32,
    /// Wait before the second attempt; doubles with each further one, up to a minute.
    pub retry_delay: Duration,
    /// For tests: where to stop for good.
    pub pause_after: Option<Pause>,
}

/// A place between the effect of a step and the recording of its result. A worker that reaches it
/// makes the marker file and goes no further, so that a test can kill its process there.
#[derive(Clone, Debug)]
pub struct Pause {
    /// `kind.step`.
    pub step: String,
    /// The file that is made.
    pub marker: PathBuf,
}

/// Longest wait before a further attempt, unless the first is longer.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Runs jobs of the registered kinds.
pub struct Worker {
    queue: Queue,
    kinds: HashMap<&'static str, Arc<dyn JobKind>>,
    options: Arc<WorkerOptions>,
    owner: String,
}

// === impl WorkerOptions ===

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 4,
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(2),
            max_attempts: 4,
            retry_delay: Duration::from_secs(1),
            pause_after: None,
        }
    }
}

impl WorkerOptions {
    /// The wait before a further attempt, of which `attempt` were made.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        let doubled = self.retry_delay * 2_u32.pow(attempt.clamp(1, 10) - 1);
        doubled.min(self.longest_delay())
    }

    /// The longest wait before an attempt.
    fn longest_delay(&self) -> Duration {
        LONGEST_DELAY.max(self.retry_delay)
    }
}

// === impl Worker ===

impl Worker {
    /// A worker for `kinds` over `queue`.
    pub fn new(
        queue: Queue,
        kinds: impl IntoIterator<Item = Arc<dyn JobKind>>,
        options: WorkerOptions,
    ) -> Self {
        Self {
            queue,
            kinds: kinds.into_iter().map(|kind| (kind.kind(), kind)).collect(),
            options: Arc::new(options),
            owner: Uuid::new_v4().to_string(),
        }
    }

    /// Claims and runs jobs until `cancel` fires. Running steps are then stopped and their jobs
    /// given back, to be taken up by the next worker at once.
    pub async fn run(self, cancel: CancellationToken) {
        let mut running = JoinSet::new();
        let mut jobs: HashMap<Id, JobId> = HashMap::new();
        loop {
            while running.len() < self.options.concurrency && !cancel.is_cancelled() {
                match self.claim(jobs.values()).await {
                    Ok(Some(job)) => {
                        let id = job.id;
                        let span = tracing::trace_span!(
                            target: TRACES, "job", id = %job.id, otel.name = job.kind
                        );
                        let run = self.run_of(job, &cancel).run().instrument(span);
                        let task = running.spawn(run);
                        jobs.insert(task.id(), id);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(error = error.chain(), "cannot claim a job");
                        break;
                    }
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.queue.work.notified() => {}
                () = tokio::time::sleep(self.options.poll) => {}
                Some(ended) = running.join_next_with_id() => {
                    jobs.remove(&report(ended));
                }
            }
        }
        while let Some(ended) = running.join_next_with_id().await {
            report(ended);
        }
    }

    fn run_of(&self, job: Job, cancel: &CancellationToken) -> Run {
        Run {
            queue: self.queue.clone(),
            kind: self.kinds.get(job.kind.as_str()).cloned(),
            job,
            owner: self.owner.clone(),
            options: self.options.clone(),
            shutdown: cancel.clone(),
        }
    }

    /// Takes the next job that is due, free, and not behind another with its key.
    ///
    /// The clock may have been set meanwhile. Set forward, it ends every lease at once, also those
    /// of jobs that run here, which are therefore left out. Set back, it puts off every job; none
    /// is ever put off for longer than [`LONGEST_DELAY`], so one that seems to be is due.
    async fn claim(&self, running: impl Iterator<Item = &JobId>) -> Result<Option<Job>> {
        let now = now();
        let running: Vec<String> = running.map(JobId::to_string).collect();
        let row = sqlx::query(
            "UPDATE jobs SET status = 'STARTED', attempt = attempt + 1, lease_owner = ?1,
                 lease_until = ?2, updated_at = ?3
             WHERE id = (
                 SELECT id FROM jobs AS candidate
                 WHERE status IN ('PENDING', 'STARTED', 'RETRY')
                     AND (run_at <= ?3 OR run_at > ?4)
                     AND id NOT IN (SELECT value FROM json_each(?5))
                     AND (lease_until IS NULL OR lease_until < ?3)
                     AND (exclusive_key IS NULL OR NOT EXISTS (
                         SELECT 1 FROM jobs AS earlier
                         WHERE earlier.status IN ('PENDING', 'STARTED', 'RETRY')
                             AND earlier.exclusive_key = candidate.exclusive_key
                             AND earlier.id < candidate.id))
                 ORDER BY run_at, id LIMIT 1)
             RETURNING *",
        )
        .bind(&self.owner)
        .bind(now + micros(self.options.lease))
        .bind(now)
        .bind(now + micros(self.options.longest_delay()))
        .bind(text(&running)?)
        .fetch_optional(&self.queue.pool)
        .await
        .map_err(failed("claiming a job"))?;
        row.as_ref().map(Job::read).transpose()
    }
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// Tells of a task that ended badly; gives which it was.
fn report(ended: std::result::Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(%error, "a job's task ended badly; its lease will run out");
            error.id()
        }
    }
}
