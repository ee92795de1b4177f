//! Environments: datasets, as clients call them.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response, routing::get};
use luthier_app::App;
use luthier_store::{
    datasets::Dataset,
    query::{ListQuery, Listing},
};
use luthier_types::{DatasetId, ModelId};

use crate::{
    envelope::{Answer, data, page},
    extract::Path,
    listing::List,
    views,
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/environments", get(list))
        .route("/v3/environments/{id}", get(read))
        .route("/v3/models/{id}/environments", get(list_of_model))
}

async fn read(State(app): State<Arc<App>>, Path(id): Path<DatasetId>) -> Answer {
    let dataset = app.environment(id).await?;
    Ok(data(views::environment(&app, &dataset)))
}

async fn list(State(app): State<Arc<App>>, List(query): List) -> Answer {
    let listing = app.environments(None, query.clone()).await?;
    Ok(answer(&app, listing, &query))
}

async fn list_of_model(
    State(app): State<Arc<App>>,
    Path(id): Path<ModelId>,
    List(query): List,
) -> Answer {
    let listing = app.environments(Some(id), query.clone()).await?;
    Ok(answer(&app, listing, &query))
}

fn answer(app: &App, listing: Listing<Dataset>, query: &ListQuery) -> Response {
    let items = listing.items.iter().map(|d| views::environment(app, d));
    page(
        items.collect(),
        listing.total,
        query.limit.into(),
        query.offset,
    )
}
