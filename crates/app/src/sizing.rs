//! What deployments use and what to give them, and how their replicas failed.

use luthier_store::{
    deployments::Deployment,
    failures::{self, Failure},
    usage,
};
use luthier_types::{ModelId, Result, sizing::Sizing};
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use crate::App;

impl App {
    /// What was measured of the revision that serves, or else of the one that shall, against the
    /// resources that are wanted.
    pub(crate) async fn sizing_of(
        &self,
        db: &mut SqliteConnection,
        d: &Deployment,
    ) -> Result<Option<Sizing>> {
        let Some(revision) = d.serving_revision.or(d.wanted_revision) else {
            return Ok(None);
        };
        let machine = Some(self.deps.settings.machine.memory);
        let usage = usage::of_revision(db, revision).await?;
        Ok(usage.map(|usage| Sizing::of(usage, d.resources, machine)))
    }

    /// The latest failures of a model's replicas, newest first, at most `limit`.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn failures(&self, model: ModelId, limit: u32) -> Result<Vec<Value>> {
        self.model_card(model).await?;
        let mut db = self.deps.store.read().await?;
        let found = failures::latest(&mut db, model, limit).await?;
        Ok(found.iter().map(failure).collect())
    }
}

/// A failure as clients are shown it.
pub fn failure(failure: &Failure) -> Value {
    json!({
        "at": failure.at,
        "replica": failure.replica,
        "revision": failure.revision,
        "phase": failure.error.observed().phase,
        "error": failure.error,
    })
}
