//! Extractors whose rejections come in the error envelope.

use axum::{
    Extension, Router,
    body::{Bytes, HttpBody as _},
    extract::{
        DefaultBodyLimit, FromRequest, FromRequestParts, Request,
        rejection::{BytesRejection, FailedToBufferBody},
    },
    http::{StatusCode, request::Parts},
};
use luthier_types::{Code, Error};
use serde::de::DeserializeOwned;

use crate::{connections::fell_silent, envelope::Failure};

/// A JSON body, whatever its content type says.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let Body(bytes) = Body::from_request(request, state).await?;
        parse_json(&bytes).map(Json).map_err(Failure::from)
    }
}

/// Parses a JSON body.
fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| {
        let cause = if bytes.is_empty() {
            "the request has no body".to_owned()
        } else if e.is_data() {
            format!("the body does not fit: {e}")
        } else {
            format!("the body is not JSON: {e}")
        };
        Error::new(Code::BadRequest, cause).hint("Send the JSON object this call describes.")
    })
}

/// A body as it came, for a use case that parses it itself.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        check_length(&request)?;
        let bytes = Bytes::from_request(request, state).await;
        bytes.map(Self).map_err(body_failure)
    }
}

/// The most bytes of a body that a route takes.
#[derive(Clone, Copy)]
struct Most(u64);

/// Bounds the bodies of `router`; where one of its routes has a bound already, that holds.
pub(crate) fn bounded<S: Clone + Send + Sync + 'static>(router: Router<S>, most: u64) -> Router<S> {
    let bytes = usize::try_from(most).unwrap_or(usize::MAX);
    router
        .layer(DefaultBodyLimit::max(bytes))
        .layer(Extension(Most(most)))
}

/// Refuses a body by the length that it announces, before any of it is read.
pub(crate) fn check_length(request: &Request) -> Result<(), Error> {
    let most = request.extensions().get::<Most>();
    match most {
        Some(Most(most)) if request.body().size_hint().lower() > *most => Err(too_large()),
        _ => Ok(()),
    }
}

fn body_failure(rejection: BytesRejection) -> Failure {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            too_large().into()
        }
        other if fell_silent(&other) => Failure::with_status(silent(), StatusCode::REQUEST_TIMEOUT),
        other => Error::new(
            Code::BadRequest,
            format!("the body could not be read: {}", other.body_text()),
        )
        .into(),
    }
}

/// The body stopped coming.
pub(crate) fn silent() -> Error {
    Error::new(
        Code::BadRequest,
        "the rest of the request's body did not come",
    )
    .hint("Send the body without pauses, or have the operator raise --client-timeout.")
}

/// The body passes the limit of its route.
pub(crate) fn too_large() -> Error {
    Error::new(
        Code::TooLarge,
        "the request's body is larger than the server takes",
    )
    .hint("Send less at once, or have the operator raise the limit.")
}

/// The path's parameters.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            // What is no identifier identifies nothing.
            Err(rejection) => Err(Error::new(
                Code::NotFound,
                format!("nothing has this identifier: {}", rejection.body_text()),
            )
            .hint("Identifiers are UUIDs.")
            .into()),
        }
    }
}

/// The query string.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(Error::new(
                Code::BadRequest,
                format!("the query string does not fit: {}", rejection.body_text()),
            )
            .hint("Look up the options of this call.")
            .into()),
        }
    }
}
