//! The audit log.

use std::sync::Arc;

use axum::{Router, extract::State, routing::get};
use jiff::Timestamp;
use luthier_app::{App, audit};
use luthier_types::ModelId;
use serde::Deserialize;
use serde_json::json;

use crate::{
    envelope::{Answer, data},
    extract::Query,
};

/// Entries given unless the request says otherwise.
const LIMIT: u32 = 100;
/// Most that are given at once.
const MAX_LIMIT: u32 = 1000;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/audit", get(list))
}

#[derive(Deserialize)]
struct Which {
    model_id: Option<ModelId>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    before: Option<i64>,
    limit: Option<u32>,
}

/// The newest entries; `next`, given as `before`, is where the next page begins.
async fn list(State(app): State<Arc<App>>, Query(which): Query<Which>) -> Answer {
    let limit = which.limit.unwrap_or(LIMIT).min(MAX_LIMIT);
    let entries = app
        .audit_log(&audit::Query {
            model_id: which.model_id,
            since: which.since,
            until: which.until,
            before: which.before,
            limit,
        })
        .await?;
    let is_full = entries.len() as u64 == u64::from(limit);
    let next = entries.last().filter(|_| is_full).map(|entry| entry.seq);
    Ok(data(json!({ "items": entries, "next": next })))
}
