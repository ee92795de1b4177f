//! Revisions: what replicas of a model are made of.

use luthier_store::{deployments, models};
use luthier_types::{Code, Error, ModelId, Result, RevisionId};
use serde_json::{Value, json};

use crate::{App, lookup::not_found};

impl App {
    /// A revision of the model with the digests of all its layers: the one asked for, or the one
    /// that serves, or else the one that shall.
    ///
    /// # Errors
    /// `NotFound` when there is no such model or revision, or nothing was deployed yet.
    pub async fn revision(&self, model: ModelId, wanted: Option<RevisionId>) -> Result<Value> {
        let mut db = self.deps.store.read().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let id = match wanted {
            Some(id) => id,
            None => deployments::of_model(&mut db, model)
                .await?
                .and_then(|d| d.serving_revision.or(d.wanted_revision))
                .ok_or_else(|| {
                    Error::new(Code::NotFound, "nothing was deployed for the model yet")
                        .hint("Deploy an artifact first; `luthier jobs` shows how far it is.")
                })?,
        };
        let r = deployments::revision(&mut db, id)
            .await?
            .filter(|r| r.model_id == model)
            .ok_or_else(|| not_found("Revision"))?;
        Ok(json!({
            "id": r.id,
            "model": format!("{}/{}:{}", card.project_name, card.name, card.version),
            "image_uri": r.image_uri,
            "image": r.image,
            "rootfs": r.rootfs,
            "interpreter": r.interpreter,
            "variables": r.variables,
            "env": r.env,
            "runner": r.runner,
            "package": r.package,
            "inputs": r.inputs,
            "outputs": r.outputs,
            "created_at": r.created_at,
        }))
    }
}
