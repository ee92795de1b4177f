//! Environments: what clients call datasets. Publishing makes them.

use luthier_store::{
    datasets::{self, Dataset},
    models,
    query::{ListQuery, Listing},
};
use luthier_types::{DatasetId, ModelId, Result};

use crate::{App, lookup::not_found};

impl App {
    /// A dataset by id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn environment(&self, id: DatasetId) -> Result<Dataset> {
        let mut db = self.deps.store.read().await?;
        datasets::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("Environment"))
    }

    /// A part of the list of datasets, of one model when given.
    ///
    /// # Errors
    /// `NotFound` for the model; `BadRequest` for a filter or an ordering that does not fit.
    pub async fn environments(
        &self,
        model: Option<ModelId>,
        query: ListQuery,
    ) -> Result<Listing<Dataset>> {
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
        datasets::list(&mut db, &query).await
    }
}
