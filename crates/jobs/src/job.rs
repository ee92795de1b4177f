//! Jobs, steps and log lines as they are stored.

use jiff::Timestamp;
pub(crate) use luthier_store::failed;
use luthier_types::{Code, Error, JobId, JobStatus, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::{Row as _, sqlite::SqliteRow};

/// A job to enqueue.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Which [`crate::JobKind`] runs it.
    pub kind: &'static str,
    /// Its name for people.
    pub name: String,
    /// What the steps need to know, as JSON.
    pub payload: Value,
    /// What clients are shown beside the state; always an object.
    pub info: Value,
    /// Jobs with the same key run one after the other, in order of creation.
    pub exclusive_key: Option<String>,
}

/// A stored job.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Which kind runs it.
    pub kind: String,
    /// Its name for people.
    pub name: String,
    /// Where it stands.
    pub status: JobStatus,
    /// What the steps need to know.
    pub payload: Value,
    /// What clients are shown.
    pub info: Value,
    /// 0 to 100.
    pub progress: f64,
    /// See [`NewJob::exclusive_key`].
    pub exclusive_key: Option<String>,
    /// How often the current step was begun.
    pub attempt: u32,
    /// Whether someone asked to cancel it.
    pub cancel_requested: bool,
    /// Why it failed, or why its last attempt did while it waits for the next.
    pub error: Option<Error>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
}

/// A step that was begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What it gave, once it is done.
    pub result: Option<Value>,
    /// When it was last begun.
    pub started_at: Timestamp,
    /// When its result was recorded.
    pub finished_at: Option<Timestamp>,
}

/// A line of a job's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// The step that wrote it.
    pub step: String,
    /// When.
    pub at: Timestamp,
    /// The text, without its end of line.
    pub line: String,
}

// === impl Job ===

impl Job {
    pub(crate) fn read(row: &SqliteRow) -> Result<Self> {
        Ok(Self {
            id: word(row.get("id"))?,
            kind: row.get("kind"),
            name: row.get("name"),
            status: word(row.get("status"))?,
            payload: document(row.get("payload"))?,
            info: document(row.get("info"))?,
            progress: row.get("progress"),
            exclusive_key: row.get("exclusive_key"),
            attempt: row.get("attempt"),
            cancel_requested: row.get("cancel_requested"),
            error: row
                .get::<Option<&str>, _>("error")
                .map(document)
                .transpose()?,
            created_at: time(row.get("created_at"))?,
            updated_at: time(row.get("updated_at"))?,
        })
    }
}

// === impl Step ===

impl Step {
    pub(crate) fn read(row: &SqliteRow) -> Result<Self> {
        Ok(Self {
            name: row.get("name"),
            result: row
                .get::<Option<&str>, _>("result")
                .map(document)
                .transpose()?,
            started_at: time(row.get("started_at"))?,
            finished_at: row
                .get::<Option<i64>, _>("finished_at")
                .map(time)
                .transpose()?,
        })
    }
}

// === impl LogLine ===

impl LogLine {
    pub(crate) fn read(row: &SqliteRow) -> Result<Self> {
        Ok(Self {
            step: row.get("step"),
            at: time(row.get("at"))?,
            line: row.get("line"),
        })
    }
}

pub(crate) fn cancelled() -> Error {
    Error::new(Code::Cancelled, "the job was cancelled")
}

pub(crate) fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

pub(crate) fn text<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("writing a job's document", e))
}

fn document<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::internal("reading a job's document", e))
}

fn word<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_value(Value::String(text.to_owned()))
        .map_err(|e| Error::internal("reading a job", e))
}

fn time(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|e| Error::internal("reading a job's time", e))
}
