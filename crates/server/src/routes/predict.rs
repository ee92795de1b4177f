//! Predict. The rows of the answer are written straight into the envelope.

use std::sync::Arc;

use axum::{
    Router, body::Bytes, extract::State, http::header, response::IntoResponse as _, routing::post,
};
use luthier_app::App;

use crate::{envelope::Answer, extract::Body};

/// What stands around the rows.
const BEFORE: &[u8] = br#"{"data":{"predictions":"#;
const AFTER: &[u8] = br#"},"api_version":"3.0","kind":"NORMAL"}"#;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v3/predict", post(predict))
}

async fn predict(State(app): State<Arc<App>>, Body(body): Body) -> Answer {
    let mut answer = app.predict(body, BEFORE.to_vec()).await?;
    answer.extend_from_slice(AFTER);
    let json = [(header::CONTENT_TYPE, "application/json")];
    Ok((json, Bytes::from(answer)).into_response())
}
