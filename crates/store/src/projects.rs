//! Projects.

use jiff::Timestamp;
use luthier_types::{ProjectId, Result};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    failed,
    query::{Field, Kind, ListQuery, Listing, Source},
    values::{from_micros, from_word, to_micros},
};

/// A named group of models.
#[derive(Clone, Debug, PartialEq)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Unique name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

const LIST: Source = Source {
    select: "*",
    from: "projects",
    fields: &[
        Field {
            name: "id",
            sql: "id",
            kind: Kind::Text,
        },
        Field {
            name: "name",
            sql: "name",
            kind: Kind::Text,
        },
        Field {
            name: "created_at",
            sql: "created_at",
            kind: Kind::Time,
        },
        Field {
            name: "updated_at",
            sql: "updated_at",
            kind: Kind::Time,
        },
    ],
    id: "id",
};

/// Inserts a project.
///
/// # Errors
/// `Conflict` when the name is taken; `Internal`.
pub async fn insert(db: &mut SqliteConnection, p: &Project) -> Result<()> {
    sqlx::query("INSERT INTO projects (id, name, created_at, updated_at) VALUES (?, ?, ?, ?)")
        .bind(p.id.to_string())
        .bind(&p.name)
        .bind(to_micros(p.created_at))
        .bind(to_micros(p.updated_at))
        .execute(db)
        .await
        .map_err(failed("storing a project"))?;
    Ok(())
}

/// A project by id.
///
/// # Errors
/// `Internal`.
pub async fn get(db: &mut SqliteConnection, id: ProjectId) -> Result<Option<Project>> {
    let row = sqlx::query("SELECT * FROM projects WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading a project"))?;
    row.as_ref().map(read).transpose()
}

/// A project by name.
///
/// # Errors
/// `Internal`.
pub async fn by_name(db: &mut SqliteConnection, name: &str) -> Result<Option<Project>> {
    let row = sqlx::query("SELECT * FROM projects WHERE name = ?")
        .bind(name)
        .fetch_optional(db)
        .await
        .map_err(failed("reading a project"))?;
    row.as_ref().map(read).transpose()
}

/// A part of the list of projects.
///
/// # Errors
/// `BadRequest` for a filter or an ordering that does not fit; `Internal`.
pub async fn list(db: &mut SqliteConnection, query: &ListQuery) -> Result<Listing<Project>> {
    let (rows, total) = LIST.fetch(db, query).await?;
    let items = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Listing { items, total })
}

/// Removes a project with everything in it. Gives `false` when there was none.
///
/// # Errors
/// `Internal`.
pub async fn delete(db: &mut SqliteConnection, id: ProjectId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM projects WHERE id = ?")
        .bind(id.to_string())
        .execute(db)
        .await
        .map_err(failed("deleting a project"))?;
    Ok(done.rows_affected() > 0)
}

fn read(row: &SqliteRow) -> Result<Project> {
    Ok(Project {
        id: from_word(row.get("id"))?,
        name: row.get("name"),
        created_at: from_micros(row.get("created_at"))?,
        updated_at: from_micros(row.get("updated_at"))?,
    })
}
