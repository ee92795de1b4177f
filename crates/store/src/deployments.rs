//! Deployments and revisions. The API and jobs write intent; the deployment controller writes
//! observations; each leaves the other's columns alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use luthier_types::{
    ArtifactType, DeploymentId, DeploymentType, Digest, EnvId, Error, Mebibytes, Millicpu, ModelId,
    Phase, Resources, Result, RevisionId, Scaling, runner::InputColumn,
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    failed,
    values::{from_json, from_micros, from_word, to_json, to_micros, to_word},
};

/// A revision: everything a replica is made of. Immutable.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Its id.
    pub id: RevisionId,
    /// The model version it belongs to.
    pub model_id: ModelId,
    /// Name of the image.
    pub image_uri: String,
    /// Digest of the image.
    pub image: Digest,
    /// Root file system layer.
    pub rootfs: Digest,
    /// Interpreter layer.
    pub interpreter: Digest,
    /// Environment variables that the image sets.
    pub variables: BTreeMap<String, String>,
    /// Environment layer.
    pub env: EnvId,
    /// Package layer.
    pub package: Digest,
    /// Runner layer.
    pub runner: Digest,
    /// Inputs the package is given.
    pub inputs: Vec<InputColumn>,
    /// Outputs it must return.
    pub outputs: Vec<String>,
    /// Blob with the rows of the validation predict, as an Arrow stream.
    pub validation: Digest,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A deployment: what is wanted, and how far the controller is.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// The model version it runs.
    pub model_id: ModelId,
    /// Kind of artifact.
    pub artifact_type: ArtifactType,
    /// Who starts containers.
    pub deployment_type: DeploymentType,
    /// Whether replicas shall run.
    pub active: bool,
    /// How many.
    pub replicas: u32,
    /// What each may use.
    pub resources: Resources,
    /// What moves the number of replicas.
    pub scaling: Scaling,
    /// The revision that shall serve. `None` until the first is published.
    pub wanted_revision: Option<RevisionId>,
    /// Counts changes of intent.
    pub generation: i64,
    /// The revision that traffic reaches.
    pub serving_revision: Option<RevisionId>,
    /// The generation that `phase` and `failure` speak of.
    pub observed_generation: i64,
    /// How far the controller is.
    pub phase: Phase,
    /// Replicas that answer.
    pub ready_replicas: u32,
    /// How many there are to be now; `None` while the controller has not said.
    pub target_replicas: Option<u32>,
    /// Why `phase` is `failed`, or why a serving replica last crashed.
    pub failure: Option<Error>,
    /// Times that replicas of the serving revision failed, one soon after the other.
    pub crashes: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When intent last changed.
    pub updated_at: Timestamp,
}

impl Deployment {
    /// Whether the controller has finished with the latest intent, well or badly.
    pub fn is_settled(&self) -> bool {
        self.observed_generation >= self.generation && self.phase != Phase::Starting
    }
}

/// What the controller saw.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The generation it looked at.
    pub generation: i64,
    /// How far it is.
    pub phase: Phase,
    /// The revision that traffic reaches.
    pub serving_revision: Option<RevisionId>,
    /// Replicas that answer.
    pub ready_replicas: u32,
    /// How many there are to be now.
    pub target_replicas: u32,
    /// Why it failed.
    pub failure: Option<Error>,
    /// Times that replicas of the serving revision failed, one soon after the other.
    pub crashes: u32,
}

