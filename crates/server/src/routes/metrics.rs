//! `GET /metrics`, for Prometheus.

use std::sync::Arc;

use axum::{Router, extract::State, http::header, response::IntoResponse as _, routing::get};
use luthier_app::App;
use luthier_types::Error;
use prometheus_client::{encoding::prometheus_text, metrics::info::Info, registry::Registry};

use crate::{envelope::Answer, seen::Requests};

pub(crate) fn routes(requests: Requests) -> Router<Arc<App>> {
    let answer = move |State(app): State<Arc<App>>| async move { metrics(&app, requests).await };
    Router::new().route("/metrics", get(answer))
}

async fn metrics(app: &App, requests: Requests) -> Answer {
    let observed = app.observed().await?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(observed));
    registry.register(
        "luthier_http_requests",
        "Requests by route and status",
        requests,
    );
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("luthier_build", "What serves", build);
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)
        .map_err(|e| Error::internal("writing the metrics", e))?;
    Ok((
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        text,
    )
        .into_response())
}
