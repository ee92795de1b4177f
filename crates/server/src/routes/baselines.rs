//! Baselines.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::get};
use luthier_app::{App, baselines::CreateBaseline};
use luthier_store::{
    baselines::Baseline,
    query::{ListQuery, Listing},
};
use luthier_types::{BaselineId, ModelId};
use serde_json::json;

use crate::{
    envelope::{Answer, data, page},
    extract::{Json, Path},
    listing::List,
    views,
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/baselines", get(list).post(create))
        .route("/v3/baselines/{id}", get(read).delete(remove))
        .route("/v3/models/{id}/baselines", get(list_of_model))
}

async fn create(State(app): State<Arc<App>>, Json(request): Json<CreateBaseline>) -> Answer {
    let baseline = app.create_baseline(request).await?;
    Ok(data(views::baseline(&app, &baseline)))
}

async fn read(State(app): State<Arc<App>>, Path(id): Path<BaselineId>) -> Answer {
    let baseline = app.baseline(id).await?;
    Ok(data(views::baseline(&app, &baseline)))
}

async fn remove(State(app): State<Arc<App>>, Path(id): Path<BaselineId>) -> Answer {
    app.delete_baseline(id).await?;
    Ok(data(json!({})))
}

async fn list(State(app): State<Arc<App>>, List(query): List) -> Answer {
    let listing = app.baselines(None, query.clone()).await?;
    Ok(answer(&app, listing, &query))
}

async fn list_of_model(
    State(app): State<Arc<App>>,
    Path(id): Path<ModelId>,
    List(query): List,
) -> Answer {
    let listing = app.baselines(Some(id), query.clone()).await?;
    Ok(answer(&app, listing, &query))
}

fn answer(app: &App, listing: Listing<Baseline>, query: &ListQuery) -> Response {
    let items = listing.items.iter().map(|b| views::baseline(app, b));
    page(
        items.collect(),
        listing.total,
        query.limit.into(),
        query.offset,
    )
}
