//! What replicas of a model are made of; for `luthier export` and `luthier push`.

use std::sync::Arc;

use axum::{Router, extract::State, routing::get};
use luthier_app::App;
use luthier_types::{ModelId, RevisionId};
use serde::Deserialize;

use crate::{
    envelope::{Answer, data},
    extract::{Path, Query},
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/models/{id}/revision", get(read))
}

#[derive(Deserialize)]
struct Which {
    id: Option<RevisionId>,
}

async fn read(
    State(app): State<Arc<App>>,
    Path(model): Path<ModelId>,
    Query(which): Query<Which>,
) -> Answer {
    Ok(data(app.revision(model, which.id).await?))
}
