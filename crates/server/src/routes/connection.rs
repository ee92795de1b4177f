//! What the client asks on connecting.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::get};
use luthier_app::App;
use serde_json::json;

use crate::envelope::data;

/// The platform version we stand for: opens every method of client 3.14.
const SERVER_VERSION: &str = "25.2.0";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/server-info", get(server_info))
        .route("/v3/version-compatibility", get(compatible))
}

async fn server_info(State(app): State<Arc<App>>) -> Response {
    data(json!({
        "server_version": SERVER_VERSION,
        "feature_flags": {},
        "organization": { "id": App::ORGANIZATION, "name": app.settings().organization },
    }))
}

async fn compatible() -> Response {
    data(json!({}))
}
