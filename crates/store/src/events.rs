//! Production events, one row each.

use jiff::Timestamp;
use luthier_types::{ModelId, Result};
use serde_json::{Map, Value};
use sqlx::SqliteConnection;

use crate::{
    failed,
    values::{from_json, to_json, to_micros},
};

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Unique within the model version.
    pub id: String,
    /// When it happened.
    pub at: Timestamp,
    /// Its values by column.
    pub row: Map<String, Value>,
}

/// Writes an event; one with the same id is replaced.
///
/// # Errors
/// `Internal`.
pub async fn put(db: &mut SqliteConnection, model: ModelId, event: &Event) -> Result<()> {
    sqlx::query(
        "INSERT INTO events (model_id, event_id, ts, row) VALUES (?, ?, ?, ?)
         ON CONFLICT (model_id, event_id) DO UPDATE SET ts = excluded.ts, row = excluded.row",
    )
    .bind(model.to_string())
    .bind(&event.id)
    .bind(to_micros(event.at))
    .bind(to_json(&event.row)?)
    .execute(db)
    .await
    .map_err(failed("storing an event"))?;
    Ok(())
}

/// The values of an event.
///
/// # Errors
/// `Internal`.
pub async fn row(
    db: &mut SqliteConnection,
    model: ModelId,
    event: &str,
) -> Result<Option<Map<String, Value>>> {
    let text: Option<String> =
        sqlx::query_scalar("SELECT row FROM events WHERE model_id = ? AND event_id = ?")
            .bind(model.to_string())
            .bind(event)
            .fetch_optional(db)
            .await
            .map_err(failed("reading an event"))?;
    text.as_deref().map(from_json).transpose()
}

/// Changes the values of an event, and its time when one is given.
///
/// # Errors
/// `Internal`.
pub async fn update(
    db: &mut SqliteConnection,
    model: ModelId,
    event: &str,
    row: &Map<String, Value>,
    at: Option<Timestamp>,
) -> Result<()> {
    sqlx::query(
        "UPDATE events SET row = ?, ts = coalesce(?, ts) WHERE model_id = ? AND event_id = ?",
    )
    .bind(to_json(row)?)
    .bind(at.map(to_micros))
    .bind(model.to_string())
    .bind(event)
    .execute(db)
    .await
    .map_err(failed("changing an event"))?;
    Ok(())
}

/// Removes an event, if it is there.
///
/// # Errors
/// `Internal`.
pub async fn delete(db: &mut SqliteConnection, model: ModelId, event: &str) -> Result<u64> {
    let done = sqlx::query("DELETE FROM events WHERE model_id = ? AND event_id = ?")
        .bind(model.to_string())
        .bind(event)
        .execute(db)
        .await
        .map_err(failed("deleting an event"))?;
    Ok(done.rows_affected())
}

/// Removes the events from `start` up to, not including, `end`.
///
/// # Errors
/// `Internal`.
pub async fn delete_between(
    db: &mut SqliteConnection,
    model: ModelId,
    start: Timestamp,
    end: Timestamp,
) -> Result<u64> {
    let done = sqlx::query("DELETE FROM events WHERE model_id = ? AND ts >= ? AND ts < ?")
        .bind(model.to_string())
        .bind(to_micros(start))
        .bind(to_micros(end))
        .execute(db)
        .await
        .map_err(failed("deleting events"))?;
    Ok(done.rows_affected())
}

/// How many events a model has.
///
/// # Errors
/// `Internal`.
pub async fn count(db: &mut SqliteConnection, model: ModelId) -> Result<u64> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM events WHERE model_id = ?")
        .bind(model.to_string())
        .fetch_one(db)
        .await
        .map_err(failed("counting events"))?;
    Ok(u64::try_from(count).unwrap_or(0))
}
