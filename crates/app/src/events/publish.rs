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

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        let payload: DatasetPayload = ctx.payload()?;
        if step == "convert" {
            return self.convert(ctx, &payload).await;
        }
        let converted: Converted = ctx.need("convert")?;
        self.record(payload, converted).await
    }
}

impl PublishDataset {
    async fn convert(&self, ctx: &StepContext, payload: &DatasetPayload) -> Result<Value> {
        let app = &self.0;
        let model = app.model(payload.model_id).await?;
        let (path, published) = app.canonical(&model, &payload.file).await?;
        ctx.logger().line(format!("{} rows", published.rows));
        let file = tokio::fs::File::open(&path)
            .await
            .map_err(|e| Error::internal("reading a dataset", e))?;
        let blob = app.deps.blobs.put(Box::new(file), u64::MAX).await?;
        Ok(json!(Converted {
            digest: blob.digest,
            rows: published.rows,
        }))
    }

    async fn record(&self, payload: DatasetPayload, converted: Converted) -> Result<Value> {
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
        self.0.commit(db).await?;
        Ok(json!({ "dataset_id": id }))
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
        app.commit(db).await?;
        Ok(json!({ "events": ids.len() }))
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
