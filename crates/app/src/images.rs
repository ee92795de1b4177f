//! The catalogue with who uses it, and moving a deployment to another image.

use std::collections::HashMap;

use luthier_ports::{ImageInfo, ImageStatus, names_registry};
use luthier_store::{
    artifacts, deployments, models,
    uses::{self, ImageUse},
};
use luthier_types::{Cause, Code, DeploymentParams, Error, ModelId, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    App,
    deploy::{DeployPayload, Mode, image},
    job_view::JobCompact,
    lookup::not_found,
};

/// The body of a request to move a deployment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Move {
    /// The image to move to.
    pub image_uri: Option<String>,
    /// Whether to move to the image that the deployment was on before.
    pub back: bool,
}

impl App {
    /// Every image of the catalogue, and every other that a deployment uses: contents, whether it
    /// is still to be chosen, disk, and the deployments on it.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn images(&self) -> Result<Vec<Value>> {
        let mut db = self.deps.store.read().await?;
        let mut users: HashMap<String, Vec<Value>> = HashMap::new();
        for found in uses::images(&mut db).await? {
            let view = user(&found);
            users.entry(found.image_uri).or_default().push(view);
        }
        drop(db);
        let catalogue = self.deps.images.list();
        let default = image::default_image(&catalogue).map(|image| image.uri.clone());
        let mut views = vec![];
        for image in &catalogue {
            let mut view = view(image);
            view["disk"] = self.disk(&image.uri).await;
            view["default"] = json!(default.as_ref() == Some(&image.uri));
            view["deployments"] = json!(users.remove(&image.uri).unwrap_or_default());
            views.push(view);
        }
        let mut others: Vec<_> = users.into_iter().collect();
        others.sort_by(|a, b| a.0.cmp(&b.0));
        for (uri, deployments) in others {
            let disk = self.disk(&uri).await;
            let status = if names_registry(&uri) {
                "of_a_registry"
            } else {
                "not_in_catalogue"
            };
            views.push(
                json!({ "uri": uri, "status": status, "disk": disk, "deployments": deployments }),
            );
        }
        Ok(views)
    }

    /// What an image takes on disk. What cannot be measured is not worth failing a list for.
    async fn disk(&self, uri: &str) -> Value {
        let disk = self.deps.images.disk(uri).await.ok().flatten();
        disk.map_or(
            Value::Null,
            |(bytes, alone)| json!({ "bytes": bytes, "alone": alone }),
        )
    }

    /// Moves a deployment to another image: a deploy job with the package it has, whose new revision
    /// must prove itself as any other; if it does not, the old one serves on.
    ///
    /// # Errors
    /// `NotFound` for the model; `BadRequest` when it has no artifact, is on that image already, or
    /// was on no other; `UnknownImage`; `CapacityExceeded`.
    pub async fn move_to_image(&self, model: ModelId, request: Move) -> Result<JobCompact> {
        let mut db = self.deps.store.write().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let archive = artifacts::of_model(&mut db, model).await?;
        let deployment = deployments::of_model(&mut db, model).await?;
        let wanted = deployment.and_then(|d| d.wanted_revision);
        let current = match wanted {
            Some(id) => deployments::revision(&mut db, id).await?,
            None => None,
        };
        let (Some(archive), Some(current)) = (archive, current) else {
            return Err(Error::new(
                Code::BadRequest,
                format!(
                    "{}/{} has no artifact to move",
                    card.project_name, card.name
                ),
            )
            .hint("Add one with `add_artifact`; its parameters name the image."));
        };
        let cause = Cause::Move { back: request.back };
        let (uri, lock_of) = match request {
            Move {
                image_uri: Some(uri),
                back: false,
            } => (uri, None),
            Move {
                image_uri: None,
                back: true,
            } => {
                let earlier = uses::earlier_image(&mut db, model, current.id, &current.image_uri);
                let (revision, uri) = earlier.await?.ok_or_else(|| never_moved(&current))?;
                (uri, Some(revision))
            }
            _ => {
                return Err(Error::new(
                    Code::BadRequest,
                    "a move names either an image or the way back",
                )
                .hint("Send {\"image_uri\": …} or {\"back\": true}."));
            }
        };
        if uri == current.image_uri {
            return Err(Error::new(
                Code::BadRequest,
                format!("the deployment is on {uri} already"),
            )
            .hint("`luthier images` lists the others."));
        }
        let payload = DeployPayload {
            model_id: model,
            file_id: None,
            archive,
            mode: Mode::Update,
            params: DeploymentParams {
                image_uri: Some(uri),
                ..DeploymentParams::default()
            },
            keep_active: true,
            lock_of,
            cause,
            limits: None,
        };
        self.enqueue_deploy(db, &card, payload).await
    }

    /// The image to use instead of a deprecated one.
    pub(crate) fn replaced_by(&self, uri: &str) -> Option<String> {
        let images = self.deps.images.list();
        let image = image::find(&images, uri)?;
        image::replaced_by(image).map(str::to_owned)
    }
}

fn never_moved(current: &deployments::Revision) -> Error {
    Error::new(
        Code::BadRequest,
        format!(
            "the deployment has been on no image but {}",
            current.image_uri
        ),
    )
    .hint("Name the image to move to.")
}

fn view(image: &ImageInfo) -> Value {
    let status = match image.status {
        ImageStatus::Current => "current",
        ImageStatus::Deprecated { .. } => "deprecated",
    };
    json!({
        "uri": image.uri,
        "python": image.python,
        "summary": image.summary,
        "released": image.released,
        "libraries": image.libraries,
        "debian": image.debian,
        "status": status,
        "replaced_by": image::replaced_by(image),
        "single_version": image.single_version,
    })
}

fn user(found: &ImageUse) -> Value {
    json!({
        "model_id": found.model_id,
        "project": found.project,
        "model": found.model,
        "version": found.version,
        "active": found.active,
    })
}
