//! How replicas failed, and when: the latest of each model.

use jiff::Timestamp;
use luthier_types::{Error, ModelId, ReplicaId, Result, RevisionId};
use serde::Serialize;
use sqlx::{Row as _, SqliteConnection};

use crate::{
    failed,
    values::{from_json, from_micros, from_word, to_json, to_micros},
};

/// Most failures that are kept of a model; older ones go.
pub const KEPT: u32 = 20;

/// One failure of one replica.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// When it was seen.
    pub at: Timestamp,
    /// The replica.
    pub replica: ReplicaId,
    /// What it was made of.
    pub revision: RevisionId,
    /// Cause, evidence and next step.
    pub error: Error,
}

/// Records a failure of a replica of `model`; nothing when the model is no more.
///
/// # Errors
/// `Internal`.
pub async fn insert(db: &mut SqliteConnection, model: ModelId, f: &Failure) -> Result<()> {
    sqlx::query(
        "INSERT INTO failures (model_id, revision_id, replica_id, at, error)
         SELECT id, ?, ?, ?, ? FROM models WHERE id = ?",
    )
    .bind(f.revision.to_string())
    .bind(f.replica.to_string())
    .bind(to_micros(f.at))
    .bind(to_json(&f.error)?)
    .bind(model.to_string())
    .execute(&mut *db)
    .await
    .map_err(failed("recording a replica's failure"))?;
    sqlx::query(
        "DELETE FROM failures WHERE model_id = ?1 AND seq NOT IN
             (SELECT seq FROM failures WHERE model_id = ?1 ORDER BY seq DESC LIMIT ?2)",
    )
    .bind(model.to_string())
    .bind(KEPT)
    .execute(db)
    .await
    .map_err(failed("removing old failures"))?;
    Ok(())
}

/// The latest failures of a model's replicas, newest first, at most `limit`.
///
/// # Errors
/// `Internal`.
pub async fn latest(db: &mut SqliteConnection, model: ModelId, limit: u32) -> Result<Vec<Failure>> {
    let rows = sqlx::query("SELECT * FROM failures WHERE model_id = ? ORDER BY seq DESC LIMIT ?")
        .bind(model.to_string())
        .bind(limit)
        .fetch_all(db)
        .await
        .map_err(failed("reading a model's failures"))?;
    rows.iter()
        .map(|row| {
            Ok(Failure {
                at: from_micros(row.get("at"))?,
                replica: from_word(row.get("replica_id"))?,
                revision: from_word(row.get("revision_id"))?,
                error: from_json(row.get("error"))?,
            })
        })
        .collect()
}
