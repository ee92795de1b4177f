//! Models and the model factory.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{get, post},
};
use luthier_app::{
    App,
    models::{CreateModel, Infer},
    names::{ModelName, Version},
};
use luthier_types::ModelId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    envelope::{Answer, accepted, data, page},
    extract::{Json, Path, Query},
    listing::List,
    retried::Retried,
    views,
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/models", get(list).post(create))
        .route("/v3/models/{id}", get(read).patch(update).delete(remove))
        .route("/v3/model-factory", post(infer))
        .route("/v1/models/resolve", get(resolve))
}

async fn create(
    State(app): State<Arc<App>>,
    Retried(repeated): Retried,
    Json(request): Json<CreateModel>,
) -> Answer {
    let model = app.create_model(request, repeated).await?;
    Ok(data(views::model(&app, &model)))
}

async fn list(State(app): State<Arc<App>>, List(query): List) -> Answer {
    let listing = app.models(&query).await?;
    let items = listing.items.iter().map(|m| views::model_item(&app, m));
    Ok(page(
        items.collect(),
        listing.total,
        query.limit.into(),
        query.offset,
    ))
}

async fn read(State(app): State<Arc<App>>, Path(id): Path<ModelId>) -> Answer {
    let model = app.model(id).await?;
    Ok(data(views::model(&app, &model)))
}

async fn update(
    State(app): State<Arc<App>>,
    Path(id): Path<ModelId>,
    Json(changes): Json<Map<String, Value>>,
) -> Answer {
    let model = app.update_model(id, changes).await?;
    Ok(data(views::model(&app, &model)))
}

async fn remove(State(app): State<Arc<App>>, Path(id): Path<ModelId>) -> Answer {
    let job = app.delete_model(id).await?;
    Ok(accepted(json!(job)))
}

async fn infer(State(app): State<Arc<App>>, Json(request): Json<Infer>) -> Answer {
    let (schema, spec) = app.infer_model(request).await?;
    Ok(data(json!({ "schema": schema, "spec": spec })))
}

#[derive(Deserialize)]
struct Names {
    project: String,
    model: String,
    version: Option<String>,
}

async fn resolve(State(app): State<Arc<App>>, Query(names): Query<Names>) -> Answer {
    let name = ModelName {
        project: names.project,
        model: names.model,
        version: names.version.map_or(Version::Oldest, Version::Named),
    };
    let model = app.resolve(&name).await?;
    Ok(data(views::model(&app, &model)))
}
