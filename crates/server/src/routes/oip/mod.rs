//! The Open Inference Protocol, version 2, over HTTP: what Triton, KServe and others speak.
//!
//! A model is called `project.model`; its versions are the model's own. Health is open to all, like
//! `/healthz`, since those who ask for it have no token; everything else needs it.

mod errors;
mod infer;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use luthier_app::{
    App,
    lookup::not_found,
    names::{ModelName, Version},
};
use luthier_data::tensor::{Datatype, shape_of_column};
use luthier_types::{Column, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    envelope::{Answer, bare},
    extract::Path,
};
pub(crate) use errors::in_protocol;

pub(crate) fn routes() -> Router<Arc<App>> {
    let mut router = Router::new().route("/v2", get(server));
    for model in ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"] {
        router = router
            .route(model, get(metadata))
            .route(&format!("{model}/ready"), get(model_ready))
            .route(&format!("{model}/infer"), post(infer::infer));
    }
    router
}

/// The routes that need no token.
pub(crate) fn open_routes() -> Router<Arc<App>> {
    Router::new()
        .route(
            "/v2/health/live",
            get(|| async { bare(&json!({ "live": true })) }),
        )
        .route("/v2/health/ready", get(ready))
}

/// Which model a path names.
#[derive(Deserialize)]
struct Named {
    name: String,
    version: Option<String>,
}

impl Named {
    /// The newest version, unless one is named.
    fn model(self) -> Result<ModelName> {
        // Names of projects and models have no dots.
        let (project, model) = self.name.split_once('.').ok_or_else(|| {
            not_found("Model")
                .hint("A model is called `project.model` here, for example bank.churn.")
        })?;
        Ok(ModelName {
            project: project.to_owned(),
            model: model.to_owned(),
            version: self.version.map_or(Version::Newest, Version::Named),
        })
    }
}

async fn server() -> Response {
    bare(&json!({
        "name": "luthier",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data"],
    }))
}

/// Whether the server can do its work: that it answers at all says that replicas of a former run
/// were taken over.
async fn ready(State(app): State<Arc<App>>) -> Answer {
    app.check_ready().await?;
    Ok(bare(&json!({ "ready": true })))
}

async fn model_ready(State(app): State<Arc<App>>, Path(named): Path<Named>) -> Answer {
    let name = named.name.clone();
    app.check_serving(&named.model()?).await?;
    Ok(bare(&json!({ "name": name, "ready": true })))
}

async fn metadata(State(app): State<Arc<App>>, Path(named): Path<Named>) -> Answer {
    let name = named.name.clone();
    let wanted = named.model()?;
    let model = app.resolve(&wanted).await?;
    let versions = app.versions(&wanted).await?;
    let versions: Vec<String> = versions.into_iter().map(|m| m.version).collect();
    let columns = |names: &[String]| -> Vec<Value> {
        let columns = names.iter().filter_map(|name| model.schema.column(name));
        columns.map(tensor).collect()
    };
    Ok(bare(&json!({
        "name": name,
        "versions": versions,
        "platform": "luthier",
        "inputs": columns(&model.spec.inputs),
        "outputs": columns(&model.spec.outputs),
    }))
    .into_response())
}

/// A column as metadata describes a tensor.
fn tensor(column: &Column) -> Value {
    json!({
        "name": column.name,
        "datatype": Datatype::of_column(column.data_type).name(),
        "shape": shape_of_column(column),
    })
}
