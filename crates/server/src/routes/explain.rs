//! Explain.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::post};
use luthier_app::{App, explain::ExplainRequest};
use luthier_gateway::{Part, Timings};

use crate::{
    envelope::{Answer, data, timed},
    extract::Json,
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v3/explain", post(explain))
}

async fn explain(State(app): State<Arc<App>>, Json(request): Json<ExplainRequest>) -> Response {
    let timings = Arc::new(Timings::default());
    let answer: Answer = async {
        let explained = app.explain(request, &timings).await?;
        let _encoding = timings.start(Part::Encode);
        Ok(data(explained))
    }
    .await;
    timed(&timings, answer)
}
