//! The envelopes every answer comes in, and the HTTP status of each error code.

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use luthier_gateway::Timings;
use luthier_types::{Code, Error, Fault, runner::TIMING_HEADER};
use serde::Serialize;
use serde_json::{Value, json};

const API_VERSION: &str = "3.0";

/// What a handler answers.
pub(crate) type Answer = Result<Response, Failure>;

/// An [`Error`] on its way out.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    status: StatusCode,
}

impl Failure {
    /// An error with a status other than its code's.
    pub(crate) fn with_status(error: Error, status: StatusCode) -> Self {
        Self { error, status }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = status(error.code());
        Self { error, status }
    }
}

/// The status of each code.
///
/// Clients repeat 429 and 5xx for minutes, so only what may pass by itself is one of these: 429 for
/// a full queue, 5xx for a model that is starting and for faults of this machine. What a model or a
/// package does wrong is final.
const fn status(code: Code) -> StatusCode {
    match code {
        Code::BadRequest
        | Code::CapacityExceeded
        | Code::InvalidPackage
        | Code::RequirementsError
        | Code::UnknownImage
        | Code::ModelServeError
        | Code::InvalidPrediction
        | Code::DeploymentTimeout
        | Code::ModelUnavailable
        | Code::PredictTimeout
        | Code::Cancelled => StatusCode::BAD_REQUEST,
        Code::Unauthorized => StatusCode::UNAUTHORIZED,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict | Code::RolloutHeld => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Code::NotSupported => StatusCode::NOT_IMPLEMENTED,
        Code::ModelStarting
        | Code::IndexUnreachable
        | Code::ImageUnavailable
        | Code::ContainerFailed
        | Code::StorageUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The word in `errors[].reason`; the client's own word where it has one.
fn reason(code: Code) -> String {
    match code {
        Code::NotFound => "ObjectNotFound".to_owned(),
        other => other.to_string(),
    }
}

/// What the stock client shows, which is this alone: the cause with evidence and next step. Where
/// its users know the platform's own words, only these.
fn headline(error: &Error) -> String {
    match error.code() {
        Code::NotFound | Code::Conflict => error.message().to_owned(),
        _ => error.public_text(),
    }
}

/// What a refusal says in one text; goes with the response, for those who put it otherwise.
#[derive(Clone)]
pub(crate) struct Said(pub(crate) String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self { error, status } = self;
        let said = headline(&error);
        match error.code().fault() {
            Fault::Server => tracing::error!(error = %error.chain(), "request failed"),
            Fault::Operator => tracing::warn!(error = %error.chain(), "request failed"),
            _ => tracing::debug!(error = %error.chain(), "request refused"),
        }
        let mut detail = json!({
            "code": status.as_u16(),
            "message": said,
            "errors": [{
                "reason": reason(error.code()),
                "message": error.message(),
                "help": error.next_step().unwrap_or_default(),
            }],
        });
        if !error.observed().is_empty()
            && let Ok(evidence) = serde_json::to_value(error.observed())
        {
            detail["evidence"] = evidence;
        }
        let mut response = respond(
            status,
            &json!({ "error": detail, "api_version": API_VERSION, "kind": "ERROR" }),
        );
        response.extensions_mut().insert(Said(said));
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The answer with the header `Server-Timing`.
pub(crate) fn timed(timings: &Timings, answer: Answer) -> Response {
    let mut response = answer.into_response();
    if let Ok(value) = HeaderValue::try_from(timings.header()) {
        let name = HeaderName::from_static(TIMING_HEADER);
        response.headers_mut().insert(name, value);
    }
    response
}

/// `200` with a document that has no envelope.
pub(crate) fn bare(document: &Value) -> Response {
    respond(StatusCode::OK, document)
}

/// `200` with one object.
pub(crate) fn data(value: impl Serialize) -> Response {
    data_with(StatusCode::OK, value)
}

/// A given success status with one object.
pub(crate) fn data_with(status: StatusCode, value: impl Serialize) -> Response {
    #[derive(Serialize)]
    struct Envelope<T> {
        data: T,
        api_version: &'static str,
        kind: &'static str,
    }
    respond(
        status,
        &Envelope {
            data: value,
            api_version: API_VERSION,
            kind: "NORMAL",
        },
    )
}

/// `202` with the job that does the work.
pub(crate) fn accepted(job: Value) -> Response {
    data_with(StatusCode::ACCEPTED, json!({ "job": job }))
}

/// `200` with a page of a list: `items` from `offset` of `total`, `limit` to a page.
pub(crate) fn page(items: Vec<Value>, total: u64, limit: u64, offset: u64) -> Response {
    let limit = limit.max(1);
    respond(
        StatusCode::OK,
        &json!({
            "data": {
                "page_size": limit,
                "total": total,
                "item_count": items.len(),
                "page_count": total.div_ceil(limit),
                "page_index": offset / limit + 1,
                "offset": offset,
                "items": items,
            },
            "api_version": API_VERSION,
            "kind": "PAGINATED",
        }),
    )
}

fn respond(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => Failure::from(Error::internal("writing the answer", error)).into_response(),
    }
}

#[cfg(test)]
mod tests;
