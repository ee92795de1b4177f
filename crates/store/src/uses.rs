//! Who uses an image, an environment or a package layer.

use luthier_types::{Digest, EnvId, JobId, ModelId, Result, RevisionId};
use serde_json::Value;
use sqlx::{Row as _, SqliteConnection};

use crate::{
    failed,
    values::{from_json, from_word},
};

/// A deployment on an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// Name of the image.
    pub image_uri: String,
    /// The model version.
    pub model_id: ModelId,
    /// Its project's name.
    pub project: String,
    /// Its name.
    pub model: String,
    /// Its version.
    pub version: String,
    /// Whether its replicas shall run.
    pub active: bool,
}

/// A model version that has revisions with an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvUse {
    /// The environment.
    pub env: EnvId,
    /// The model version.
    pub model_id: ModelId,
    /// Its project's name.
    pub project: String,
    /// Its name.
    pub model: String,
    /// Its version.
    pub version: String,
    /// How many of its revisions have it.
    pub revisions: u32,
    /// Whether one of these is wanted or serves.
    pub current: bool,
}

/// The image of each deployment's wanted revision, in order of project, model and version.
///
/// # Errors
/// `Internal`.
pub async fn images(db: &mut SqliteConnection) -> Result<Vec<ImageUse>> {
    let rows = sqlx::query(
        "SELECT r.image_uri, d.model_id, p.name AS project, m.name AS model, m.version, d.active
         FROM deployments d JOIN revisions r ON r.id = d.wanted_revision
             JOIN models m ON m.id = d.model_id JOIN projects p ON p.id = m.project_id
         ORDER BY p.name, m.name, m.version",
    )
    .fetch_all(db)
    .await
    .map_err(failed("listing the deployments of images"))?;
    rows.iter()
        .map(|row| {
            Ok(ImageUse {
                image_uri: row.get("image_uri"),
                model_id: from_word(row.get("model_id"))?,
                project: row.get("project"),
                model: row.get("model"),
                version: row.get("version"),
                active: row.get("active"),
            })
        })
        .collect()
}

/// The models of each environment, in order of project, model and version.
///
/// # Errors
/// `Internal`.
pub async fn environments(db: &mut SqliteConnection) -> Result<Vec<EnvUse>> {
    let rows = sqlx::query(
        "SELECT r.env, r.model_id, p.name AS project, m.name AS model, m.version,
             count(*) AS revisions,
             max(coalesce(r.id IN (d.wanted_revision, d.serving_revision), 0)) AS current
         FROM revisions r JOIN models m ON m.id = r.model_id JOIN projects p ON p.id = m.project_id
             LEFT JOIN deployments d ON d.model_id = r.model_id
         GROUP BY r.env, r.model_id ORDER BY p.name, m.name, m.version",
    )
    .fetch_all(db)
    .await
    .map_err(failed("listing the models of environments"))?;
    rows.iter()
        .map(|row| {
            Ok(EnvUse {
                env: EnvId(from_word(row.get("env"))?),
                model_id: from_word(row.get("model_id"))?,
                project: row.get("project"),
                model: row.get("model"),
                version: row.get("version"),
                revisions: row.get("revisions"),
                current: row.get("current"),
            })
        })
        .collect()
}

/// The newest revision of a model before `revision` that has another image than `image`, and that
/// image.
///
/// # Errors
/// `Internal`.
pub async fn earlier_image(
    db: &mut SqliteConnection,
    model: ModelId,
    revision: RevisionId,
    image: &str,
) -> Result<Option<(RevisionId, String)>> {
    let row = sqlx::query(
        "SELECT id, image_uri FROM revisions WHERE model_id = ? AND id < ? AND image_uri <> ?
         ORDER BY id DESC LIMIT 1",
    )
    .bind(model.to_string())
    .bind(revision.to_string())
    .bind(image)
    .fetch_optional(db)
    .await
    .map_err(failed("looking for an earlier image"))?;
    row.map(|row| Ok((from_word(row.get("id"))?, row.get("image_uri"))))
        .transpose()
}

/// Every revision and the package it is made of.
///
/// # Errors
/// `Internal`.
pub async fn packages(db: &mut SqliteConnection) -> Result<Vec<(RevisionId, Digest)>> {
    let rows = sqlx::query("SELECT id, package FROM revisions")
        .fetch_all(db)
        .await
        .map_err(failed("listing the packages of revisions"))?;
    rows.iter()
        .map(|row| Ok((from_word(row.get("id"))?, from_word(row.get("package"))?)))
        .collect()
}

/// The unfinished jobs that have begun the step `step` and recorded nothing of it.
///
/// # Errors
/// `Internal`.
pub async fn underway(db: &mut SqliteConnection, step: &str) -> Result<Vec<JobId>> {
    let jobs: Vec<String> = sqlx::query_scalar(
        "SELECT jobs.id FROM job_steps JOIN jobs ON jobs.id = job_steps.job_id
         WHERE jobs.status IN ('PENDING', 'STARTED', 'RETRY') AND job_steps.name = ?
             AND job_steps.result IS NULL",
    )
    .bind(step)
    .fetch_all(db)
    .await
    .map_err(failed("looking for steps underway"))?;
    jobs.iter().map(|id| from_word(id)).collect()
}

/// What the step `step` of each unfinished job recorded.
///
/// # Errors
/// `Internal`.
pub async fn unfinished(db: &mut SqliteConnection, step: &str) -> Result<Vec<(JobId, Value)>> {
    let rows = sqlx::query(
        "SELECT jobs.id, job_steps.result FROM job_steps JOIN jobs ON jobs.id = job_steps.job_id
         WHERE jobs.status IN ('PENDING', 'STARTED', 'RETRY') AND job_steps.name = ?
             AND job_steps.result IS NOT NULL",
    )
    .bind(step)
    .fetch_all(db)
    .await
    .map_err(failed("reading unfinished jobs"))?;
    rows.iter()
        .map(|row| Ok((from_word(row.get("id"))?, from_json(row.get("result"))?)))
        .collect()
}
