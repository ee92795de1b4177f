//! What deploying, predicting and explaining read and write besides models and deployments: the
//! archive a model was deployed from, the layers that revisions use, and rows to compare with.

use jiff::Timestamp;
use luthier_types::{ArtifactStatus, DatasetId, Digest, FileId, ModelId, Result, RevisionId};
use serde_json::{Map, Value};
use sqlx::{Row as _, SqliteConnection};

use crate::{
    failed,
    values::{from_json, from_word, to_micros},
};

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
    files: &[Value],
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
    crate::models::set_artifact(db, model, status, files, at).await
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

/// CPU (millicpu) and memory (MiB) that the active deployments of other models reserve. One whose
/// runner an operator keeps reserves nothing here.
///
/// # Errors
/// `Internal`.
pub async fn reserved(db: &mut SqliteConnection, except: ModelId) -> Result<(u64, u64)> {
    let row = sqlx::query(
        "SELECT coalesce(sum(most * cpu), 0) AS cpu, coalesce(sum(most * memory), 0) AS memory
         FROM (SELECT max(replicas, coalesce(max_replicas, 0)) AS most, cpu, memory
               FROM deployments d WHERE active AND model_id <> ?
                   AND NOT (deployment_type = 'MANUAL' AND EXISTS (
                       SELECT 1 FROM outside_runners o WHERE o.deployment_id = d.id)))",
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
