//! What deploying, predicting and explaining read and write besides deployments: a model with its
//! project, the archive it was deployed from, the layers that revisions use, and rows to compare
//! with.

use jiff::Timestamp;
use luthier_types::{
    ArtifactStatus, DatasetId, Digest, FileId, InputType, ModelId, ModelSchema, ModelSpec,
    ProjectId, Result, RevisionId, Task,
};
use serde_json::{Map, Value};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    failed,
    values::{from_json, from_word, to_json, to_micros, to_word},
};

/// A model version and where it belongs.
#[derive(Clone, Debug)]
pub struct ModelCard {
    /// Its id.
    pub id: ModelId,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its project.
    pub project_id: ProjectId,
    /// Name of its project.
    pub project_name: String,
    /// What its inputs are.
    pub input_type: InputType,
    /// What it predicts.
    pub task: Task,
    /// Its columns.
    pub schema: ModelSchema,
    /// The part each column plays.
    pub spec: ModelSpec,
    /// The column that names events.
    pub event_id_col: Option<String>,
    /// What it says about explanations, as the client sent it.
    pub xai_params: Option<Value>,
    /// What it has by way of an artifact.
    pub artifact_status: ArtifactStatus,
    /// Files of the artifact, as clients are shown them.
    pub artifact_files: Value,
}

/// An uploaded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedFile {
    /// Its name.
    pub filename: String,
    /// `INITIATED`, `SUCCESSFUL` or `FAILED`.
    pub status: String,
    /// Its bytes, once they are all there.
    pub digest: Option<Digest>,
    /// Number of bytes.
    pub size: u64,
}

/// The archive a model version was deployed from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Artifact {
    /// Its bytes.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
}

/// A named table of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its id.
    pub id: DatasetId,
    /// Its name.
    pub name: String,
    /// Its rows, as Parquet.
    pub digest: Digest,
}

/// A model version with its project.
///
/// # Errors
/// `Internal`.
pub async fn card(db: &mut SqliteConnection, id: ModelId) -> Result<Option<ModelCard>> {
    let row = sqlx::query(
        "SELECT models.*, projects.name AS project_name FROM models
         JOIN projects ON projects.id = models.project_id WHERE models.id = ?",
    )
    .bind(id.to_string())
    .fetch_optional(db)
    .await
    .map_err(failed("reading a model"))?;
    row.as_ref().map(read_card).transpose()
}

/// An uploaded file.
///
/// # Errors
/// `Internal`.
pub async fn file(db: &mut SqliteConnection, id: FileId) -> Result<Option<UploadedFile>> {
    let row = sqlx::query("SELECT * FROM files WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading a file"))?;
    row.map(|row| {
        Ok(UploadedFile {
            filename: row.get("filename"),
            status: row.get("status"),
            digest: row
                .get::<Option<&str>, _>("digest")
                .map(from_word)
                .transpose()?,
            size: unsigned(row.get("size")),
        })
    })
    .transpose()
}

/// The archive of a model version.
///
/// # Errors
/// `Internal`.
pub async fn of_model(db: &mut SqliteConnection, model: ModelId) -> Result<Option<Artifact>> {
    let row = sqlx::query("SELECT digest, size FROM artifacts WHERE model_id = ?")
        .bind(model.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading an artifact"))?;
    row.map(|row| {
        Ok(Artifact {
            digest: from_word(row.get("digest"))?,
            size: unsigned(row.get("size")),
        })
    })
    .transpose()
}

/// Sets or, with `None`, removes the archive of a model version, with what clients are shown of it.
///
/// # Errors
/// `Internal`.
pub async fn set(
    db: &mut SqliteConnection,
    model: ModelId,
    artifact: Option<&Artifact>,
    status: ArtifactStatus,
    files: &Value,
    at: Timestamp,
) -> Result<()> {
    sqlx::query("DELETE FROM artifacts WHERE model_id = ?")
        .bind(model.to_string())
        .execute(&mut *db)
        .await
        .map_err(failed("changing an artifact"))?;
    if let Some(artifact) = artifact {
        sqlx::query(
            "INSERT INTO artifacts (model_id, digest, size, created_at) VALUES (?, ?, ?, ?)",
        )
        .bind(model.to_string())
        .bind(artifact.digest.as_str())
        .bind(i64::try_from(artifact.size).unwrap_or(i64::MAX))
        .bind(to_micros(at))
        .execute(&mut *db)
        .await
        .map_err(failed("storing an artifact"))?;
    }
    sqlx::query(
        "UPDATE models SET artifact_status = ?, artifact_files = ?, updated_at = ? WHERE id = ?",
    )
    .bind(to_word(&status)?)
    .bind(to_json(files)?)
    .bind(to_micros(at))
    .bind(model.to_string())
    .execute(db)
    .await
    .map_err(failed("changing a model's artifact"))?;
    Ok(())
}

/// Removes a revision that no deployment wants or serves.
///
/// # Errors
/// `Internal`.
pub async fn delete_unused_revision(db: &mut SqliteConnection, id: RevisionId) -> Result<()> {
    sqlx::query(
        "DELETE FROM revisions WHERE id = ?1 AND NOT EXISTS (
             SELECT 1 FROM deployments WHERE wanted_revision = ?1 OR serving_revision = ?1)",
    )
    .bind(id.to_string())
    .execute(db)
    .await
    .map_err(failed("removing a revision"))?;
    Ok(())
}