/// Inserts a revision.
///
/// # Errors
/// `Internal`.
pub async fn insert_revision(db: &mut SqliteConnection, r: &Revision) -> Result<()> {
    sqlx::query(
        "INSERT INTO revisions (id, model_id, image_uri, image, rootfs, interpreter, variables, env,
             package, runner, inputs, outputs, validation, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(r.id.to_string())
    .bind(r.model_id.to_string())
    .bind(&r.image_uri)
    .bind(r.image.as_str())
    .bind(r.rootfs.as_str())
    .bind(r.interpreter.as_str())
    .bind(to_json(&r.variables)?)
    .bind(r.env.0.as_str())
    .bind(r.package.as_str())
    .bind(r.runner.as_str())
    .bind(to_json(&r.inputs)?)
    .bind(to_json(&r.outputs)?)
    .bind(r.validation.as_str())
    .bind(to_micros(r.created_at))
    .execute(db)
    .await
    .map_err(failed("storing a revision"))?;
    Ok(())
}

/// A revision by id.
///
/// # Errors
/// `Internal`.
pub async fn revision(db: &mut SqliteConnection, id: RevisionId) -> Result<Option<Revision>> {
    let row = sqlx::query("SELECT * FROM revisions WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading a revision"))?;
    row.as_ref().map(read_revision).transpose()
}

/// Inserts a deployment with its intent; observation starts empty.
///
/// # Errors
/// `Conflict` when the model has one; `Internal`.
pub async fn insert(db: &mut SqliteConnection, d: &Deployment) -> Result<()> {
    sqlx::query(
        "INSERT INTO deployments (id, model_id, artifact_type, deployment_type, active, replicas,
             cpu, memory, wanted_revision, generation, phase, created_at, updated_at,
             min_replicas, max_replicas, idle_timeout, target_concurrency)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(d.id.to_string())
    .bind(d.model_id.to_string())
    .bind(to_word(&d.artifact_type)?)
    .bind(to_word(&d.deployment_type)?)
    .bind(d.active)
    .bind(d.replicas)
    .bind(d.resources.cpu.0)
    .bind(d.resources.memory.0)
    .bind(d.wanted_revision.map(|r| r.to_string()))
    .bind(d.generation)
    .bind(to_word(&d.phase)?)
    .bind(to_micros(d.created_at))
    .bind(to_micros(d.updated_at))
    .bind(d.scaling.min_replicas)
    .bind(d.scaling.max_replicas)
    .bind(d.scaling.idle_timeout)
    .bind(d.scaling.target_concurrency)
    .execute(db)
    .await
    .map_err(failed("storing a deployment"))?;
    Ok(())
}

/// Writes the intent of an existing deployment; the caller has raised `generation`.
///
/// # Errors
/// `Internal`.
pub async fn update_intent(db: &mut SqliteConnection, d: &Deployment) -> Result<()> {
    sqlx::query(
        "UPDATE deployments SET artifact_type = ?, deployment_type = ?, active = ?, replicas = ?,
             cpu = ?, memory = ?, wanted_revision = ?, generation = ?, updated_at = ?,
             min_replicas = ?, max_replicas = ?, idle_timeout = ?, target_concurrency = ?
         WHERE id = ?",
    )
    .bind(to_word(&d.artifact_type)?)
    .bind(to_word(&d.deployment_type)?)
    .bind(d.active)
    .bind(d.replicas)
    .bind(d.resources.cpu.0)
    .bind(d.resources.memory.0)
    .bind(d.wanted_revision.map(|r| r.to_string()))
    .bind(d.generation)
    .bind(to_micros(d.updated_at))
    .bind(d.scaling.min_replicas)
    .bind(d.scaling.max_replicas)
    .bind(d.scaling.idle_timeout)
    .bind(d.scaling.target_concurrency)
    .bind(d.id.to_string())
    .execute(db)
    .await
    .map_err(failed("changing a deployment"))?;
    Ok(())
}

/// Writes what the controller saw.
///
/// # Errors
/// `Internal`.
pub async fn observe(db: &mut SqliteConnection, id: DeploymentId, o: &Observation) -> Result<()> {
    sqlx::query(
        "UPDATE deployments SET observed_generation = ?, phase = ?, serving_revision = ?,
             ready_replicas = ?, target_replicas = ?, failure = ?, crashes = ? WHERE id = ?",
    )
    .bind(o.generation)
    .bind(to_word(&o.phase)?)
    .bind(o.serving_revision.map(|r| r.to_string()))
    .bind(o.ready_replicas)
    .bind(o.target_replicas)
    .bind(o.failure.as_ref().map(to_json).transpose()?)
    .bind(o.crashes)
    .bind(id.to_string())
    .execute(&mut *db)
    .await
    .map_err(failed("recording a deployment's state"))?;
    match o.serving_revision {
        Some(revision) if o.phase == Phase::Ready => crate::rollouts::served(db, revision).await,
        _ => Ok(()),
    }
}

