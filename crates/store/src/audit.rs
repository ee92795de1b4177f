//! Who changed what. Entries are added in the transaction of the change, where there is one.

use jiff::Timestamp;
use luthier_types::{JobId, ModelId, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use crate::{
    failed,
    values::{from_json, from_micros, from_word, to_json, to_micros},
};

/// The actor of what the server does by itself.
pub const SERVER: &str = "server";

/// Who asked for a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Name of the token, or [`SERVER`].
    pub actor: String,
    /// Address the request came from.
    pub address: Option<String>,
    /// What the client calls itself.
    pub client: Option<String>,
    /// The request's id.
    pub request_id: Option<String>,
}

/// What was changed, on which.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Change {
    /// What, such as `deployment.change`.
    pub action: String,
    /// Id of what it was done to.
    pub target: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The model it belongs to.
    pub model_id: Option<ModelId>,
    /// The job that does it.
    pub job_id: Option<JobId>,
    /// The fields that changed: `{"field": {"before": …, "after": …}}`. Never secrets.
    pub changes: Map<String, Value>,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its place in the log.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    #[serde(flatten)]
    pub caller: Caller,
    /// What.
    #[serde(flatten)]
    pub change: Change,
}

/// Which entries to list.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Of this model.
    pub model_id: Option<ModelId>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
    /// With a lower place than this: the next page.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

impl Caller {
    /// The server itself.
    pub fn server() -> Self {
        Self {
            actor: SERVER.to_owned(),
            ..Self::default()
        }
    }
}

impl Change {
    /// A change without details.
    pub fn new(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            ..Self::default()
        }
    }

    /// With the id and the name of what it was done to.
    #[must_use]
    pub fn target(mut self, id: impl ToString, name: impl Into<String>) -> Self {
        self.target = Some(id.to_string());
        self.name = Some(name.into());
        self
    }

    /// With the model it belongs to.
    #[must_use]
    pub const fn model(mut self, id: ModelId) -> Self {
        self.model_id = Some(id);
        self
    }

    /// With the job that does it.
    #[must_use]
    pub const fn job(mut self, id: JobId) -> Self {
        self.job_id = Some(id);
        self
    }

    /// With the fields in which two objects differ.
    #[must_use]
    pub fn fields(mut self, before: &Value, after: &Value) -> Self {
        let empty = Map::new();
        let (old, new) = (
            before.as_object().unwrap_or(&empty),
            after.as_object().unwrap_or(&empty),
        );
        for field in old.keys().chain(new.keys()) {
            let (before, after) = (
                old.get(field).unwrap_or(&Value::Null),
                new.get(field).unwrap_or(&Value::Null),
            );
            if before != after {
                let change = serde_json::json!({ "before": before, "after": after });
                self.changes.insert(field.clone(), change);
            }
        }
        self
    }
}

/// Adds an entry.
///
/// # Errors
/// `Internal`.
pub async fn insert(
    db: &mut SqliteConnection,
    at: Timestamp,
    caller: &Caller,
    change: &Change,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO audit (at, actor, address, client, request_id, action, target, name, model_id,
             job_id, changes)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(to_micros(at))
    .bind(&caller.actor)
    .bind(&caller.address)
    .bind(&caller.client)
    .bind(&caller.request_id)
    .bind(&change.action)
    .bind(&change.target)
    .bind(&change.name)
    .bind(change.model_id.map(|id| id.to_string()))
    .bind(change.job_id.map(|id| id.to_string()))
    .bind(to_json(&change.changes)?)
    .execute(db)
    .await
    .map_err(failed("writing the audit log"))?;
    Ok(())
}

