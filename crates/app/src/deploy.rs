//! Adding and updating a model's artifact: the request. What follows is the [`job`].

mod await_ready;
mod before;
mod check;
pub(crate) mod image;
mod job;
mod layers;
mod lock;
mod outcome;
mod publish;
mod wanted;

use luthier_jobs::NewJob;
use luthier_ports::ImageInfo;
use luthier_store::{
    artifacts::{self, Artifact},
    deployments,
    models::{self, Model},
    outside,
};
use luthier_types::{
    ArtifactStatus, Cause, Code, DeploymentParams, Error, FileId, Limits, ModelId, Resources,
    Result, RevisionId,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use crate::{App, job_view::JobCompact, lookup::not_found, models::of_model};

pub(crate) use await_ready::settled;
pub(crate) use before::Intent;
pub use image::{DEFAULT_IMAGE, alternatives};
pub use job::DeployJob;
pub(crate) use job::{Unpacked, json, sink, unknown_step};
pub(crate) use layers::{list_files, remove_tree};
pub(crate) use lock::Locked;
pub(crate) use outcome::outcome;

/// The kind of the job that deploys an artifact.
pub const DEPLOY: &str = "deploy_artifact";
/// Its name, as the platform calls it.
pub const DEPLOY_NAME: &str = "Deploy artifact model - manual";

/// The body of a deploy request.
#[derive(Clone, Debug, Deserialize)]
pub struct DeployRequest {
    /// The uploaded archive.
    pub file_id: FileId,
    /// What the user set.
    #[serde(default)]
    pub deployment_params: Option<Value>,
    /// How far the new revision may differ from what serves, instead of the deployment's limits.
    #[serde(default)]
    pub limits: Option<Limits>,
}

/// Whether a first artifact is added or the one there is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The model has none yet.
    Add,
    /// The model has one.
    Update,
}

/// What the deploy job is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeployPayload {
    pub(crate) model_id: ModelId,
    /// The upload; none when the package that is deployed stays and its image changes.
    pub(crate) file_id: Option<FileId>,
    pub(crate) archive: Artifact,
    pub(crate) mode: Mode,
    pub(crate) params: DeploymentParams,
    /// Whether a deployment that is not active stays so.
    #[serde(default)]
    pub(crate) keep_active: bool,
    /// The revision whose lock is taken instead of a new one, if it has the same package.
    #[serde(default)]
    pub(crate) lock_of: Option<RevisionId>,
    #[serde(default)]
    pub(crate) cause: Cause,
    /// Instead of the deployment's.
    #[serde(default)]
    pub(crate) limits: Option<Limits>,
}

impl App {
    /// Deploys an uploaded archive as the artifact of a model. `repeated` says that the client
    /// sends the request again because it saw no answer; while the first one's job is not
    /// finished, it is answered with that job.
    ///
    /// # Errors
    /// `NotFound` for the model or the file, `BadRequest` for parameters, `UnknownImage`,
    /// `CapacityExceeded` with the figures.
    pub async fn deploy_artifact(
        &self,
        model: ModelId,
        request: DeployRequest,
        mode: Mode,
        repeated: bool,
    ) -> Result<JobCompact> {
        let params = parse_params(request.deployment_params)?;
        request.limits.unwrap_or_default().check()?;
        let mut db = self.deps.store.write().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let open = self.deps.queue.open(&mut db, &model.to_string()).await?;
        let same = open.iter().find(|job| {
            let payload = serde_json::from_value::<DeployPayload>(job.payload.clone());
            job.kind == DEPLOY && payload.is_ok_and(|p| p.file_id == Some(request.file_id))
        });
        if repeated && let Some(job) = same {
            return Ok(JobCompact::of(job));
        }
        if mode == Mode::Add
            && let Some(job) = open.iter().find(|job| job.kind == DEPLOY)
        {
            return Err(Error::new(
                Code::BadRequest,
                format!(
                    "an artifact is being deployed to this model by the job {}",
                    job.id
                ),
            )
            .hint("Wait for that job; then use update_model_artifact to replace the artifact."));
        }
        check_mode(&card, mode)?;
        let archive = archive(&mut db, request.file_id).await?;
        let payload = DeployPayload {
            model_id: model,
            file_id: Some(request.file_id),
            archive,
            mode,
            params,
            keep_active: false,
            lock_of: None,
            cause: match mode {
                Mode::Add => Cause::Add,
                Mode::Update => Cause::Update,
            },
            limits: request.limits,
        };
        self.enqueue_deploy(db, &card, payload).await
    }