/// The deployment of a model version.
///
/// # Errors
/// `Internal`.
pub async fn of_model(db: &mut SqliteConnection, model: ModelId) -> Result<Option<Deployment>> {
    let row = sqlx::query("SELECT * FROM deployments WHERE model_id = ?")
        .bind(model.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading a deployment"))?;
    row.as_ref().map(read).transpose()
}

/// Every deployment, oldest first.
///
/// # Errors
/// `Internal`.
pub async fn list(db: &mut SqliteConnection) -> Result<Vec<Deployment>> {
    let rows = sqlx::query("SELECT * FROM deployments ORDER BY id")
        .fetch_all(db)
        .await
        .map_err(failed("listing deployments"))?;
    rows.iter().map(read).collect()
}

/// Removes a deployment; its containers are the controller's to stop.
///
/// # Errors
/// `Internal`.
pub async fn delete(db: &mut SqliteConnection, id: DeploymentId) -> Result<()> {
    sqlx::query("DELETE FROM deployments WHERE id = ?")
        .bind(id.to_string())
        .execute(db)
        .await
        .map_err(failed("deleting a deployment"))?;
    Ok(())
}

fn read_revision(row: &SqliteRow) -> Result<Revision> {
    Ok(Revision {
        id: from_word(row.get("id"))?,
        model_id: from_word(row.get("model_id"))?,
        image_uri: row.get("image_uri"),
        image: from_word(row.get("image"))?,
        rootfs: from_word(row.get("rootfs"))?,
        interpreter: from_word(row.get("interpreter"))?,
        variables: from_json(row.get("variables"))?,
        env: from_word(row.get("env"))?,
        package: from_word(row.get("package"))?,
        runner: from_word(row.get("runner"))?,
        inputs: from_json(row.get("inputs"))?,
        outputs: from_json(row.get("outputs"))?,
        validation: from_word(row.get("validation"))?,
        created_at: from_micros(row.get("created_at"))?,
    })
}

fn read(row: &SqliteRow) -> Result<Deployment> {
    let revision = |column: &str| {
        row.get::<Option<&str>, _>(column)
            .map(from_word::<RevisionId>)
            .transpose()
    };
    Ok(Deployment {
        id: from_word(row.get("id"))?,
        model_id: from_word(row.get("model_id"))?,
        artifact_type: from_word(row.get("artifact_type"))?,
        deployment_type: from_word(row.get("deployment_type"))?,
        active: row.get("active"),
        replicas: row.get("replicas"),
        resources: Resources {
            cpu: Millicpu(row.get("cpu")),
            memory: Mebibytes(row.get("memory")),
        },
        scaling: Scaling {
            min_replicas: row.get("min_replicas"),
            max_replicas: row.get("max_replicas"),
            idle_timeout: row.get("idle_timeout"),
            target_concurrency: row.get("target_concurrency"),
        },
        wanted_revision: revision("wanted_revision")?,
        generation: row.get("generation"),
        serving_revision: revision("serving_revision")?,
        observed_generation: row.get("observed_generation"),
        phase: from_word(row.get("phase"))?,
        ready_replicas: row.get("ready_replicas"),
        target_replicas: row.get("target_replicas"),
        failure: row
            .get::<Option<&str>, _>("failure")
            .map(from_json)
            .transpose()?,
        crashes: row.get("crashes"),
        created_at: from_micros(row.get("created_at"))?,
        updated_at: from_micros(row.get("updated_at"))?,
    })
}
