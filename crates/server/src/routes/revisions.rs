//! What replicas of a model are made of, for `luthier export` and `luthier push`; the history of that,
//! the way back, and how far a new one may differ.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use luthier_app::{App, revisions::Rollback};
use luthier_types::{Code, Error, Limits, ModelId, Result, RevisionId};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{
    envelope::{Answer, accepted, data},
    extract::{Json, Path, Query},
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models/{id}/revision", get(read))
        .route("/v1/models/{id}/revisions", get(history))
        .route("/v1/models/{id}/rollback", post(roll_back))
        .route("/v1/models/{id}/approve", post(approve))
        .route(
            "/v1/models/{id}/rollout-limits",
            get(limits).put(set_limits),
        )
}

#[derive(Deserialize)]
struct Which {
    id: Option<RevisionId>,
}

async fn read(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Query(which): Query<Which>,
) -> Answer {
    Ok(data(app.revision(model, which.id).await?))
}

async fn history(State(app): State<Arc<App>>, Path(model): Path<ModelId>) -> Answer {
    Ok(data(json!({ "items": app.history(model).await? })))
}

async fn roll_back(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Json(body): Json<Map<String, Value>>,
) -> Answer {
    let request: Rollback = object(body)?;
    Ok(accepted(json!(app.roll_back(model, request).await?)))
}

async fn approve(State(app): State<Arc<App>>, Path(model): Path<ModelId>) -> Answer {
    Ok(accepted(json!(app.approve(model).await?)))
}

async fn limits(State(app): State<Arc<App>>, Path(model): Path<ModelId>) -> Answer {
    Ok(data(app.limits(model).await?))
}

async fn set_limits(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Json(body): Json<Map<String, Value>>,
) -> Answer {
    let limits: Limits = object(body)?;
    Ok(data(app.set_limits(model, limits).await?))
}

/// A body that is an object: a list would be read as the fields in their order.
fn object<T: DeserializeOwned>(body: Map<String, Value>) -> Result<T> {
    serde_json::from_value(Value::Object(body)).map_err(|e| {
        Error::new(Code::BadRequest, format!("the body does not fit: {e}"))
            .hint("docs/updates.md has the fields.")
    })
}