/// Entries, newest first.
///
/// # Errors
/// `Internal`.
pub async fn list(db: &mut SqliteConnection, query: &Query) -> Result<Vec<Entry>> {
    let mut sql = QueryBuilder::<Sqlite>::new("SELECT * FROM audit WHERE 1");
    if let Some(model) = query.model_id {
        sql.push(" AND model_id = ").push_bind(model.to_string());
    }
    if let Some(since) = query.since {
        sql.push(" AND at >= ").push_bind(to_micros(since));
    }
    if let Some(until) = query.until {
        sql.push(" AND at < ").push_bind(to_micros(until));
    }
    if let Some(before) = query.before {
        sql.push(" AND seq < ").push_bind(before);
    }
    sql.push(" ORDER BY seq DESC LIMIT ").push_bind(query.limit);
    let rows = sql
        .build()
        .fetch_all(db)
        .await
        .map_err(failed("reading the audit log"))?;
    rows.iter().map(read).collect()
}

/// Removes entries from before `time`, and gives how many.
///
/// # Errors
/// `Internal`.
pub async fn expire(db: &mut SqliteConnection, time: Timestamp) -> Result<u64> {
    let done = sqlx::query("DELETE FROM audit WHERE at < ?")
        .bind(to_micros(time))
        .execute(db)
        .await
        .map_err(failed("removing old entries of the audit log"))?;
    Ok(done.rows_affected())
}

fn read(row: &SqliteRow) -> Result<Entry> {
    let id = |column: &str| row.get::<Option<&str>, _>(column);
    Ok(Entry {
        seq: row.get("seq"),
        at: from_micros(row.get("at"))?,
        caller: Caller {
            actor: row.get("actor"),
            address: row.get("address"),
            client: row.get("client"),
            request_id: row.get("request_id"),
        },
        change: Change {
            action: row.get("action"),
            target: row.get("target"),
            name: row.get("name"),
            model_id: id("model_id").map(from_word).transpose()?,
            job_id: id("job_id").map(from_word).transpose()?,
            changes: from_json(row.get("changes"))?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[tokio::test]
    async fn entries_are_listed_in_pages_never_changed_and_removed_when_old() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let mut db = store.write().await.unwrap();
        let model = ModelId::new();
        let at = |second| Timestamp::from_second(second).unwrap();
        for n in 0..5 {
            let mut change = Change::new(format!("a{n}"));
            if n % 2 == 0 {
                change = change.model(model);
            }
            insert(&mut db, at(n), &Caller::server(), &change)
                .await
                .unwrap();
        }
        let mut actions = async |query: Query| {
            let query = Query { limit: 2, ..query };
            let entries = list(&mut db, &query).await.unwrap();
            let last = entries.last().map(|e| e.seq);
            (
                entries
                    .into_iter()
                    .map(|e| e.change.action)
                    .collect::<Vec<_>>(),
                last,
            )
        };
        let (page, last) = actions(Query::default()).await;
        assert_eq!(page, ["a4", "a3"]);
        let next = Query {
            before: last,
            ..Query::default()
        };
        assert_eq!(actions(next).await.0, ["a2", "a1"]);
        let of_model = Query {
            model_id: Some(model),
            ..Query::default()
        };
        assert_eq!(actions(of_model).await.0, ["a4", "a2"]);
        let window = Query {
            since: Some(at(1)),
            until: Some(at(3)),
            ..Query::default()
        };
        assert_eq!(actions(window).await.0, ["a2", "a1"]);

        let changed = sqlx::query("UPDATE audit SET actor = 'nobody'")
            .execute(&mut *db)
            .await;
        assert!(changed.unwrap_err().to_string().contains("append-only"));
        assert_eq!(expire(&mut db, at(3)).await.unwrap(), 3);
        let all = Query {
            limit: 9,
            ..Query::default()
        };
        assert_eq!(list(&mut db, &all).await.unwrap().len(), 2);
    }

    #[test]
    fn a_change_has_the_fields_that_differ() {
        let before = serde_json::json!({ "replicas": 1, "cpu": 100, "old": 1 });
        let after = serde_json::json!({ "replicas": 2, "cpu": 100, "new": 1 });
        let change = Change::new("x").fields(&before, &after);
        assert_eq!(
            Value::Object(change.changes),
            serde_json::json!({
                "replicas": { "before": 1, "after": 2 },
                "old": { "before": 1, "after": null },
                "new": { "before": null, "after": 1 },
            })
        );
    }
}
