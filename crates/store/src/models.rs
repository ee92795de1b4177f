//! Models: one row per version.

use jiff::Timestamp;
use luthier_types::{
    ArtifactStatus, InputType, ModelId, ModelSchema, ModelSpec, ProjectId, Result, Task,
};
use serde_json::Value;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    failed,
    query::{Field, Kind, ListQuery, Listing, Source},
    values::{from_json, from_micros, from_word, to_json, to_micros, to_word},
};

/// One version of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Its id.
    pub id: ModelId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// That project's name; read only.
    pub project_name: String,
    /// Name, the same in every version.
    pub name: String,
    /// Version, unique within the name.
    pub version: String,
    /// What the inputs are.
    pub input_type: InputType,
    /// What it predicts.
    pub task: Task,
    /// The client's parameters of the task, an object.
    pub task_params: Value,
    /// The columns.
    pub schema: ModelSchema,
    /// The part each plays.
    pub spec: ModelSpec,
    /// Free text.
    pub description: Option<String>,
    /// Column with the id of an event.
    pub event_id_col: Option<String>,
    /// Column with the time of an event.
    pub event_ts_col: Option<String>,
    /// Format of that time.
    pub event_ts_format: Option<String>,
    /// The client's parameters of explanations, an object.
    pub xai_params: Option<Value>,
    /// What it has by way of an artifact.
    pub artifact_status: ArtifactStatus,
    /// The artifact's files: `name`, `size`, `modified`.
    pub artifact_files: Vec<Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

const LIST: Source = Source {
    select: "models.*, projects.name AS project_name",
    from: "models JOIN projects ON projects.id = models.project_id",
    fields: &[
        Field {
            name: "id",
            sql: "models.id",
            kind: Kind::Text,
        },
        Field {
            name: "name",
            sql: "models.name",
            kind: Kind::Text,
        },
        Field {
            name: "version",
            sql: "models.version",
            kind: Kind::Text,
        },
        Field {
            name: "project_id",
            sql: "models.project_id",
            kind: Kind::Text,
        },
        Field {
            name: "project_name",
            sql: "projects.name",
            kind: Kind::Text,
        },
        Field {
            name: "description",
            sql: "models.description",
            kind: Kind::Text,
        },
        Field {
            name: "task",
            sql: "models.task",
            kind: Kind::Text,
        },
        Field {
            name: "input_type",
            sql: "models.input_type",
            kind: Kind::Text,
        },
        Field {
            name: "artifact_status",
            sql: "models.artifact_status",
            kind: Kind::Text,
        },
        Field {
            name: "created_at",
            sql: "models.created_at",
            kind: Kind::Time,
        },
        Field {
            name: "updated_at",
            sql: "models.updated_at",
            kind: Kind::Time,
        },
    ],
    id: "models.id",
};

