//! Whether the client sends a request again by itself.

use std::convert::Infallible;

use axum::{extract::FromRequestParts, http::request::Parts};

/// True when the client saw no answer to an earlier sending of this request.
pub(crate) struct Retried(pub(crate) bool);

impl<S: Send + Sync> FromRequestParts<S> for Retried {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.headers.contains_key("x-fiddler-client-retry")))
    }
}
