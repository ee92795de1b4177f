//! Log lines and progress of a running job, gathered in memory and written in batches, so that a
//! chatty tool does not become a chatty database.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use luthier_types::{JobId, Result};
use sqlx::SqliteConnection;

use crate::job::{failed, now};

/// Most lines of a job that are kept: the last ones.
pub(crate) const MAX_LINES: usize = 4000;
/// Most bytes of a line that are kept: its beginning.
pub(crate) const MAX_LINE_BYTES: usize = 2000;

/// Takes the lines and the progress of one step. Cheap to clone; never blocks on IO.
#[derive(Clone)]
pub struct Logger {
    step: Arc<str>,
    shared: Arc<Mutex<Pending>>,
}

/// What was not written yet.
#[derive(Default)]
pub(crate) struct Pending {
    lines: VecDeque<(Arc<str>, i64, String)>,
    dropped: usize,
    fraction: Option<f64>,
}

// === impl Logger ===

impl Logger {
    pub(crate) fn new(step: &str, shared: Arc<Mutex<Pending>>) -> Self {
        Self {
            step: step.into(),
            shared,
        }
    }

    /// Adds text, line by line; long lines are cut.
    pub fn line(&self, text: impl AsRef<str>) {
        let mut pending = lock(&self.shared);
        for line in text.as_ref().lines() {
            let mut end = line.len().min(MAX_LINE_BYTES);
            while !line.is_char_boundary(end) {
                end -= 1;
            }
            if pending.lines.len() == MAX_LINES {
                pending.lines.pop_front();
                pending.dropped += 1;
            }
            let step = self.step.clone();
            pending
                .lines
                .push_back((step, now(), line[..end].to_owned()));
        }
    }

    pub(crate) fn progress(&self, fraction: f64) {
        if fraction.is_finite() {
            lock(&self.shared).fraction = Some(fraction.clamp(0.0, 1.0));
        }
    }
}

// === impl Pending ===

impl Pending {
    /// Takes what is to be written; `None` when there is nothing.
    pub(crate) fn take(shared: &Mutex<Self>) -> Option<Self> {
        let mut pending = lock(shared);
        (!pending.lines.is_empty() || pending.fraction.is_some())
            .then(|| std::mem::take(&mut *pending))
    }

    pub(crate) fn fraction(&self) -> Option<f64> {
        self.fraction
    }

    /// Writes the lines and forgets the oldest beyond [`MAX_LINES`].
    pub(crate) async fn write(self, db: &mut SqliteConnection, job: JobId) -> Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        if self.dropped > 0 {
            tracing::warn!(%job, dropped = self.dropped, "a step logs faster than is written");
        }
        for (step, at, line) in self.lines {
            sqlx::query("INSERT INTO job_logs (job_id, step, at, line) VALUES (?, ?, ?, ?)")
                .bind(job.to_string())
                .bind(&*step)
                .bind(at)
                .bind(line)
                .execute(&mut *db)
                .await
                .map_err(failed("writing a job's log"))?;
        }
        sqlx::query(
            "DELETE FROM job_logs WHERE job_id = ?1 AND seq <= (
                 SELECT seq FROM job_logs WHERE job_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
        )
        .bind(job.to_string())
        .bind(MAX_LINES as i64)
        .execute(db)
        .await
        .map_err(failed("trimming a job's log"))?;
        Ok(())
    }
}

fn lock(shared: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
