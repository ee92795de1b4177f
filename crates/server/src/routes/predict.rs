//! Predict, in every form of rows.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use luthier_app::{
    App,
    names::{ModelName, ModelRef},
    predict::Predict,
};
use luthier_data::Format;
use luthier_gateway::Timings;
use luthier_types::ModelId;
use serde::Deserialize;

use crate::{
    envelope::{Answer, Failure, timed},
    extract::{Body, Path, Query},
    negotiate::{form_of_answer, form_of_body},
};

/// What stands around the rows of an answer in JSON.
const BEFORE: &[u8] = br#"{"data":{"predictions":"#;
const AFTER: &[u8] = br#"},"api_version":"3.0","kind":"NORMAL"}"#;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/predict", post(by_query))
        .route("/v1/models/{id}/predict", post(by_id))
        .route("/v1/models/{project}/{model}/predict", post(by_name))
}

/// What a request may say in its query string, since only JSON has room for it in the body.
#[derive(Deserialize)]
struct Options {
    model_id: Option<ModelId>,
    /// Instead of the id.
    model: Option<String>,
    chunk_size: Option<u64>,
}

async fn by_query(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(options): Query<Options>,
    Body(body): Body,
) -> Response {
    let model = match (options.model_id, options.model.map(|name| name.parse())) {
        (Some(id), _) => Some(ModelRef::Id(id)),
        (None, Some(Ok(model))) => Some(model),
        (None, Some(Err(error))) => return Failure::from(error).into_response(),
        (None, None) => None,
    };
    predict(&app, &headers, model, options.chunk_size, body).await
}

#[derive(Deserialize)]
struct Chunks {
    chunk_size: Option<u64>,
}

async fn by_id(
    State(app): State<Arc<App>>,
    Path(id): Path<ModelId>,
    headers: HeaderMap,
    Query(Chunks { chunk_size }): Query<Chunks>,
    Body(body): Body,
) -> Response {
    predict(&app, &headers, Some(ModelRef::Id(id)), chunk_size, body).await
}

async fn by_name(
    State(app): State<Arc<App>>,
    Path((project, model)): Path<(String, String)>,
    headers: HeaderMap,
    Query(Chunks { chunk_size }): Query<Chunks>,
    Body(body): Body,
) -> Response {
    let model = ModelRef::Name(ModelName::new(&project, &model));
    predict(&app, &headers, Some(model), chunk_size, body).await
}

async fn predict(
    app: &App,
    headers: &HeaderMap,
    model: Option<ModelRef>,
    chunk_size: Option<u64>,
    body: Bytes,
) -> Response {
    let timings = Timings::default();
    let answer: Answer = async {
        let format = form_of_body(headers)?;
        let form = form_of_answer(headers, format)?;
        let request = Predict {
            model,
            body,
            format,
            answer: form,
            chunk_size,
        };
        let is_json = form == Format::Json;
        let before = if is_json { BEFORE.to_vec() } else { vec![] };
        let mut answer = app.predict(request, before, &timings).await?;
        if is_json {
            answer.extend_from_slice(AFTER);
        }
        let media_type = [(header::CONTENT_TYPE, form.media_type())];
        Ok((media_type, Bytes::from(answer)).into_response())
    }
    .await;
    timed(&timings, answer)
}
