//! Giving an artifact back as it was uploaded.

use luthier_ports::BlobReader;
use luthier_store::{artifacts, models};
use luthier_types::{Code, Error, ModelId, Result};

use crate::{App, lookup::not_found};

/// An archive on its way to a client.
pub struct Download {
    /// Its bytes.
    pub reader: BlobReader,
    /// How many.
    pub size: u64,
}

impl App {
    /// The archive that a model's artifact was deployed from.
    ///
    /// # Errors
    /// `NotFound` for the model, or when it has no artifact.
    pub async fn download_artifact(&self, model: ModelId) -> Result<Download> {
        let mut db = self.deps.store.read().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let artifact = artifacts::of_model(&mut db, model).await?.ok_or_else(|| {
            Error::new(
                Code::NotFound,
                format!(
                    "Model artifact not found for {}/{}",
                    card.project_name, card.name
                ),
            )
            .hint("Add one with `add_artifact`.")
        })?;
        Ok(Download {
            reader: self.deps.blobs.get(&artifact.digest).await?,
            size: artifact.size,
        })
    }
}
