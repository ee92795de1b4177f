//! Events as they are stored: checked against the model's schema, with an id and a time.

use std::{collections::HashSet, path::Path};

use jiff::Timestamp;
use luthier_data::{Missing, batch_to_rows, head_parquet, parse_timestamp, rows_to_batch};
use luthier_store::{
    events::{self, Event},
    models::Model,
};
use luthier_types::{Code, Column, DataType, EnvType, Error, ModelId, Result};
use serde_json::{Map, Value};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::Write;

/// Unknown ids that an error names.
const NAMED_IDS: usize = 5;

/// A row ready to be stored.
pub(super) struct Prepared {
    /// The event's id, when the row has one.
    id: Option<String>,
    /// Its time, when the row has one.
    at: Option<Timestamp>,
    /// The values given, as the schema types them.
    row: Map<String, Value>,
}

/// Refuses an update that could not find its events.
pub(super) fn check_updatable(model: &Model, env: EnvType) -> Result<()> {
    if env == EnvType::PreProduction {
        return Err(Error::new(
            Code::BadRequest,
            "rows of a pre-production environment cannot be updated",
        )
        .hint("Publish under another name."));
    }
    if model.event_id_col.is_none() {
        return Err(Error::new(
            Code::BadRequest,
            "the model names no event_id_col, so that its events cannot be told apart",
        )
        .hint("Set event_id_col of the model and publish the events with ids."));
    }
    Ok(())
}

/// The columns beside the schema's that events have.
pub(super) fn extra_columns(model: &Model) -> Vec<String> {
    [&model.event_id_col, &model.event_ts_col]
        .into_iter()
        .flatten()
        .filter(|name| model.schema.column(name).is_none())
        .cloned()
        .collect()
}

/// Checks rows of a request.
pub(super) fn from_json(model: &Model, rows: &[Value]) -> Result<Vec<Prepared>> {
    let columns: Vec<&Column> = model.schema.columns.iter().collect();
    let given: Vec<Map<String, Value>> = rows
        .iter()
        .enumerate()
        .map(|(i, row)| match row {
            Value::Object(row) => Ok(row.clone()),
            _ => Err(
                Error::new(Code::BadRequest, format!("row {i} is not an object"))
                    .hint("Send each row as an object from column to value."),
            ),
        })
        .collect::<Result<_>>()?;
    let typed = batch_to_rows(&rows_to_batch(&given, &columns, Missing::Null)?);
    typed
        .into_iter()
        .zip(&given)
        .enumerate()
        .map(|(i, (mut row, given))| {
            row.retain(|name, _| given.contains_key(name));
            if row.is_empty() {
                return Err(Error::new(
                    Code::BadRequest,
                    format!("row {i} has none of the model's columns"),
                )
                .hint("Send the columns of the model's schema."));
            }
            for name in extra_columns(model) {
                if let Some(value) = given.get(&name) {
                    row.insert(name, value.clone());
                }
            }
            prepare(model, i, row)
        })
        .collect()
}

/// Reads the rows of a canonical file whose `columns` were taken from what the user sent.
pub(super) fn from_parquet(
    model: &Model,
    path: &Path,
    columns: &[String],
) -> Result<Vec<Prepared>> {
    let extras: Vec<Column> = extra_columns(model).into_iter().map(text_column).collect();
    let all: Vec<&Column> = model
        .schema
        .columns
        .iter()
        .chain(&extras)
        .filter(|column| columns.contains(&column.name))
        .collect();
    batch_to_rows(&head_parquet(path, &all, usize::MAX)?)
        .into_iter()
        .enumerate()
        .map(|(i, row)| prepare(model, i, row))
        .collect()
}

fn text_column(name: String) -> Column {
    Column {
        id: None,
        name,
        data_type: DataType::Str,
        min: None,
        max: None,
        categories: None,
        bins: None,
        replace_with_nulls: None,
        n_dimensions: None,
    }
}

