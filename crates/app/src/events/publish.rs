//! The jobs that store what was published as a file.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_data::{Published, canonicalise};
use luthier_jobs::{JobKind, StepContext};
use luthier_store::{
    datasets::{self, Dataset, Owner},
    models::Model,
};
use luthier_types::{Code, DatasetId, Digest, Error, ModelId, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempPath;

use super::{Write, rows};
use crate::{App, spool::heavy};

pub(super) const DATASET: &str = "publish_dataset";
pub(super) const EVENTS: &str = "publish_events";

/// Makes a dataset of an uploaded file.
pub struct PublishDataset(pub Arc<App>);

#[derive(Serialize, Deserialize)]
struct DatasetPayload {
    model_id: ModelId,
    file: Digest,
    dataset_id: DatasetId,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct Converted {
    digest: Digest,
    rows: u64,
}

#[async_trait]
impl JobKind for PublishDataset {
    fn kind(&self) -> &'static str {
        DATASET
    }

    fn steps(&self) -> &'static [&'static str] {
        &["convert", "record"]
    }

    fn decides(&self) -> Option<&'static str> {
        Some("record")
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        let payload: DatasetPayload = ctx.payload()?;
        if step == "convert" {
            let _keep = self.0.blobs_in_use.read().await;
            return Ok(json!(self.convert(ctx, &payload).await?));
        }
        self.record(ctx, payload).await
    }

    /// Removes the converted rows, unless another dataset has the same. Where it is not recorded
    /// which they are, converting again says so; what cannot be converted has left none.
    async fn failed(&self, ctx: &StepContext, _: &Error) -> Result<()> {
        let converted = match ctx.result("convert")? {
            Some(converted) => Some(converted),
            None => self.convert(ctx, &ctx.payload()?).await.ok(),
        };
        let left = converted.map(|converted| converted.digest);
        self.0.release_blobs(left.into_iter().collect()).await?;
        Ok(())
    }
}

impl PublishDataset {
    /// Stores the uploaded rows as the model types them. Nothing mentions the blob yet.
    async fn convert(&self, ctx: &StepContext, payload: &DatasetPayload) -> Result<Converted> {
        let app = &self.0;
        let model = app.model(payload.model_id).await?;
        let (path, published) = app.canonical(&model, &payload.file).await?;
        ctx.logger().line(format!("{} rows", published.rows));
        let file = tokio::fs::File::open(&path)
            .await
            .map_err(|e| Error::internal("reading a dataset", e))?;
        let blob = app.deps.blobs.put(Box::new(file), u64::MAX).await?;
        Ok(Converted {
            digest: blob.digest,
            rows: published.rows,
        })
    }

    async fn record(&self, ctx: &StepContext, payload: DatasetPayload) -> Result<Value> {
        // Nothing mentions the blob until the dataset is stored: another job that failed with the
        // same rows may have removed it, and must not do so now.
        let _keep = self.0.blobs_in_use.read().await;
        let mut converted: Converted = ctx.need("convert")?;
        if !self.0.deps.blobs.exists(&converted.digest).await? {
            converted = self.convert(ctx, &payload).await?;
        }
        let mut db = self.0.deps.store.write().await?;
        let model = self.0.known_model(&mut db, payload.model_id).await?;
        let id = payload.dataset_id;
        match datasets::by_name(&mut db, model.id, &payload.name).await? {
            // This step ran before, without its result having been recorded.
            Some(found) if found.id == id => return Ok(json!({ "dataset_id": id })),
            Some(_) => {
                return Err(Error::new(
                    Code::Conflict,
                    format!("Environment already exists: `{}`", payload.name),
                )
                .hint("Publish under another name."));
            }
            None => {}
        }
        let now = Timestamp::now();
        let dataset = Dataset {
            id,
            name: payload.name,
            owner: Owner {
                model_id: model.id,
                model_name: model.name,
                version: model.version,
                project_id: model.project_id,
                project_name: model.project_name,
            },
            row_count: converted.rows,
            digest: converted.digest,
            created_at: now,
            updated_at: now,
        };
        datasets::insert(&mut db, &dataset).await?;
        let result = ctx.record(&mut db, &json!({ "dataset_id": id })).await?;
        self.0.commit(db).await?;
        Ok(result)
    }
}

/// Stores or updates the events of an uploaded file.
pub struct PublishEvents(pub Arc<App>);

#[derive(Serialize, Deserialize)]
struct EventsPayload {
    model_id: ModelId,
    file: Digest,
    write: Write,
}

#[async_trait]
impl JobKind for PublishEvents {
    fn kind(&self) -> &'static str {
        EVENTS
    }

    fn steps(&self) -> &'static [&'static str] {
        &["store"]
    }

    fn decides(&self) -> Option<&'static str> {
        Some("store")
    }

    async fn run_step(&self, ctx: &StepContext, _: &str) -> Result<Value> {
        let payload: EventsPayload = ctx.payload()?;
        let app = &self.0;
        let model = app.model(payload.model_id).await?;
        let (path, published) = app.canonical(&model, &payload.file).await?;
        ctx.logger().line(format!("{} rows", published.rows));
        ctx.progress(0.3);
        let job = ctx.job();
        let prepared = heavy(move || {
            let mut prepared = rows::from_parquet(&model, &path, &published.columns)?;
            if payload.write == Write::Publish {
                rows::number(&mut prepared, job.0);
            }
            Ok(prepared)
        })
        .await?;
        let mut db = app.deps.store.write().await?;
        let ids = rows::store(&mut db, payload.model_id, prepared, payload.write).await?;
        let result = ctx.record(&mut db, &json!({ "events": ids.len() })).await?;
        app.commit(db).await?;
        Ok(result)
    }
}

impl App {
    /// An uploaded file as Parquet with the model's columns and types.
    async fn canonical(&self, model: &Model, file: &Digest) -> Result<(TempPath, Published)> {
        let input = self.spool(file).await?;
        let out = self.scratch_file()?.into_temp_path();
        let schema = model.schema.clone();
        let extra = rows::extra_columns(model);
        heavy(move || {
            let published = canonicalise(input.path(), &schema, &extra, &out)?;
            Ok((out, published))
        })
        .await
    }
}