/// Inserts a model.
///
/// # Errors
/// `Conflict` when the project has this name and version; `Internal`.
pub async fn insert(db: &mut SqliteConnection, m: &Model) -> Result<()> {
    sqlx::query(
        "INSERT INTO models (id, project_id, name, version, input_type, task, task_params, schema,
             spec, description, event_id_col, event_ts_col, event_ts_format, xai_params,
             artifact_status, artifact_files, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(m.id.to_string())
    .bind(m.project_id.to_string())
    .bind(&m.name)
    .bind(&m.version)
    .bind(to_word(&m.input_type)?)
    .bind(to_word(&m.task)?)
    .bind(to_json(&m.task_params)?)
    .bind(to_json(&m.schema)?)
    .bind(to_json(&m.spec)?)
    .bind(&m.description)
    .bind(&m.event_id_col)
    .bind(&m.event_ts_col)
    .bind(&m.event_ts_format)
    .bind(m.xai_params.as_ref().map(to_json).transpose()?)
    .bind(to_word(&m.artifact_status)?)
    .bind(to_json(&m.artifact_files)?)
    .bind(to_micros(m.created_at))
    .bind(to_micros(m.updated_at))
    .execute(db)
    .await
    .map_err(failed("storing a model"))?;
    Ok(())
}

/// Writes what a user may change: version, schema, spec, description, event columns, XAI parameters.
///
/// # Errors
/// `Conflict` when the name has this version already; `Internal`.
pub async fn update(db: &mut SqliteConnection, m: &Model) -> Result<()> {
    sqlx::query(
        "UPDATE models SET version = ?, schema = ?, spec = ?, description = ?, event_id_col = ?,
             event_ts_col = ?, event_ts_format = ?, xai_params = ?, updated_at = ? WHERE id = ?",
    )
    .bind(&m.version)
    .bind(to_json(&m.schema)?)
    .bind(to_json(&m.spec)?)
    .bind(&m.description)
    .bind(&m.event_id_col)
    .bind(&m.event_ts_col)
    .bind(&m.event_ts_format)
    .bind(m.xai_params.as_ref().map(to_json).transpose()?)
    .bind(to_micros(m.updated_at))
    .bind(m.id.to_string())
    .execute(db)
    .await
    .map_err(failed("changing a model"))?;
    Ok(())
}

/// Writes what the model has by way of an artifact.
///
/// # Errors
/// `Internal`.
pub async fn set_artifact(
    db: &mut SqliteConnection,
    id: ModelId,
    status: ArtifactStatus,
    files: &[Value],
    at: Timestamp,
) -> Result<()> {
    sqlx::query(
        "UPDATE models SET artifact_status = ?, artifact_files = ?, updated_at = ? WHERE id = ?",
    )
    .bind(to_word(&status)?)
    .bind(to_json(&files)?)
    .bind(to_micros(at))
    .bind(id.to_string())
    .execute(db)
    .await
    .map_err(failed("changing a model's artifact"))?;
    Ok(())
}

/// A model by id.
///
/// # Errors
/// `Internal`.
pub async fn get(db: &mut SqliteConnection, id: ModelId) -> Result<Option<Model>> {
    let row = sqlx::query(
        "SELECT models.*, projects.name AS project_name
         FROM models JOIN projects ON projects.id = models.project_id WHERE models.id = ?",
    )
    .bind(id.to_string())
    .fetch_optional(db)
    .await
    .map_err(failed("reading a model"))?;
    row.as_ref().map(read).transpose()
}

/// Project, name and version of every model.
///
/// # Errors
/// `Internal`.
pub async fn names(db: &mut SqliteConnection) -> Result<Vec<(ModelId, [String; 3])>> {
    let rows = sqlx::query(
        "SELECT models.id, projects.name AS project, models.name, models.version
         FROM models JOIN projects ON projects.id = models.project_id",
    )
    .fetch_all(db)
    .await
    .map_err(failed("listing models"))?;
    rows.iter()
        .map(|row| {
            let names = ["project", "name", "version"].map(|column| row.get(column));
            Ok((from_word(row.get("id"))?, names))
        })
        .collect()
}

/// A part of the list of models; oldest first unless ordered otherwise.
///
/// # Errors
/// `BadRequest` for a filter or an ordering that does not fit; `Internal`.
pub async fn list(db: &mut SqliteConnection, query: &ListQuery) -> Result<Listing<Model>> {
    let (rows, total) = LIST.fetch(db, query).await?;
    let items = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Listing { items, total })
}

/// How many versions the model of this name has.
///
/// # Errors
/// `Internal`.
pub async fn versions(db: &mut SqliteConnection, project: ProjectId, name: &str) -> Result<u64> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM models WHERE project_id = ? AND name = ?")
            .bind(project.to_string())
            .bind(name)
            .fetch_one(db)
            .await
            .map_err(failed("counting a model's versions"))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Removes a model with its data, deployment and revisions. Gives `false` when there was none.
///
/// # Errors
/// `Internal`.
pub async fn delete(db: &mut SqliteConnection, id: ModelId) -> Result<bool> {
    let done = sqlx::query("DELETE FROM models WHERE id = ?")
        .bind(id.to_string())
        .execute(db)
        .await
        .map_err(failed("deleting a model"))?;
    Ok(done.rows_affected() > 0)
}

fn read(row: &SqliteRow) -> Result<Model> {
    Ok(Model {
        id: from_word(row.get("id"))?,
        project_id: from_word(row.get("project_id"))?,
        project_name: row.get("project_name"),
        name: row.get("name"),
        version: row.get("version"),
        input_type: from_word(row.get("input_type"))?,
        task: from_word(row.get("task"))?,
        task_params: from_json(row.get("task_params"))?,
        schema: from_json(row.get("schema"))?,
        spec: from_json(row.get("spec"))?,
        description: row.get("description"),
        event_id_col: row.get("event_id_col"),
        event_ts_col: row.get("event_ts_col"),
        event_ts_format: row.get("event_ts_format"),
        xai_params: row
            .get::<Option<&str>, _>("xai_params")
            .map(from_json)
            .transpose()?,
        artifact_status: from_word(row.get("artifact_status"))?,
        artifact_files: from_json(row.get("artifact_files"))?,
        created_at: from_micros(row.get("created_at"))?,
        updated_at: from_micros(row.get("updated_at"))?,
    })
}
