//! Baselines: kept and echoed; only monitoring reads them.

use jiff::Timestamp;
use luthier_store::{
    baselines::{self, Baseline, BaselineType, WindowBinSize},
    datasets::{self, Owner},
    models,
    query::{ListQuery, Listing},
};
use luthier_types::{BaselineId, Code, DatasetId, EnvType, Error, ModelId, Result};
use serde::Deserialize;

use crate::{
    App,
    audit::Change,
    lookup::{exists, not_found},
};

/// Longest name.
const MAX_NAME: usize = 256;

/// The body of a request for a new baseline.
#[derive(Clone, Debug, Deserialize)]
pub struct CreateBaseline {
    /// Its name.
    pub name: String,
    /// The model it is for.
    pub model_id: ModelId,
    /// Whether it moves with time.
    #[serde(rename = "type")]
    pub kind: BaselineType,
    /// Which data it looks at.
    pub env_type: EnvType,
    /// The dataset, for pre-production.
    #[serde(default, alias = "dataset_id")]
    pub env_id: Option<DatasetId>,
    /// Epoch milliseconds.
    #[serde(default)]
    pub start_time: Option<i64>,
    /// Epoch milliseconds.
    #[serde(default)]
    pub end_time: Option<i64>,
    /// How far back a rolling baseline looks, in bins.
    #[serde(default)]
    pub offset_delta: Option<i64>,
    /// Width of a bin.
    #[serde(default)]
    pub window_bin_size: Option<WindowBinSize>,
}

impl App {
    /// Makes a baseline.
    ///
    /// # Errors
    /// `BadRequest`; `NotFound` for the model or the dataset; `Conflict`.
    pub async fn create_baseline(&self, request: CreateBaseline) -> Result<Baseline> {
        let refuse = |cause: &str, hint: &str| Err(Error::new(Code::BadRequest, cause).hint(hint));
        if request.name.is_empty() || request.name.len() > MAX_NAME {
            return refuse("the baseline's name is empty or too long", "Shorten it.");
        }
        if request.env_type == EnvType::PreProduction && request.env_id.is_none() {
            return refuse(
                "a pre-production baseline names no dataset",
                "Give the id of the dataset as env_id.",
            );
        }
        if let (Some(start), Some(end)) = (request.start_time, request.end_time)
            && start > end
        {
            return refuse("start_time is after end_time", "Exchange them.");
        }
        let mut db = self.deps.store.write().await?;
        let model = models::get(&mut db, request.model_id)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let dataset = match request.env_id {
            None => None,
            Some(id) => {
                let found = datasets::get(&mut db, id).await?;
                Some(
                    found
                        .filter(|dataset| dataset.owner.model_id == model.id)
                        .ok_or_else(|| not_found("Environment"))?,
                )
            }
        };
        let now = Timestamp::now();
        let baseline = Baseline {
            id: BaselineId::new(),
            name: request.name,
            owner: Owner {
                model_id: model.id,
                model_name: model.name,
                version: model.version,
                project_id: model.project_id,
                project_name: model.project_name,
            },
            kind: request.kind,
            env_type: request.env_type,
            dataset_id: request.env_id,
            row_count: dataset.as_ref().map(|dataset| dataset.row_count),
            dataset_name: dataset.map(|dataset| dataset.name),
            start_time: request.start_time,
            end_time: request.end_time,
            offset_delta: request.offset_delta,
            window_bin_size: request.window_bin_size,
            created_at: now,
            updated_at: now,
        };
        baselines::insert(&mut db, &baseline)
            .await
            .map_err(|e| match e.code() {
                Code::Conflict => exists("Baseline"),
                _ => e,
            })?;
        self.audit(&mut db, entry("baseline.create", &baseline))
            .await?;
        self.commit(db).await?;
        Ok(baseline)
    }

    /// A baseline by id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn baseline(&self, id: BaselineId) -> Result<Baseline> {
        let mut db = self.deps.store.read().await?;
        baselines::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("Baseline"))
    }

    /// A part of the list of baselines, of one model when given.
    ///
    /// # Errors
    /// `NotFound` for the model; `BadRequest` for a filter or an ordering that does not fit.
    pub async fn baselines(
        &self,
        model: Option<ModelId>,
        query: ListQuery,
    ) -> Result<Listing<Baseline>> {
        let mut db = self.deps.store.read().await?;
        let query = match model {
            None => query,
            Some(id) => {
                models::get(&mut db, id)
                    .await?
                    .ok_or_else(|| not_found("Model"))?;
                query.and_equal("model_id", id.to_string())
            }
        };
        baselines::list(&mut db, &query).await
    }

    /// Deletes a baseline.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_baseline(&self, id: BaselineId) -> Result<()> {
        let mut db = self.deps.store.write().await?;
        let baseline = baselines::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("Baseline"))?;
        baselines::delete(&mut db, id).await?;
        self.audit(&mut db, entry("baseline.delete", &baseline))
            .await?;
        self.commit(db).await
    }
}

fn entry(action: &str, baseline: &Baseline) -> Change {
    Change::new(action)
        .target(baseline.id, &baseline.name)
        .model(baseline.owner.model_id)
}
