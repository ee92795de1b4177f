//! The environments that replicas run in, for an operator.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use luthier_app::App;
use serde::Deserialize;
use serde_json::json;

use crate::{
    envelope::{Answer, accepted, data},
    extract::{Json, Path},
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/environments", get(list))
        .route("/v1/environments/{id}/sbom", get(sbom))
        .route("/v1/environments/collect", post(collect))
}

async fn list(State(app): State<Arc<App>>) -> Answer {
    Ok(data(json!({ "items": app.envs().await? })))
}

async fn sbom(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    Ok(data(app.sbom(&id).await?))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Collect {
    dry_run: bool,
}

/// Dry, answers what would be removed; else with the job that does it.
async fn collect(State(app): State<Arc<App>>, Json(request): Json<Collect>) -> Answer {
    if request.dry_run {
        return Ok(data(json!({ "items": app.unused_envs().await? })));
    }
    Ok(accepted(json!(app.collect_envs().await?)))
}
