//! What happened to the replicas of each model, counted since the model was made.

use luthier_types::{ModelId, Result};
use sqlx::{Row as _, SqliteConnection};

use crate::{failed, values::from_word};

/// A replica was started.
pub const STARTED: &str = "started";
/// A replica failed because the kernel killed it for want of memory.
pub const OUT_OF_MEMORY: &str = "out_of_memory";

/// Adds one to the count of `what`: [`STARTED`], [`OUT_OF_MEMORY`] or the code of a failure. Does
/// nothing for a model that is gone.
///
/// # Errors
/// `Internal`.
pub async fn add(db: &mut SqliteConnection, model: ModelId, what: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO replica_counts (model_id, what, count)
         SELECT id, ?2, 1 FROM models WHERE id = ?1
         ON CONFLICT (model_id, what) DO UPDATE SET count = count + 1",
    )
    .bind(model.to_string())
    .bind(what)
    .execute(db)
    .await
    .map_err(failed("counting what happened to a replica"))?;
    Ok(())
}

/// Every count: of which model, of what, how many.
///
/// # Errors
/// `Internal`.
pub async fn all(db: &mut SqliteConnection) -> Result<Vec<(ModelId, String, u64)>> {
    let rows =
        sqlx::query("SELECT model_id, what, count FROM replica_counts ORDER BY model_id, what")
            .fetch_all(db)
            .await
            .map_err(failed("reading what happened to replicas"))?;
    rows.iter()
        .map(|row| {
            let count: i64 = row.get("count");
            Ok((
                from_word(row.get("model_id"))?,
                row.get("what"),
                count.unsigned_abs(),
            ))
        })
        .collect()
}
