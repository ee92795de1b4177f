//! The history of revisions: numbers, causes, outcomes, and what an earlier one is made again from.

use jiff::Timestamp;
use luthier_types::{
    Cause, Comparison, DeploymentId, Digest, EnvId, Error, Limits, ModelId, Result, RevisionId,
};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    artifacts::{self, Artifact},
    failed,
    values::{from_json, from_micros, from_word, to_json, to_micros},
};

/// A revision's place in its model's history.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The revision; it may be gone.
    pub revision: RevisionId,
    /// The model version.
    pub model: ModelId,
    /// Its number among the model's, from 1.
    pub number: i64,
    /// What caused it.
    pub cause: Cause,
    /// Name of the image.
    pub image_uri: String,
    /// The environment.
    pub env: EnvId,
    /// The package layer.
    pub package: Digest,
    /// What it was deployed from; `None` once it is not kept any more.
    pub archive: Option<Artifact>,
    /// Blob with rows of the dataset to compare it on, as an Arrow stream.
    pub sample: Option<Digest>,
    /// How far it may differ from what serves.
    pub limits: Limits,
    /// How it differs, once that is known.
    pub comparison: Option<Comparison>,
    /// Why it did not come to serve.
    pub failure: Option<Error>,
    /// Whether traffic has ever reached it.
    pub served: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Adds a revision to its model's history under the next number, unless it is there. What it says
/// of number, comparison, failure and service is not taken from `r`.
///
/// # Errors
/// `Internal`.
pub async fn insert(db: &mut SqliteConnection, r: &Rollout) -> Result<()> {
    sqlx::query(
        "INSERT INTO rollouts (revision_id, model_id, number, cause, image_uri, env, package,
             archive, archive_size, sample, limits, created_at)
         VALUES (?1, ?2, (SELECT coalesce(max(number), 0) + 1 FROM rollouts WHERE model_id = ?2),
             ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
         ON CONFLICT (revision_id) DO NOTHING",
    )
    .bind(r.revision.to_string())
    .bind(r.model.to_string())
    .bind(to_json(&r.cause)?)
    .bind(&r.image_uri)
    .bind(r.env.0.as_str())
    .bind(r.package.as_str())
    .bind(r.archive.as_ref().map(|a| a.digest.as_str()))
    .bind(size(r.archive.as_ref()))
    .bind(r.sample.as_ref().map(Digest::as_str))
    .bind(to_json(&r.limits)?)
    .bind(to_micros(r.created_at))
    .execute(db)
    .await
    .map_err(failed("adding to a model's history"))?;
    Ok(())
}

/// A model's history, newest first.
///
/// # Errors
/// `Internal`.
pub async fn of_model(db: &mut SqliteConnection, model: ModelId) -> Result<Vec<Rollout>> {
    let rows = sqlx::query("SELECT * FROM rollouts WHERE model_id = ? ORDER BY number DESC")
        .bind(model.to_string())
        .fetch_all(db)
        .await
        .map_err(failed("reading a model's history"))?;
    rows.iter().map(read).collect()
}

/// A revision's place in history.
///
/// # Errors
/// `Internal`.
pub async fn get(db: &mut SqliteConnection, revision: RevisionId) -> Result<Option<Rollout>> {
    let row = sqlx::query("SELECT * FROM rollouts WHERE revision_id = ?")
        .bind(revision.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading a model's history"))?;
    row.as_ref().map(read).transpose()
}

/// Notes how a revision differs from the one that serves.
///
/// # Errors
/// `Internal`.
pub async fn compared(
    db: &mut SqliteConnection,
    revision: RevisionId,
    found: &Comparison,
) -> Result<()> {
    sqlx::query("UPDATE rollouts SET comparison = ? WHERE revision_id = ?")
        .bind(to_json(found)?)
        .bind(revision.to_string())
        .execute(db)
        .await
        .map_err(failed("adding to a model's history"))?;
    Ok(())
}

/// How far new revisions of a deployment may differ, unless they are deployed with limits of their
/// own.
///
/// # Errors
/// `Internal`.
pub async fn limits(db: &mut SqliteConnection, deployment: DeploymentId) -> Result<Limits> {
    let limits: Option<String> =
        sqlx::query_scalar("SELECT limits FROM rollout_limits WHERE deployment_id = ?")
            .bind(deployment.to_string())
            .fetch_optional(db)
            .await
            .map_err(failed("reading the limits of a deployment"))?;
    Ok(limits
        .as_deref()
        .map(from_json)
        .transpose()?
        .unwrap_or_default())
}

/// Sets them.
///
/// # Errors
/// `Internal`.
pub async fn set_limits(
    db: &mut SqliteConnection,
    deployment: DeploymentId,
    limits: &Limits,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO rollout_limits (deployment_id, limits) VALUES (?, ?)
         ON CONFLICT (deployment_id) DO UPDATE SET limits = excluded.limits",
    )
    .bind(deployment.to_string())
    .bind(to_json(limits)?)
    .execute(db)
    .await
    .map_err(failed("setting the limits of a deployment"))?;
    Ok(())
}

