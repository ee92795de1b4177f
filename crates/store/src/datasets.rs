//! Datasets: named rows of a model, each one Parquet blob.

use jiff::Timestamp;
use luthier_types::{DatasetId, Digest, ModelId, ProjectId, Result};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    failed,
    query::{Field, Kind, ListQuery, Listing, Source},
    values::{from_micros, from_word, to_micros},
};

/// The model something belongs to, by its names; read only.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// The model version.
    pub model_id: ModelId,
    /// Its name.
    pub model_name: String,
    /// Its version.
    pub version: String,
    /// Its project.
    pub project_id: ProjectId,
    /// That project's name.
    pub project_name: String,
}

/// A dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Its id.
    pub id: DatasetId,
    /// Name, unique within the model version.
    pub name: String,
    /// The model it belongs to.
    pub owner: Owner,
    /// Number of rows.
    pub row_count: u64,
    /// The blob with the rows, as Parquet with the schema's columns and types.
    pub digest: Digest,
    /// When it was published.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

const LIST: Source = Source {
    select: "datasets.*, models.name AS model_name, models.version AS model_version,
         models.project_id, projects.name AS project_name",
    from: "datasets JOIN models ON models.id = datasets.model_id
         JOIN projects ON projects.id = models.project_id",
    fields: &[
        Field {
            name: "id",
            sql: "datasets.id",
            kind: Kind::Text,
        },
        Field {
            name: "name",
            sql: "datasets.name",
            kind: Kind::Text,
        },
        Field {
            name: "model_id",
            sql: "datasets.model_id",
            kind: Kind::Text,
        },
        Field {
            name: "project_id",
            sql: "models.project_id",
            kind: Kind::Text,
        },
        // Only datasets are listed; production has no row of its own.
        Field {
            name: "type",
            sql: "'PRE_PRODUCTION'",
            kind: Kind::Text,
        },
        Field {
            name: "row_count",
            sql: "datasets.row_count",
            kind: Kind::Integer,
        },
        Field {
            name: "created_at",
            sql: "datasets.created_at",
            kind: Kind::Time,
        },
        Field {
            name: "updated_at",
            sql: "datasets.updated_at",
            kind: Kind::Time,
        },
    ],
    id: "datasets.id",
};

/// Inserts a dataset.
///
/// # Errors
/// `Conflict` when the model has one of this name; `Internal`.
pub async fn insert(db: &mut SqliteConnection, d: &Dataset) -> Result<()> {
    sqlx::query(
        "INSERT INTO datasets (id, model_id, name, row_count, digest, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(d.id.to_string())
    .bind(d.owner.model_id.to_string())
    .bind(&d.name)
    .bind(i64::try_from(d.row_count).unwrap_or(i64::MAX))
    .bind(d.digest.as_str())
    .bind(to_micros(d.created_at))
    .bind(to_micros(d.updated_at))
    .execute(db)
    .await
    .map_err(failed("storing a dataset"))?;
    Ok(())
}

/// A dataset by id.
///
/// # Errors
/// `Internal`.
pub async fn get(db: &mut SqliteConnection, id: DatasetId) -> Result<Option<Dataset>> {
    let rows = list(db, &ListQuery::equal([("id", id.to_string())])).await?;
    Ok(rows.items.into_iter().next())
}

/// A dataset by its model and name.
///
/// # Errors
/// `Internal`.
pub async fn by_name(
    db: &mut SqliteConnection,
    model: ModelId,
    name: &str,
) -> Result<Option<Dataset>> {
    let rules = [("model_id", model.to_string()), ("name", name.to_owned())];
    let rows = list(db, &ListQuery::equal(rules)).await?;
    Ok(rows.items.into_iter().next())
}

/// A part of the list of datasets.
///
/// # Errors
/// `BadRequest` for a filter or an ordering that does not fit; `Internal`.
pub async fn list(db: &mut SqliteConnection, query: &ListQuery) -> Result<Listing<Dataset>> {
    let (rows, total) = LIST.fetch(db, query).await?;
    let items = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Listing { items, total })
}

pub(crate) fn read_owner(row: &SqliteRow) -> Result<Owner> {
    Ok(Owner {
        model_id: from_word(row.get("model_id"))?,
        model_name: row.get("model_name"),
        version: row.get("model_version"),
        project_id: from_word(row.get("project_id"))?,
        project_name: row.get("project_name"),
    })
}

fn read(row: &SqliteRow) -> Result<Dataset> {
    Ok(Dataset {
        id: from_word(row.get("id"))?,
        name: row.get("name"),
        owner: read_owner(row)?,
        row_count: u64::try_from(row.get::<i64, _>("row_count")).unwrap_or(0),
        digest: from_word(row.get("digest"))?,
        created_at: from_micros(row.get("created_at"))?,
        updated_at: from_micros(row.get("updated_at"))?,
    })
}
