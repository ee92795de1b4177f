//! Baselines: what drift would be measured against. Kept and echoed.

use jiff::Timestamp;
use luthier_types::{BaselineId, DatasetId, EnvType, Result};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    datasets::{Owner, read_owner},
    failed,
    query::{Field, Kind, ListQuery, Listing, Source},
    values::{from_micros, from_word, to_micros, to_word},
};

/// Whether a baseline moves with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BaselineType {
    /// It does not.
    Static,
    /// It does.
    Rolling,
}

/// Width of a bin of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum WindowBinSize {
    Hour,
    Day,
    Week,
    Month,
}

/// A baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Its id.
    pub id: BaselineId,
    /// Name, unique within the model version.
    pub name: String,
    /// The model it belongs to.
    pub owner: Owner,
    /// Whether it moves with time.
    pub kind: BaselineType,
    /// Which data it looks at.
    pub env_type: EnvType,
    /// The dataset, for pre-production.
    pub dataset_id: Option<DatasetId>,
    /// That dataset's name; read only.
    pub dataset_name: Option<String>,
    /// That dataset's number of rows; read only.
    pub row_count: Option<u64>,
    /// Epoch milliseconds, as the client gave them.
    pub start_time: Option<i64>,
    /// Epoch milliseconds, as the client gave them.
    pub end_time: Option<i64>,
    /// How far back a rolling baseline looks, in bins.
    pub offset_delta: Option<i64>,
    /// Width of a bin.
    pub window_bin_size: Option<WindowBinSize>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

const LIST: Source = Source {
    select: "baselines.*, models.name AS model_name, models.version AS model_version,
         models.project_id, projects.name AS project_name, datasets.name AS dataset_name,
         datasets.row_count AS row_count",
    from: "baselines JOIN models ON models.id = baselines.model_id
         JOIN projects ON projects.id = models.project_id
         LEFT JOIN datasets ON datasets.id = baselines.dataset_id",
    fields: &[
        Field {
            name: "id",
            sql: "baselines.id",
            kind: Kind::Text,
        },
        Field {
            name: "name",
            sql: "baselines.name",
            kind: Kind::Text,
        },
        Field {
            name: "model_id",
            sql: "baselines.model_id",
            kind: Kind::Text,
        },
        Field {
            name: "project_id",
            sql: "models.project_id",
            kind: Kind::Text,
        },
        Field {
            name: "type",
            sql: "baselines.type",
            kind: Kind::Text,
        },
        Field {
            name: "environment_type",
            sql: "baselines.env_type",
            kind: Kind::Text,
        },
        Field {
            name: "env_type",
            sql: "baselines.env_type",
            kind: Kind::Text,
        },
        Field {
            name: "env_id",
            sql: "baselines.dataset_id",
            kind: Kind::Text,
        },
        Field {
            name: "created_at",
            sql: "baselines.created_at",
            kind: Kind::Time,
        },
        Field {
            name: "updated_at",
            sql: "baselines.updated_at",
            kind: Kind::Time,
        },
    ],
    id: "baselines.id",
};

/// Inserts a baseline.
///
/// # Errors
/// `Conflict` when the model has one of this name; `Internal`.
pub async fn insert(db: &mut SqliteConnection, b: &Baseline) -> Result<()> {
    sqlx::query(
        "INSERT INTO baselines (id, model_id, name, type, env_type, dataset_id, start_time,
             end_time, offset_delta, window_bin_size, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(b.id.to_string())
    .bind(b.owner.model_id.to_string())
    .bind(&b.name)
    .bind(to_word(&b.kind)?)
    .bind(to_word(&b.env_type)?)
    .bind(b.dataset_id.map(|id| id.to_string()))
    .bind(b.start_time)
    .bind(b.end_time)
    .bind(b.offset_delta)
    .bind(b.window_bin_size.as_ref().map(to_word).transpose()?)
    .bind(to_micros(b.created_at))
    .bind(to_micros(b.updated_at))
    .execute(db)
    .await
    .map_err(failed("storing a baseline"))?;
    Ok(())
}

/// A baseline by id.
///
/// # Errors
/// `Internal`.
pub async fn get(db: &mut SqliteConnection, id: BaselineId) -> Result<Option<Baseline>> {
    let rows = list(db, &ListQuery::equal([("id", id.to_string())])).await?;
    Ok(rows.items.into_iter().next())
}

/// A part of the list of baselines.
///
/// # Errors
/// `BadRequest` for a filter or an ordering that does not fit; `Internal`.
pub async fn list(db: &mut SqliteConnection, query: &ListQuery) -> Result<Listing<Baseline>> {
    let (rows, total) = LIST.fetch(db, query).await?;
    let items = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Listing { items, total })
}

/// Removes a baseline. Gives `false` when there was none.
///
/// # Errors
/// `Internal`.
pub async fn delete(db: &mut SqliteConnection, id: BaselineId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM baselines WHERE id = ?")
        .bind(id.to_string())
        .execute(db)
        .await
        .map_err(failed("deleting a baseline"))?;
    Ok(done.rows_affected() > 0)
}

fn read(row: &SqliteRow) -> Result<Baseline> {
    let word = |column: &str| row.get::<Option<&str>, _>(column);
    Ok(Baseline {
        id: from_word(row.get("id"))?,
        name: row.get("name"),
        owner: read_owner(row)?,
        kind: from_word(row.get("type"))?,
        env_type: from_word(row.get("env_type"))?,
        dataset_id: word("dataset_id").map(from_word).transpose()?,
        dataset_name: row.get("dataset_name"),
        row_count: row
            .get::<Option<i64>, _>("row_count")
            .and_then(|n| u64::try_from(n).ok()),
        start_time: row.get("start_time"),
        end_time: row.get("end_time"),
        offset_delta: row.get("offset_delta"),
        window_bin_size: word("window_bin_size").map(from_word).transpose()?,
        created_at: from_micros(row.get("created_at"))?,
        updated_at: from_micros(row.get("updated_at"))?,
    })
}
