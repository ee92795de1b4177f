//! Publishing, updating and deleting data. Rows of a list are stored at once; files, and whatever may
//! be large, by a job. Everything that can be refused is refused before anything is stored, because
//! clients publish a second time when the first request fails.

mod delete;
mod publish;
mod rows;

use luthier_jobs::NewJob;
use luthier_store::{
    datasets, events, files,
    models::{self, Model},
};
use luthier_types::{Code, DatasetId, EnvType, Error, FileId, ModelId, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{App, job_info, job_view::JobCompact, lookup::not_found, models::of_model};

pub use delete::{DeleteEvents, DeleteRequest};
pub use publish::{PublishDataset, PublishEvents};

/// Most rows of one list.
const MAX_ROWS: usize = 10_000;
/// Longest name of a dataset.
const MAX_NAME: usize = 256;

/// The body of a request to publish or update data.
#[derive(Clone, Debug, Deserialize)]
pub struct Publish {
    /// Where the rows are.
    pub source: DataFrom,
    /// The model they belong to.
    pub model_id: ModelId,
    /// Which data they are.
    pub env_type: EnvType,
    /// Name of the dataset, for pre-production.
    #[serde(default)]
    pub env_name: Option<String>,
}

/// Where published rows are.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DataFrom {
    /// In an uploaded file.
    File {
        /// The file.
        file_id: FileId,
    },
    /// In the request.
    Events {
        /// The rows.
        events: Vec<Value>,
    },
}

/// Whether rows are new or change old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// New.
    Publish,
    /// Known by the ids of their events.
    Update,
}

/// What publishing gives.
#[derive(Clone, Debug)]
pub enum Accepted {
    /// The job that does it.
    Job(JobCompact),
    /// The ids of the events it stored.
    Events(Vec<String>),
}

impl App {
    /// Publishes or updates data. `repeated` says that the client sends the request again because it
    /// saw no answer; then an open job for the same file is the one it started.
    ///
    /// # Errors
    /// `BadRequest` naming the row and column that do not fit; `NotFound` for the model or the
    /// file; `Conflict` for the name of a dataset.
    pub async fn publish_data(
        &self,
        request: Publish,
        write: Write,
        repeated: bool,
    ) -> Result<Accepted> {
        let model = self.model(request.model_id).await?;
        if write == Write::Update {
            rows::check_updatable(&model, request.env_type)?;
        }
        match (request.source, request.env_type) {
            (DataFrom::Events { events }, EnvType::Production) => {
                self.write_events(model, events, write).await
            }
            (DataFrom::Events { .. }, EnvType::PreProduction) => Err(Error::new(
                Code::BadRequest,
                "a list of rows cannot be published into a pre-production environment",
            )
            .hint("Publish a DataFrame or a file instead.")),
            (DataFrom::File { file_id }, EnvType::Production) => {
                self.publish_events(model, file_id, write, repeated).await
            }
            (DataFrom::File { file_id }, EnvType::PreProduction) => {
                let name = request.env_name.unwrap_or_default();
                self.publish_dataset(model, file_id, name, repeated).await
            }
        }
    }

    async fn write_events(&self, model: Model, rows: Vec<Value>, write: Write) -> Result<Accepted> {
        if rows.is_empty() || rows.len() > MAX_ROWS {
            return Err(Error::new(
                Code::BadRequest,
                format!("the list has {} rows", rows.len()),
            )
            .hint(format!("Send 1 to {MAX_ROWS} rows at a time.")));
        }
        let id = model.id;
        let prepared = crate::spool::heavy(move || rows::from_json(&model, &rows)).await?;
        let mut db = self.deps.store.write().await?;
        let ids = rows::store(&mut db, id, prepared, write).await?;
        self.commit(db).await?;
        Ok(Accepted::Events(ids))
    }

