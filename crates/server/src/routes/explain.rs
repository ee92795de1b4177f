//! Explain: one prediction, and the influence of the inputs over many.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::post};
use luthier_app::{
    App,
    explain::ExplainRequest,
    influence::{Influence, InfluenceRequest},
};
use luthier_gateway::{Part, Timings};
use luthier_types::Result;
use serde_json::Value;

use crate::{
    envelope::{Answer, data, timed},
    extract::Json,
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/explain", post(explain))
        .route("/v3/analytics/feature-impact", post(impact))
        .route("/v3/analytics/feature-importance", post(importance))
}

async fn impact(app: State<Arc<App>>, request: Json<InfluenceRequest>) -> Response {
    influence(Influence::Impact, app, request).await
}

async fn importance(app: State<Arc<App>>, request: Json<InfluenceRequest>) -> Response {
    influence(Influence::Importance, app, request).await
}

async fn influence(
    which: Influence,
    State(app): State<Arc<App>>,
    Json(request): Json<InfluenceRequest>,
) -> Response {
    answered(async |timings| app.influence(which, request, timings).await).await
}

async fn explain(State(app): State<Arc<App>>, Json(request): Json<ExplainRequest>) -> Response {
    answered(async |timings| app.explain(request, timings).await).await
}

/// What `work` gives, with where the time went.
async fn answered(work: impl AsyncFnOnce(&Arc<Timings>) -> Result<Value>) -> Response {
    let timings = Arc::new(Timings::default());
    let answer: Answer = async {
        let given = work(&timings).await?;
        let _encoding = timings.start(Part::Encode);
        Ok(data(given))
    }
    .await;
    timed(&timings, answer)
}