fn prepare(model: &Model, i: usize, row: Map<String, Value>) -> Result<Prepared> {
    let value = |column: &Option<String>| {
        let value = row.get(column.as_deref()?)?;
        match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    };
    let at = match value(&model.event_ts_col) {
        None => None,
        Some(text) => Some(
            time(&text, model.event_ts_format.as_deref()).ok_or_else(|| {
                Error::new(
                    Code::BadRequest,
                    format!(
                        "row {i}: `{text}` in `{}` is not a time",
                        model.event_ts_col.as_deref().unwrap_or_default()
                    ),
                )
                .hint("Send ISO 8601 text or seconds or milliseconds since 1970.")
            })?,
        ),
    };
    let id = value(&model.event_id_col);
    Ok(Prepared { id, at, row })
}

/// A time by the model's own format, or else any usual one.
fn time(text: &str, format: Option<&str>) -> Option<Timestamp> {
    let by_format = format.and_then(|format| {
        let parsed = jiff::fmt::strtime::parse(format, text).ok()?;
        parsed.to_timestamp().ok().or_else(|| {
            let local = parsed.to_datetime().ok()?;
            jiff::tz::TimeZone::UTC.to_timestamp(local).ok()
        })
    });
    by_format.or_else(|| Timestamp::from_microsecond(parse_timestamp(text)?).ok())
}

/// Gives every row without an id one that is the same whenever the same job runs again.
pub(super) fn number(rows: &mut [Prepared], job: Uuid) {
    for (i, row) in rows.iter_mut().enumerate() {
        row.id.get_or_insert_with(|| {
            let digest = luthier_types::Digest::of_fields([
                job.as_bytes().as_slice(),
                &(i as u64).to_be_bytes(),
            ]);
            let bytes: Vec<u8> = digest.as_str().bytes().take(16).collect();
            let bytes: [u8; 16] = bytes.try_into().unwrap_or_default();
            uuid::Builder::from_random_bytes(bytes)
                .into_uuid()
                .to_string()
        });
    }
}

/// Stores rows in the caller's transaction and gives the ids of their events. An id that is there
/// already is replaced, so that storing again changes nothing.
pub(super) async fn store(
    db: &mut SqliteConnection,
    model: ModelId,
    rows: Vec<Prepared>,
    write: Write,
) -> Result<Vec<String>> {
    match write {
        Write::Publish => insert(db, model, rows).await,
        Write::Update => update(db, model, rows).await,
    }
}

async fn insert(
    db: &mut SqliteConnection,
    model: ModelId,
    rows: Vec<Prepared>,
) -> Result<Vec<String>> {
    let now = Timestamp::now();
    let mut ids = Vec::with_capacity(rows.len());
    for Prepared { id, at, row } in rows {
        let event = Event {
            id: id.unwrap_or_else(|| Uuid::now_v7().to_string()),
            at: at.unwrap_or(now),
            row,
        };
        events::put(db, model, &event).await?;
        ids.push(event.id);
    }
    Ok(ids)
}

async fn update(
    db: &mut SqliteConnection,
    model: ModelId,
    rows: Vec<Prepared>,
) -> Result<Vec<String>> {
    let mut ids = Vec::with_capacity(rows.len());
    let mut unknown = HashSet::new();
    for (i, Prepared { id, at, row }) in rows.into_iter().enumerate() {
        let id = id.ok_or_else(|| {
            Error::new(Code::BadRequest, format!("row {i} has no event id"))
                .hint("Send the column event_id_col with every row.")
        })?;
        match events::row(db, model, &id).await? {
            None => {
                unknown.insert(id.clone());
            }
            Some(mut stored) => {
                stored.extend(row);
                events::update(db, model, &id, &stored, at).await?;
            }
        }
        ids.push(id);
    }
    if unknown.is_empty() {
        return Ok(ids);
    }
    let mut named: Vec<&str> = unknown.iter().map(String::as_str).collect();
    named.sort_unstable();
    named.truncate(NAMED_IDS);
    Err(Error::new(
        Code::BadRequest,
        format!(
            "{} events do not exist, for example {}",
            unknown.len(),
            named.join(", ")
        ),
    )
    .hint("Publish them first; nothing was changed."))
}
