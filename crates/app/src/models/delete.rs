//! Deleting a model: a job, because that is what the client waits for.

use std::sync::Arc;

use async_trait::async_trait;
use luthier_jobs::{JobKind, NewJob, StepContext};
use luthier_store::{files, models};
use luthier_types::{Digest, ModelId, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::of_model;
use crate::{App, job_info, job_view::JobCompact, lookup::not_found};

/// Deletes a model with its data, deployment and revisions. The controller stops its replicas.
pub struct DeleteModel(pub Arc<App>);

#[derive(Serialize, Deserialize)]
struct Payload {
    model_id: ModelId,
}

/// What the step `delete` records.
#[derive(Serialize, Deserialize)]
struct Deleted {
    /// What the model referred to; others may as well.
    blobs: Vec<Digest>,
}

const KIND: &str = "delete_model";

impl App {
    /// Starts deleting a model version.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_model(&self, id: ModelId) -> Result<JobCompact> {
        let mut db = self.deps.store.write().await?;
        let model = models::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let key = format!("delete-model:{id}");
        // Asked again while it runs, the answer is the same job.
        if let Some(job) = self.deps.queue.open(&mut db, &key).await?.first() {
            return Ok(JobCompact::of(job));
        }
        let name = format!("Deleting model {}", model.name);
        let job = NewJob {
            kind: KIND,
            name: name.clone(),
            payload: json!({ "model_id": id }),
            info: job_info::of_model(&model, "MODEL", &model.name),
            exclusive_key: Some(key),
        };
        let job = self.deps.queue.enqueue(&mut db, job).await?;
        let change = of_model("model.delete", &model).job(job);
        self.audit(&mut db, change).await?;
        self.commit(db).await?;
        self.deps.queue.wake();
        Ok(JobCompact::new(job, &name))
    }
}

#[async_trait]
impl JobKind for DeleteModel {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn steps(&self) -> &'static [&'static str] {
        &["delete", "release"]
    }

    fn decides(&self) -> Option<&'static str> {
        Some("delete")
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        let Payload { model_id } = ctx.payload()?;
        match step {
            "delete" => self.delete(ctx, model_id).await,
            _ => self.release(ctx.need("delete")?, model_id).await,
        }
    }
}

impl DeleteModel {
    async fn delete(&self, ctx: &StepContext, model: ModelId) -> Result<Value> {
        let mut db = self.0.deps.store.write().await?;
        let mut blobs = files::blobs_of_model(&mut db, model).await?;
        blobs.extend(files::delete_deployed(&mut db, model).await?);
        models::delete(&mut db, model).await?;
        let deleted = ctx.record(&mut db, &json!(Deleted { blobs })).await?;
        self.0.commit(db).await?;
        Ok(deleted)
    }

    /// Lets go of what else is kept of the model.
    async fn release(&self, deleted: Deleted, model: ModelId) -> Result<Value> {
        self.0.forget_model(model);
        self.0.deps.wake_deployments.notify_one();
        let removed = self.0.release_blobs(deleted.blobs).await?;
        // Its packages stay until its replicas have ended.
        self.0.upkeep.notify_one();
        Ok(json!({ "removed": removed }))
    }
}
