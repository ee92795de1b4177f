//! Explain.

use std::sync::Arc;

use axum::{Router, extract::State, routing::post};
use luthier_app::{App, explain::ExplainRequest};

use crate::{
    envelope::{Answer, data},
    extract::Json,
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v3/explain", post(explain))
}

async fn explain(State(app): State<Arc<App>>, Json(request): Json<ExplainRequest>) -> Answer {
    Ok(data(app.explain(request).await?))
}
