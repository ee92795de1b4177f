//! The catalogue of images, and moving a deployment to another.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use luthier_app::{App, images::Move};
use luthier_types::ModelId;
use serde_json::json;

use crate::{
    envelope::{Answer, accepted, data},
    extract::{Json, Path},
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/images", get(list))
        .route("/v1/models/{id}/move", post(move_to))
}

async fn list(State(app): State<Arc<App>>) -> Answer {
    Ok(data(json!({ "items": app.images().await? })))
}

async fn move_to(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Json(request): Json<Move>,
) -> Answer {
    let job = app.move_to_image(model, request).await?;
    Ok(accepted(json!(job)))
}
