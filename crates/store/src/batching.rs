//! Whether requests of a revision may be predicted together.

use luthier_types::{Batching, Result, RevisionId};
use sqlx::{Row as _, SqliteConnection};

use crate::{
    failed,
    values::{from_word, to_word},
};

/// Stores what was found of a revision; what was found before stays.
///
/// # Errors
/// `Internal`.
pub async fn insert(
    db: &mut SqliteConnection,
    revision: RevisionId,
    found: &Batching,
) -> Result<()> {
    sqlx::query("INSERT OR IGNORE INTO batching (revision_id, verdict, detail) VALUES (?, ?, ?)")
        .bind(revision.to_string())
        .bind(to_word(&found.verdict)?)
        .bind(&found.detail)
        .execute(db)
        .await
        .map_err(failed("storing whether a revision is batched"))?;
    Ok(())
}

/// What was found of a revision; `None` until a replica of it has proven itself.
///
/// # Errors
/// `Internal`.
pub async fn of_revision(
    db: &mut SqliteConnection,
    revision: RevisionId,
) -> Result<Option<Batching>> {
    let row = sqlx::query("SELECT verdict, detail FROM batching WHERE revision_id = ?")
        .bind(revision.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading whether a revision is batched"))?;
    row.map(|row| {
        Ok(Batching {
            verdict: from_word(row.get("verdict"))?,
            detail: row.get("detail"),
        })
    })
    .transpose()
}