/// Whether a revision is made of this package.
///
/// # Errors
/// `Internal`.
pub async fn package_in_use(db: &mut SqliteConnection, package: &Digest) -> Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM revisions WHERE package = ?)")
        .bind(package.as_str())
        .fetch_one(db)
        .await
        .map_err(failed("looking for a package's revisions"))
}

/// CPU (millicpu) and memory (MiB) that the active deployments of other models reserve.
///
/// # Errors
/// `Internal`.
pub async fn reserved(db: &mut SqliteConnection, except: ModelId) -> Result<(u64, u64)> {
    let row = sqlx::query(
        "SELECT coalesce(sum(replicas * cpu), 0) AS cpu,
             coalesce(sum(replicas * memory), 0) AS memory
         FROM deployments WHERE active AND model_id <> ?",
    )
    .bind(except.to_string())
    .fetch_one(db)
    .await
    .map_err(failed("adding up reservations"))?;
    Ok((unsigned(row.get("cpu")), unsigned(row.get("memory"))))
}

/// The datasets of a model, oldest first.
///
/// # Errors
/// `Internal`.
pub async fn tables(db: &mut SqliteConnection, model: ModelId) -> Result<Vec<Table>> {
    let rows = sqlx::query("SELECT id, name, digest FROM datasets WHERE model_id = ? ORDER BY id")
        .bind(model.to_string())
        .fetch_all(db)
        .await
        .map_err(failed("listing datasets"))?;
    rows.iter()
        .map(|row| {
            Ok(Table {
                id: from_word(row.get("id"))?,
                name: row.get("name"),
                digest: from_word(row.get("digest"))?,
            })
        })
        .collect()
}

/// A production event's row.
///
/// # Errors
/// `Internal`.
pub async fn event(
    db: &mut SqliteConnection,
    model: ModelId,
    event_id: &str,
) -> Result<Option<Map<String, Value>>> {
    let row: Option<String> =
        sqlx::query_scalar("SELECT row FROM events WHERE model_id = ? AND event_id = ?")
            .bind(model.to_string())
            .bind(event_id)
            .fetch_optional(db)
            .await
            .map_err(failed("reading an event"))?;
    row.as_deref().map(from_json).transpose()
}

/// The numbers of a model's production events, oldest first.
///
/// # Errors
/// `Internal`.
pub async fn event_numbers(db: &mut SqliteConnection, model: ModelId) -> Result<Vec<i64>> {
    sqlx::query_scalar("SELECT seq FROM events WHERE model_id = ? ORDER BY seq")
        .bind(model.to_string())
        .fetch_all(db)
        .await
        .map_err(failed("listing events"))
}

/// The row of the event with this number.
///
/// # Errors
/// `Internal`.
pub async fn event_by_number(
    db: &mut SqliteConnection,
    number: i64,
) -> Result<Option<Map<String, Value>>> {
    let row: Option<String> = sqlx::query_scalar("SELECT row FROM events WHERE seq = ?")
        .bind(number)
        .fetch_optional(db)
        .await
        .map_err(failed("reading an event"))?;
    row.as_deref().map(from_json).transpose()
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn read_card(row: &SqliteRow) -> Result<ModelCard> {
    Ok(ModelCard {
        id: from_word(row.get("id"))?,
        name: row.get("name"),
        version: row.get("version"),
        project_id: from_word(row.get("project_id"))?,
        project_name: row.get("project_name"),
        input_type: from_word(row.get("input_type"))?,
        task: from_word(row.get("task"))?,
        schema: from_json(row.get("schema"))?,
        spec: from_json(row.get("spec"))?,
        event_id_col: row.get("event_id_col"),
        xai_params: row
            .get::<Option<&str>, _>("xai_params")
            .map(from_json)
            .transpose()?,
        artifact_status: from_word(row.get("artifact_status"))?,
        artifact_files: from_json(row.get("artifact_files"))?,
    })
}
