//! Who may call: whoever presents the admin token.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use luthier_app::App;
use luthier_types::{Code, Error};

use crate::envelope::Failure;

/// Lets requests with the right token through; the metrics have one of their own beside it.
pub(crate) async fn require_token(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let settings = app.settings();
    let of_metrics = settings
        .metrics_token
        .as_ref()
        .filter(|_| request.uri().path() == "/metrics");
    let is_right =
        |token: &str| settings.token.matches(token) || of_metrics.is_some_and(|t| t.matches(token));
    let presented = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let cause = match presented {
        Some(token) if is_right(token) => return next.run(request).await,
        Some(_) => "the token is wrong",
        None => "the request carries no token",
    };
    let error = Error::new(Code::Unauthorized, cause).hint(
        "Send the header `Authorization: Bearer <token>`; the token stands in the file \
         `admin-token` of the server's data directory.",
    );
    Failure::from(error).into_response()
}