/// Notes that traffic has reached a revision.
///
/// # Errors
/// `Internal`.
pub async fn served(db: &mut SqliteConnection, revision: RevisionId) -> Result<()> {
    sqlx::query("UPDATE rollouts SET served = 1 WHERE revision_id = ? AND NOT served")
        .bind(revision.to_string())
        .execute(db)
        .await
        .map_err(failed("adding to a model's history"))?;
    Ok(())
}

/// Notes why a revision did not come to serve, and keeps nothing to make it again from unless
/// `keep`.
///
/// # Errors
/// `Internal`.
pub async fn fail(
    db: &mut SqliteConnection,
    revision: RevisionId,
    failure: &Error,
    keep: bool,
) -> Result<()> {
    sqlx::query(
        "UPDATE rollouts SET failure = ?2, archive = CASE WHEN ?3 THEN archive END,
             sample = CASE WHEN ?3 THEN sample END
         WHERE revision_id = ?1",
    )
    .bind(revision.to_string())
    .bind(to_json(&failure.to_public())?)
    .bind(keep)
    .execute(db)
    .await
    .map_err(failed("adding to a model's history"))?;
    Ok(())
}

/// Lets go of the revisions past the `kept` newest of each model, but for those that are wanted or
/// serve, and of models that have an unfinished job. Forgets what happened before the `told` newest.
///
/// # Errors
/// `Internal`.
pub async fn trim(db: &mut SqliteConnection, kept: u32, told: u32) -> Result<Vec<RevisionId>> {
    let trimmed: Vec<String> = sqlx::query_scalar(
        "UPDATE rollouts SET archive = NULL, sample = NULL WHERE revision_id IN (
             SELECT revision_id FROM (
                 SELECT revision_id, model_id,
                     row_number() OVER (PARTITION BY model_id ORDER BY number DESC) AS place
                 FROM rollouts WHERE archive IS NOT NULL)
             WHERE place > ?
                 AND revision_id NOT IN (
                     SELECT wanted_revision FROM deployments WHERE wanted_revision IS NOT NULL
                     UNION SELECT serving_revision FROM deployments
                         WHERE serving_revision IS NOT NULL)
                 AND model_id NOT IN (
                     SELECT exclusive_key FROM jobs
                     WHERE status IN ('PENDING', 'STARTED', 'RETRY')
                         AND exclusive_key IS NOT NULL))
         RETURNING revision_id",
    )
    .bind(kept)
    .fetch_all(&mut *db)
    .await
    .map_err(failed("letting go of old revisions"))?;
    let trimmed: Vec<RevisionId> = trimmed
        .iter()
        .map(|id| from_word(id))
        .collect::<Result<_>>()?;
    for revision in &trimmed {
        artifacts::delete_unused_revision(db, *revision).await?;
    }
    sqlx::query(
        "DELETE FROM rollouts WHERE archive IS NULL AND revision_id IN (
             SELECT revision_id FROM (
                 SELECT revision_id,
                     row_number() OVER (PARTITION BY model_id ORDER BY number DESC) AS place
                 FROM rollouts)
             WHERE place > ?)",
    )
    .bind(told)
    .execute(db)
    .await
    .map_err(failed("forgetting old revisions"))?;
    Ok(trimmed)
}

fn read(row: &SqliteRow) -> Result<Rollout> {
    let blob = |column: &str| {
        row.get::<Option<&str>, _>(column)
            .map(from_word::<Digest>)
            .transpose()
    };
    Ok(Rollout {
        revision: from_word(row.get("revision_id"))?,
        model: from_word(row.get("model_id"))?,
        number: row.get("number"),
        cause: from_json(row.get("cause"))?,
        image_uri: row.get("image_uri"),
        env: EnvId(from_word(row.get("env"))?),
        package: from_word(row.get("package"))?,
        archive: blob("archive")?.map(|digest| Artifact {
            digest,
            size: u64::try_from(row.get::<i64, _>("archive_size")).unwrap_or(0),
        }),
        sample: blob("sample")?,
        limits: from_json(row.get("limits"))?,
        comparison: row
            .get::<Option<&str>, _>("comparison")
            .map(from_json)
            .transpose()?,
        failure: row
            .get::<Option<&str>, _>("failure")
            .map(from_json)
            .transpose()?,
        served: row.get("served"),
        created_at: from_micros(row.get("created_at"))?,
    })
}

fn size(archive: Option<&Artifact>) -> i64 {
    archive.map_or(0, |a| i64::try_from(a.size).unwrap_or(i64::MAX))
}