    /// Checks what is to be deployed against what there is, and enqueues its job.
    pub(crate) async fn enqueue_deploy(
        &self,
        mut db: Transaction<'static, Sqlite>,
        card: &Model,
        payload: DeployPayload,
    ) -> Result<JobCompact> {
        let intent = Intent::of(&mut db, card.id).await?;
        let wanted = payload.wanted(intent.as_ref())?;
        let current = match intent.and_then(|i| i.wanted_revision) {
            Some(id) => deployments::revision(&mut db, id).await?,
            None => None,
        };
        let mut info = model_info(card);
        info["cause"] = payload.cause.to_string().into();
        let current = current.as_ref().map(|r| r.image_uri.as_str());
        if let Some(uri) = image::named(&payload.params, current) {
            let images = self.deps.images.list();
            if !payload.cause.is_exact() {
                image::check_name(&images, &self.deps.settings.registries, uri)?;
            }
            info["image_uri"] = uri.into();
            if let Some(named) = image::find(&images, uri) {
                self.check_versions(&mut db, card, named).await?;
                info["warnings"] = image::notice(named).into_iter().collect();
            }
        }
        if wanted.active {
            self.check_capacity(&mut db, card.id, wanted.most(), wanted.resources)
                .await?;
        }
        let mode = payload.mode;
        let id = self
            .deps
            .queue
            .enqueue(
                &mut db,
                NewJob {
                    kind: DEPLOY,
                    name: DEPLOY_NAME.to_owned(),
                    payload: json(&payload)?,
                    info,
                    exclusive_key: Some(card.id.to_string()),
                },
            )
            .await?;
        let change = of_model("deployment.deploy", card).job(id);
        let mut asked = json(&payload.params)?;
        asked["archive"] = payload.archive.digest.to_string().into();
        self.audit(&mut db, change.fields(&Value::Null, &asked))
            .await?;
        db.commit()
            .await
            .map_err(luthier_store::failed("enqueueing a deployment"))?;
        self.deps.queue.wake();
        tracing::info!(job = %id, model = %card.id, ?mode, "an artifact will be deployed");
        Ok(JobCompact::new(id, DEPLOY_NAME))
    }

    /// Refuses an image that serves single versions to a model that has several.
    pub(crate) async fn check_versions(
        &self,
        db: &mut SqliteConnection,
        card: &Model,
        image: &ImageInfo,
    ) -> Result<()> {
        let versions = models::versions(db, card.project_id, &card.name).await?;
        let model = format!("{}/{}", card.project_name, card.name);
        image::check_versions(&self.deps.images.list(), image, &model, versions)
    }

