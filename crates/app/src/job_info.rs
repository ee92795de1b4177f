//! What clients are shown of a job beside its state.

use luthier_store::models::Model;
use serde_json::{Value, json};

/// The fields that every job on a model has; `resource` is `DATASET`, `EVENT`, `MODEL` or `DATA`.
pub(crate) fn of_model(model: &Model, resource: &str, name: &str) -> Value {
    json!({
        "resource_type": resource,
        "resource_name": name,
        "project_name": model.project_name,
        "project": { "id": model.project_id, "name": model.project_name },
        "model": { "id": model.id, "name": model.name, "version": model.version },
        "model_name": model.name,
        "model_uuid": model.id,
    })
}
