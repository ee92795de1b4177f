//! Refusals in the protocol's shape, wherever they come from: `{"error": "what and why"}`.

use axum::{body::Body, extract::Request, http::header, middleware::Next, response::Response};
use serde_json::json;

use crate::envelope::Said;

/// The paths that belong to the protocol. The stock client has others below `/v2`.
const PATHS: [&str; 4] = ["/v2", "/v2/health", "/v2/models", "/v2/repository"];

/// Rewrites refusals of the protocol's paths.
pub(crate) async fn in_protocol(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let ours = PATHS.iter().any(|known| {
        let rest = path.strip_prefix(known);
        rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && *known != "/v2"))
    });
    let response = next.run(request).await;
    if !ours {
        return response;
    }
    let Some(Said(text)) = response.extensions().get().cloned() else {
        return response;
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(json!({ "error": text }).to_string()))
}
