//! A model's deployment, and every deployment for an operator.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{get, put},
};
use jiff::Timestamp;
use luthier_app::{App, deployments::DeploymentView, manual::SetAddress, sizing::failure};
use luthier_types::ModelId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    envelope::{Answer, accepted, data},
    extract::{Json, Path, Query},
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/models/{id}/deployment", get(read).patch(change))
        .route("/v1/models/{id}/deployment", get(read).patch(change))
        .route("/v1/deployments", get(list))
        .route("/v1/models/{id}/runner-address", put(set_runner))
        .route("/v1/models/{id}/failures", get(failures))
}

async fn read(State(app): State<Arc<App>>, Path(model): Path<ModelId>) -> Answer {
    let view = app.deployment(model).await?;
    Ok(data(deployment(&app, &view)))
}

async fn change(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Json(body): Json<Value>,
) -> Answer {
    let (view, job) = app.change_deployment(model, body).await?;
    let mut value = deployment(&app, &view);
    value["job"] = json!(job);
    Ok(data(value))
}

async fn set_runner(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Json(request): Json<SetAddress>,
) -> Answer {
    Ok(accepted(json!(app.set_runner(model, request).await?)))
}

async fn list(State(app): State<Arc<App>>) -> Answer {
    Ok(data(json!({ "items": app.deployment_statuses().await? })))
}

#[derive(Deserialize)]
struct FailuresQuery {
    limit: Option<u32>,
}

async fn failures(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Query(query): Query<FailuresQuery>,
) -> Answer {
    let failures = app.failures(model, query.limit.unwrap_or(u32::MAX)).await?;
    Ok(data(json!({ "items": failures })))
}

fn deployment(app: &App, view: &DeploymentView) -> Value {
    let (d, card) = (&view.deployment, &view.card);
    let user = json!({ "id": App::ADMIN, "full_name": "Admin", "email": "" });
    json!({
        "id": d.id,
        "model": { "id": card.id, "name": card.name, "version": card.version },
        "project": { "id": card.project_id, "name": card.project_name },
        "organization": { "id": App::ORGANIZATION, "name": app.settings().organization },
        "artifact_type": d.artifact_type,
        "deployment_type": d.deployment_type,
        "active": d.active,
        "image_uri": view.image_uri,
        "image_replaced_by": view.image_replaced_by,
        "replicas": d.replicas,
        "cpu": d.resources.cpu,
        "memory": d.resources.memory,
        "phase": d.phase,
        "ready_replicas": d.ready_replicas,
        "target_replicas": d.target_replicas.unwrap_or(d.replicas),
        "min_replicas": d.scaling.min_replicas,
        "max_replicas": d.scaling.max_replicas,
        "idle_timeout": d.scaling.idle_timeout,
        "target_concurrency": d.scaling.target_concurrency,
        "batching": view.batching,
        "runner_address": view.runner_address,
        "failure": d.failure,
        "last_failure": view.last_failure.as_ref().map(failure),
        "sizing": view.sizing,
        "created_at": time(d.created_at),
        "updated_at": time(d.updated_at),
        "created_by": user,
        "updated_by": user,
    })
}

/// A time as both clients read it.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}
