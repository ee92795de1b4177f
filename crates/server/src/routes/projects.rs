//! Projects.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    routing::{delete, get},
};
use luthier_app::{App, projects::CreateProject};
use luthier_types::ProjectId;
use serde_json::json;

use crate::{
    envelope::{Answer, data, page},
    extract::{Json, Path},
    listing::List,
    retried::Retried,
    views,
};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/projects", get(list).post(create))
        .route("/v3/projects/{id}", get(read).delete(remove))
        .route("/v2/projects/{qualified}", delete(remove_by_name))
}

async fn create(
    State(app): State<Arc<App>>,
    Retried(repeated): Retried,
    Json(request): Json<CreateProject>,
) -> Answer {
    let project = app.create_project(request, repeated).await?;
    Ok(data(views::project(&app, &project)))
}

async fn list(State(app): State<Arc<App>>, List(query): List) -> Answer {
    let listing = app.projects(&query).await?;
    let items = listing.items.iter().map(|p| views::project(&app, p));
    Ok(page(
        items.collect(),
        listing.total,
        query.limit.into(),
        query.offset,
    ))
}

async fn read(State(app): State<Arc<App>>, Path(id): Path<ProjectId>) -> Answer {
    let project = app.project(id).await?;
    Ok(data(views::project(&app, &project)))
}

async fn remove(State(app): State<Arc<App>>, Path(id): Path<ProjectId>) -> Answer {
    app.delete_project(id).await?;
    Ok(data(json!({})))
}

async fn remove_by_name(State(app): State<Arc<App>>, Path(qualified): Path<String>) -> Answer {
    app.delete_project_by_name(&qualified).await?;
    Ok(data(json!({})))
}
