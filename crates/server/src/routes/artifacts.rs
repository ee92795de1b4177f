//! Adding, replacing and downloading a model's artifact.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, header},
    response::IntoResponse as _,
    routing::{get, post},
};
use luthier_app::{
    App,
    deploy::{DeployRequest, Mode},
};
use luthier_types::ModelId;
use serde_json::json;
use tokio_util::io::ReaderStream;

use crate::{
    envelope::{Answer, accepted},
    extract::{Json, Path},
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/models/{id}/deploy-artifact", post(deploy).put(deploy))
        .route("/v3/models/{id}/download-artifact", get(download))
}

async fn deploy(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    method: Method,
    headers: HeaderMap,
    Json(request): Json<DeployRequest>,
) -> Answer {
    let mode = if method == Method::PUT {
        Mode::Update
    } else {
        Mode::Add
    };
    let repeated = headers.contains_key("x-fiddler-client-retry");
    let job = app.deploy_artifact(model, request, mode, repeated).await?;
    Ok(accepted(json!(job)))
}

async fn download(State(app): State<Arc<App>>, Path(model): Path<ModelId>) -> Answer {
    let download = app.download_artifact(model).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/gzip".to_owned()),
        (header::CONTENT_LENGTH, download.size.to_string()),
    ];
    let body = Body::from_stream(ReaderStream::with_capacity(download.reader, 256 * 1024));
    Ok((headers, body).into_response())
}
