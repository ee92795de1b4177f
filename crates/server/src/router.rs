//! The router: every route, and what stands around all of them.

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    http::{Method, StatusCode, Uri},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use luthier_app::App;
use luthier_types::{Code, Error};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    auth::require_token,
    drain::drain_refused,
    envelope::Failure,
    extract::bounded,
    routes,
    seen::{Requests, audited, seen},
};

/// Every route of the server. All want the token but those of health.
pub fn router(app: Arc<App>) -> Router {
    let requests = Requests::default();
    let routes = Router::new()
        .merge(routes::connection::routes())
        .merge(routes::audit::routes())
        .merge(routes::logs::routes())
        .merge(routes::metrics::routes(requests.clone()))
        .merge(routes::projects::routes())
        .merge(routes::models::routes())
        .merge(routes::files::routes(&app))
        .merge(routes::events::routes())
        .merge(routes::environments::routes())
        .merge(routes::baselines::routes())
        .merge(routes::not_served::routes())
        .merge(routes::artifacts::routes())
        .merge(routes::deployments::routes())
        .merge(routes::images::routes())
        .merge(routes::envs::routes())
        .merge(routes::explain::routes())
        .merge(routes::jobs::routes())
        .merge(routes::predict::routes())
        .merge(routes::oip::routes())
        .merge(routes::revisions::routes())
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method);
    bounded(routes, app.settings().max_json_bytes)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&app), audited))
        .layer(from_fn_with_state(Arc::clone(&app), require_token))
        .merge(routes::oip::open_routes())
        .layer(from_fn(routes::oip::in_protocol))
        .layer(from_fn(drain_refused))
        .route("/healthz", get(|| async { "ok" }))
        .layer(from_fn_with_state(requests, seen))
        .with_state(app)
}

async fn unknown_route(method: Method, uri: Uri) -> Failure {
    Error::new(
        Code::NotFound,
        format!("there is no {method} {}", uri.path()),
    )
    .hint("Check the path, and that the URL names the root of the server.")
    .into()
}

async fn wrong_method(method: Method, uri: Uri) -> Failure {
    let error = Error::new(
        Code::BadRequest,
        format!("{} does not take {method}", uri.path()),
    )
    .hint("The header `Allow` lists what it takes.");
    Failure::with_status(error, StatusCode::METHOD_NOT_ALLOWED)
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let cause = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    Failure::from(Error::internal("handling the request", cause)).into_response()
}

#[cfg(test)]
mod tests;
