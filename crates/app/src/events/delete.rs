//! Deleting events: by their ids or by time.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_data::parse_timestamp;
use luthier_jobs::{JobKind, NewJob, StepContext};
use luthier_store::events;
use luthier_types::{Code, EnvType, Error, ModelId, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{App, job_info, job_view::JobCompact, models::of_model};

const KIND: &str = "delete_events";
/// Most ids of one request.
const MAX_IDS: usize = 10_000;

/// The body of a request to delete events.
#[derive(Clone, Debug, Deserialize)]
pub struct DeleteRequest {
    /// The model they belong to.
    pub model_id: ModelId,
    /// From a time up to, not including, another.
    #[serde(default)]
    pub time_range: Option<TimeRange>,
    /// By id.
    #[serde(default)]
    pub event_ids: Option<Vec<String>>,
}

/// A span of time; the end is not in it.
#[derive(Clone, Debug, Deserialize)]
pub struct TimeRange {
    /// ISO text; absent for the beginning.
    #[serde(default)]
    pub start_time: Option<String>,
    /// ISO text; absent for the end.
    #[serde(default)]
    pub end_time: Option<String>,
}

/// Which events go.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Which {
    Ids(Vec<String>),
    Between(Timestamp, Timestamp),
}

#[derive(Serialize, Deserialize)]
struct Payload {
    model_id: ModelId,
    which: Which,
}

/// Deletes events.
pub struct DeleteEvents(pub Arc<App>);

impl App {
    /// Starts deleting events.
    ///
    /// # Errors
    /// `BadRequest` unless exactly one of ids and time range is given and fits; `NotFound`.
    pub async fn delete_events(&self, request: DeleteRequest) -> Result<JobCompact> {
        let model = self.model(request.model_id).await?;
        let refuse = |cause: String| {
            Error::new(Code::BadRequest, cause).hint(
                "Give either event_ids, or time_range with start_time before end_time in ISO 8601.",
            )
        };
        let which = match (request.event_ids, request.time_range) {
            (Some(ids), None) if (1..=MAX_IDS).contains(&ids.len()) => Which::Ids(ids),
            (Some(ids), None) => {
                return Err(refuse(format!(
                    "event_ids has {} ids, not 1 to {MAX_IDS}",
                    ids.len()
                )));
            }
            (None, Some(range)) => {
                let time = |text: Option<String>, open: Timestamp| match text {
                    None => Ok(open),
                    Some(text) => parse_timestamp(&text)
                        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
                        .ok_or_else(|| refuse(format!("`{text}` is not a time"))),
                };
                let start = time(range.start_time, Timestamp::MIN)?;
                let end = time(range.end_time, Timestamp::MAX)?;
                if start >= end {
                    return Err(refuse("the time range is empty".to_owned()));
                }
                Which::Between(start, end)
            }
            (Some(_), Some(_)) => {
                return Err(refuse("both event_ids and time_range are given".to_owned()));
            }
            (None, None) => {
                return Err(refuse(
                    "neither event_ids nor time_range is given".to_owned(),
                ));
            }
        };
        let name = "Delete events";
        let mut info = job_info::of_model(&model, "EVENT", "PRODUCTION");
        info["env_type"] = json!(EnvType::Production);
        let job = NewJob {
            kind: KIND,
            name: name.to_owned(),
            payload: json!({ "model_id": model.id, "which": which }),
            info,
            exclusive_key: Some(format!("events:{}", model.id)),
        };
        let mut db = self.deps.store.write().await?;
        let id = self.deps.queue.enqueue(&mut db, job).await?;
        let change = of_model("events.delete", &model).job(id);
        self.audit(&mut db, change).await?;
        self.commit(db).await?;
        self.deps.queue.wake();
        Ok(JobCompact::new(id, name))
    }
}

#[async_trait]
impl JobKind for DeleteEvents {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["delete"]
    }

    fn decides(&self) -> Option<&'static str> {
        Some("delete")
    }

    async fn run_step(&self, ctx: &StepContext, _: &str) -> Result<Value> {
        let Payload { model_id, which } = ctx.payload()?;
        let mut db = self.0.deps.store.write().await?;
        let deleted = match which {
            Which::Between(start, end) => {
                events::delete_between(&mut db, model_id, start, end).await?
            }
            Which::Ids(ids) => {
                let mut deleted = 0;
                for id in ids {
                    deleted += events::delete(&mut db, model_id, &id).await?;
                }
                deleted
            }
        };
        let result = ctx.record(&mut db, &json!({ "events": deleted })).await?;
        self.0.commit(db).await?;
        ctx.logger().line(format!("{deleted} events deleted"));
        Ok(result)
    }
}
