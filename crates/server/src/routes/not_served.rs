//! What the platform has and this server has not: answered in the envelope, never retried.

use std::sync::Arc;

use axum::{Router, http::Uri, routing::any};
use luthier_app::App;
use luthier_types::{Code, Error};

use crate::envelope::Failure;

/// Analytics, surrogates and monitoring.
const PATHS: [&str; 18] = [
    "/v3/models/{id}/deploy-surrogate",
    "/v3/analytics/{*rest}",
    "/v3/slice-query/{*rest}",
    "/v2/alert-configs",
    "/v2/alert-configs/{*rest}",
    "/v3/alert-rules",
    "/v3/alert-rules/{*rest}",
    "/v2/webhooks",
    "/v2/webhooks/{*rest}",
    "/v3/custom-metrics",
    "/v3/custom-metrics/{*rest}",
    "/v3/models/{id}/custom-metrics",
    "/v3/segments",
    "/v3/segments/{*rest}",
    "/v3/models/{id}/segments",
    "/v3/charts",
    "/v3/charts/{*rest}",
    "/v3/models/{id}/default-dashboard",
];

pub(crate) fn routes() -> Router<Arc<App>> {
    PATHS.into_iter().fold(Router::new(), |router, path| {
        router.route(path, any(refuse))
    })
}

async fn refuse(uri: Uri) -> Failure {
    Error::new(
        Code::NotSupported,
        format!("this server does not support {}", uri.path()),
    )
    .hint("It deploys models, predicts, explains, and measures feature impact and importance.")
    .into()
}
