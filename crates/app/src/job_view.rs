//! Jobs as users see them.

use luthier_jobs::{Job, Step};
use luthier_types::{JobId, JobStatus, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{App, deploy::DEPLOY, envs::COLLECT, lookup::not_found};

/// Most bytes of a job's error that the stock client is sent.
const MESSAGE_BYTES: usize = 8 * 1024;
/// Lines of a job's log that are given at once.
const LOG_LINES: u32 = 2000;

/// What a call that starts a job answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobCompact {
    /// Its id.
    pub id: JobId,
    /// Its name.
    pub name: String,
}

// === impl JobCompact ===

impl JobCompact {
    pub(crate) fn new(id: JobId, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
        }
    }

    pub(crate) fn of(job: &Job) -> Self {
        Self::new(job.id, &job.name)
    }
}

impl App {
    /// A job as the stock client reads it; `verbose` adds what became of each step.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn job(&self, id: JobId, verbose: bool) -> Result<Value> {
        let job = self.find_job(id).await?;
        let extras = if verbose {
            let steps = self.deps.queue.steps(id).await?;
            extras(&job, &steps)
        } else {
            Value::Null
        };
        Ok(for_client(&job, extras))
    }

    /// The latest jobs, newest first, as [`App::job`] gives them, with kind and times.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<Value>> {
        let jobs = self.deps.queue.list(limit).await?;
        Ok(jobs.iter().map(for_people).collect())
    }

    /// A job in full: steps, error and log.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn job_detail(&self, id: JobId) -> Result<Value> {
        let job = self.find_job(id).await?;
        let steps = self.deps.queue.steps(id).await?;
        let log = self.deps.queue.logs(id, LOG_LINES).await?;
        let mut value = for_people(&job);
        value["steps"] = steps
            .iter()
            .map(|step| {
                json!({
                    "name": step.name,
                    "status": step_word(&job, step),
                    "result": outcome(&job, step),
                    "started_at": step.started_at,
                    "finished_at": step.finished_at,
                })
            })
            .collect();
        value["log"] = serde_json::to_value(&log).unwrap_or_default();
        Ok(value)
    }

    /// Asks for a job to be cancelled; one that has ended stays as it is.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn cancel_job(&self, id: JobId) -> Result<Value> {
        self.find_job(id).await?;
        self.deps.queue.cancel(id).await?;
        Ok(for_people(&self.find_job(id).await?))
    }

    async fn find_job(&self, id: JobId) -> Result<Job> {
        let job = self.deps.queue.get(id).await?;
        job.ok_or_else(|| not_found("Job"))
    }
}

fn for_client(job: &Job, extras: Value) -> Value {
    // While a step waits for its next attempt the job has not failed; its error is in the log.
    let error = job.error.as_ref().filter(|_| job.status.is_final());
    json!({
        "id": job.id,
        "name": job.name,
        "status": job.status,
        "progress": job.progress,
        "info": if job.info.is_object() { job.info.clone() } else { json!({}) },
        "error_reason": error.map(|e| e.code().to_string()),
        "error_message": error.map(|e| bounded(e.public_text_within(MESSAGE_BYTES))),
        "extras": extras,
    })
}

fn for_people(job: &Job) -> Value {
    let mut value = for_client(job, Value::Null);
    value["error"] = serde_json::to_value(&job.error).unwrap_or_default();
    value["kind"] = json!(job.kind);
    value["attempt"] = json!(job.attempt);
    value["cancel_requested"] = json!(job.cancel_requested);
    value["created_at"] = json!(job.created_at);
    value["updated_at"] = json!(job.updated_at);
    value
}

/// Where a step stands, for people.
fn step_word(job: &Job, step: &Step) -> &'static str {
    match (step.finished_at, job.status) {
        (Some(_), _) => "done",
        (None, JobStatus::Failure) => "failed",
        (None, JobStatus::Revoked) => "cancelled",
        (None, JobStatus::Retry) => "waiting",
        (None, _) => "running",
    }
}

/// What of a step's result people are shown.
fn outcome(job: &Job, step: &Step) -> Map<String, Value> {
    match (&step.result, job.kind.as_str()) {
        (Some(result), DEPLOY) => crate::deploy::outcome(&step.name, result),
        (Some(Value::Object(result)), COLLECT) => result.clone(),
        _ => Map::new(),
    }
}

/// Per step its state, in the shape the platform gives its tasks.
fn extras(job: &Job, steps: &[Step]) -> Value {
    let mut tasks = Map::new();
    for step in steps {
        let done = step.finished_at.is_some();
        let status = match (done, job.status) {
            (true, _) => JobStatus::Success,
            (false, status) => status,
        };
        let failed = !done && job.status == JobStatus::Failure;
        let message = job.error.as_ref().filter(|_| failed);
        tasks.insert(
            step.name.clone(),
            json!({
                "status": status,
                "result": done.then(|| {
                    let mut result = outcome(job, step);
                    result.insert("result".to_owned(), json!("Success"));
                    result
                }),
                "error_message": message.map(|e| e.message()),
            }),
        );
    }
    Value::Object(tasks)
}

/// The beginning of a text, cut at a character.
fn bounded(mut text: String) -> String {
    if text.len() > MESSAGE_BYTES {
        let mut end = MESSAGE_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
