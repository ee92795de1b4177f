//! Jobs: as the stock client polls them, and in full for an operator.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use luthier_app::App;
use luthier_types::JobId;
use serde::Deserialize;
use serde_json::json;

use crate::{
    envelope::{Answer, data},
    extract::{Path, Query},
};

/// Jobs listed unless the request says otherwise.
const LIMIT: u32 = 50;
/// Most that are listed.
const MAX_LIMIT: u32 = 1000;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/jobs/{id}", get(read))
        .route("/v1/jobs", get(list))
        .route("/v1/jobs/{id}", get(detail))
        .route("/v1/jobs/{id}/cancel", post(cancel))
}

#[derive(Deserialize)]
struct ReadQuery {
    /// Spelled as Python does.
    verbose: Option<String>,
}

async fn read(
    State(app): State<Arc<App>>,
    Path(id): Path<JobId>,
    Query(query): Query<ReadQuery>,
) -> Answer {
    let verbose = query
        .verbose
        .is_some_and(|v| v.eq_ignore_ascii_case("true") || v == "1");
    Ok(data(app.job(id, verbose).await?))
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<u32>,
}

async fn list(State(app): State<Arc<App>>, Query(query): Query<ListQuery>) -> Answer {
    let limit = query.limit.unwrap_or(LIMIT).min(MAX_LIMIT);
    Ok(data(json!({ "items": app.jobs(limit).await? })))
}

async fn detail(State(app): State<Arc<App>>, Path(id): Path<JobId>) -> Answer {
    Ok(data(app.job_detail(id).await?))
}

async fn cancel(State(app): State<Arc<App>>, Path(id): Path<JobId>) -> Answer {
    Ok(data(app.cancel_job(id).await?))
}
