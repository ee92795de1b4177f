//! Publishing, updating and deleting data.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::post};
use luthier_app::{
    App,
    events::{Accepted, DeleteRequest, Publish, Write},
};
use serde_json::json;

use crate::{
    envelope::{Answer, accepted, data},
    extract::Json,
    retried::Retried,
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v3/events", post(publish).patch(update).delete(remove))
}

async fn publish(
    State(app): State<Arc<App>>,
    Retried(repeated): Retried,
    Json(request): Json<Publish>,
) -> Answer {
    let result = app.publish_data(request, Write::Publish, repeated).await?;
    Ok(answer(result))
}

async fn update(
    State(app): State<Arc<App>>,
    Retried(repeated): Retried,
    Json(request): Json<Publish>,
) -> Answer {
    let result = app.publish_data(request, Write::Update, repeated).await?;
    Ok(answer(result))
}

async fn remove(State(app): State<Arc<App>>, Json(request): Json<DeleteRequest>) -> Answer {
    Ok(accepted(json!(app.delete_events(request).await?)))
}

fn answer(result: Accepted) -> Response {
    match result {
        Accepted::Job(job) => data(json!({ "source_type": "FILE", "job": job })),
        Accepted::Events(ids) => data(json!({ "source_type": "EVENTS", "event_ids": ids })),
    }
}