    async fn publish_events(
        &self,
        model: Model,
        file: FileId,
        write: Write,
        repeated: bool,
    ) -> Result<Accepted> {
        let name = "Publish events";
        // Until the job is stored nothing says that the blob is needed.
        let _keep = self.blobs_in_use.read().await;
        let digest = self.data_file(file).await?;
        let mut info = job_info::of_model(&model, "EVENT", "PRODUCTION");
        info["env_type"] = json!(EnvType::Production);
        let key = format!("events:{}", model.id);
        let payload = json!({ "model_id": model.id, "file": digest, "write": write });
        let mut db = self.deps.store.write().await?;
        if repeated
            && let Some(job) = self
                .deps
                .queue
                .open(&mut db, &key)
                .await?
                .iter()
                .find(|job| job.payload == payload)
        {
            return Ok(Accepted::Job(JobCompact::of(job)));
        }
        let job = NewJob {
            kind: publish::EVENTS,
            name: name.to_owned(),
            payload,
            info,
            exclusive_key: Some(key),
        };
        let id = self.deps.queue.enqueue(&mut db, job).await?;
        let change = of_model("events.publish", &model).job(id);
        self.audit(&mut db, change).await?;
        self.commit(db).await?;
        self.deps.queue.wake();
        Ok(Accepted::Job(JobCompact::new(id, name)))
    }

    async fn publish_dataset(
        &self,
        model: Model,
        file: FileId,
        name: String,
        repeated: bool,
    ) -> Result<Accepted> {
        let job_name = "Upload dataset";
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::new(
                Code::BadRequest,
                "a pre-production environment needs a name",
            )
            .hint(format!("Give env_name (1 to {MAX_NAME} bytes).")));
        }
        // Until the job is stored nothing says that the blob is needed.
        let _keep = self.blobs_in_use.read().await;
        let digest = self.data_file(file).await?;
        let mut info = job_info::of_model(&model, "DATASET", &name);
        info["env_type"] = json!(EnvType::PreProduction);
        info["env_name"] = json!(name);
        let key = format!("dataset:{}:{name}", model.id);
        let taken = || {
            Error::new(
                Code::Conflict,
                format!("Environment already exists: `{name}`"),
            )
            .hint("Datasets do not change; publish under another name.")
        };
        let mut db = self.deps.store.write().await?;
        if datasets::by_name(&mut db, model.id, &name).await?.is_some() {
            return Err(taken());
        }
        if let Some(open) = self.deps.queue.open(&mut db, &key).await?.first() {
            let same = repeated && open.payload["file"] == json!(digest);
            return if same {
                Ok(Accepted::Job(JobCompact::of(open)))
            } else {
                Err(taken())
            };
        }
        let job = NewJob {
            kind: publish::DATASET,
            name: job_name.to_owned(),
            payload: json!({
                "model_id": model.id,
                "file": digest,
                "dataset_id": DatasetId::new(),
                "name": name,
            }),
            info,
            exclusive_key: Some(key),
        };
        let id = self.deps.queue.enqueue(&mut db, job).await?;
        let after = json!({ "dataset": name });
        let change = of_model("dataset.publish", &model).job(id);
        self.audit(&mut db, change.fields(&Value::Null, &after))
            .await?;
        self.commit(db).await?;
        self.deps.queue.wake();
        Ok(Accepted::Job(JobCompact::new(id, job_name)))
    }

    /// The blob of an uploaded file that is whole and may be a table.
    async fn data_file(&self, id: FileId) -> Result<luthier_types::Digest> {
        let digest = self.whole_file(id).await?;
        let mut db = self.deps.store.read().await?;
        let file = files::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("File"))?;
        if file.kind == files::FileType::TarGz {
            return Err(Error::new(
                Code::BadRequest,
                format!("`{}` is an archive, not a table", file.filename),
            )
            .hint("Upload CSV or Parquet."));
        }
        Ok(digest)
    }

    /// The number of production events of a model.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn event_count(&self, model: ModelId) -> Result<u64> {
        events::count(&mut *self.deps.store.read().await?, model).await
    }

    pub(crate) async fn known_model(
        &self,
        db: &mut sqlx::SqliteConnection,
        id: ModelId,
    ) -> Result<Model> {
        models::get(db, id).await?.ok_or_else(|| not_found("Model"))
    }
}