    /// Refuses a reservation that, with those of the other active deployments, is more than the
    /// machine has. `replicas` are the most that there can be.
    pub(crate) async fn check_capacity(
        &self,
        db: &mut SqliteConnection,
        model: ModelId,
        replicas: u32,
        each: Resources,
    ) -> Result<()> {
        if outside::of_model(db, model).await?.is_some() {
            // Its runner is an operator's.
            return Ok(());
        }
        let machine = self.deps.settings.machine;
        let (cpu, memory) = artifacts::reserved(db, model).await?;
        let asked_cpu = u64::from(replicas) * u64::from(each.cpu.0);
        let asked_memory = u64::from(replicas) * u64::from(each.memory.0);
        let mut over = vec![];
        for (what, asked, reserved, all, unit) in [
            ("CPU", asked_cpu, cpu, machine.cpu.0, "millicpu"),
            ("memory", asked_memory, memory, machine.memory.0, "MiB"),
        ] {
            let free = u64::from(all).saturating_sub(reserved);
            if asked > free {
                over.push(format!(
                    "{asked} {unit} of {what} ({replicas} × {}), where {free} of {all} are free \
                     ({reserved} reserved by other models)",
                    asked / u64::from(replicas.max(1))
                ));
            }
        }
        if over.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Code::CapacityExceeded,
            format!("the deployment asks for {}", over.join(", and for ")),
        )
        .hint("Ask for fewer replicas or less for each, or deactivate another deployment."))
    }
}

/// What clients are shown beside the state of a job about a model.
pub(crate) fn model_info(card: &Model) -> Value {
    serde_json::json!({
        "resource_type": "MODEL",
        "resource_name": card.name,
        "project_name": card.project_name,
        "resource": { "id": card.id, "name": card.name },
        "project": { "id": card.project_id, "name": card.project_name },
        "model": { "id": card.id, "name": card.name, "version": card.version },
    })
}

fn check_mode(card: &Model, mode: Mode) -> Result<()> {
    let name = format!("{}/{}", card.project_name, card.name);
    match (mode, card.artifact_status) {
        (Mode::Add, ArtifactStatus::NoModel)
        | (Mode::Update, ArtifactStatus::Surrogate | ArtifactStatus::UserUploaded) => Ok(()),
        (Mode::Add, ArtifactStatus::Surrogate | ArtifactStatus::UserUploaded) => Err(Error::new(
            Code::BadRequest,
            format!(
                "Model {name} already has an artifact. Please use update_model_artifact or \
                     update_model_surrogate"
            ),
        )
        .hint("Call `update_artifact` instead of `add_artifact`.")),
        (Mode::Update, ArtifactStatus::NoModel) => Err(Error::new(
            Code::BadRequest,
            format!("Model {name} has no artifact to update"),
        )
        .hint("Call `add_artifact` instead of `update_artifact`.")),
    }
}

async fn archive(db: &mut SqliteConnection, id: FileId) -> Result<Artifact> {
    let file = artifacts::file(db, id)
        .await?
        .ok_or_else(|| not_found("File"))?;
    match file.digest {
        Some(digest) if file.status == "SUCCESSFUL" => Ok(Artifact {
            digest,
            size: file.size,
        }),
        _ => Err(Error::new(
            Code::BadRequest,
            format!(
                "the file {} is not fully uploaded ({})",
                file.filename, file.status
            ),
        )
        .hint("Upload the archive again and deploy the new file.")),
    }
}

/// Reads the parameters, refusing names and values it does not know.
fn parse_params(value: Option<Value>) -> Result<DeploymentParams> {
    const KNOWN: [&str; 6] = [
        "artifact_type",
        "deployment_type",
        "image_uri",
        "replicas",
        "cpu",
        "memory",
    ];
    let value = match value {
        None | Some(Value::Null) => return Ok(DeploymentParams::default()),
        Some(value) => value,
    };
    let bad = |cause: String| {
        Error::new(Code::BadRequest, cause).hint(format!(
            "deployment_params is an object with any of {}; cpu is in whole millicpu, memory in \
             whole MiB.",
            KNOWN.join(", ")
        ))
    };
    // A list would be read as the fields in their order.
    let Value::Object(fields) = &value else {
        return Err(bad("deployment_params is not an object".to_owned()));
    };
    if let Some(unknown) = fields.keys().find(|k| !KNOWN.contains(&k.as_str())) {
        return Err(bad(format!("deployment_params has no field `{unknown}`")));
    }
    serde_json::from_value(value).map_err(|e| bad(format!("deployment_params does not fit: {e}")))
}

#[cfg(test)]
mod tests;
