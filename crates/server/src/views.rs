//! Objects as the stock client reads them.

use jiff::Timestamp;
use luthier_app::App;
use luthier_store::{
    baselines::Baseline,
    datasets::{Dataset, Owner},
    files::File,
    models::Model,
    projects::Project,
};
use luthier_types::{Column, EnvType, Task};
use serde_json::{Map, Value, json};

/// A time as clients of every version parse it: `YYYY-MM-DDTHH:MM:SS.ffffff+00:00`.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

/// The organisation as other objects name it.
pub(crate) fn organization(app: &App) -> Value {
    json!({ "id": App::ORGANIZATION, "name": app.settings().organization })
}

/// The user as other objects name them.
pub(crate) fn user() -> Value {
    json!({ "id": App::ADMIN, "full_name": "Administrator", "email": "" })
}

/// A project.
pub(crate) fn project(app: &App, project: &Project) -> Value {
    json!({
        "id": project.id,
        "name": project.name,
        "organization": organization(app),
        "created_at": time(project.created_at),
        "updated_at": time(project.updated_at),
    })
}

/// A model as an item of a list.
pub(crate) fn model_item(app: &App, model: &Model) -> Value {
    json!({
        "id": model.id,
        "name": model.name,
        "version": model.version,
        "project": { "id": model.project_id, "name": model.project_name },
        "organization": organization(app),
        "input_type": model.input_type,
        "task": model.task,
        "description": model.description,
        "artifact_status": model.artifact_status,
        "is_binary_ranking_model": is_binary_ranking(model),
        "created_at": time(model.created_at),
        "updated_at": time(model.updated_at),
        "created_by": user(),
        "updated_by": user(),
    })
}

/// A model in full.
pub(crate) fn model(app: &App, model: &Model) -> Value {
    let mut view = model_item(app, model);
    let columns = |names: &[String]| -> Vec<&Column> {
        names
            .iter()
            .filter_map(|name| model.schema.column(name))
            .collect()
    };
    view["task_params"] = task_params(&model.task_params);
    view["schema"] = json!(model.schema);
    view["spec"] = json!(model.spec);
    view["event_id_col"] = json!(model.event_id_col);
    view["event_ts_col"] = json!(model.event_ts_col);
    view["event_ts_format"] = json!(model.event_ts_format);
    view["xai_params"] = json!(model.xai_params);
    view["artifact_files"] = json!(model.artifact_files);
    view["input_cols"] = json!(columns(&model.spec.inputs));
    view["output_cols"] = json!(columns(&model.spec.outputs));
    view["target_cols"] = json!(columns(&model.spec.targets));
    view["metadata_cols"] = json!(columns(&model.spec.metadata));
    view["decision_cols"] = json!(columns(&model.spec.decisions));
    view
}

/// The parameters of a task with every key the client knows.
fn task_params(given: &Value) -> Value {
    const KEYS: [&str; 6] = [
        "binary_classification_threshold",
        "target_class_order",
        "group_by",
        "top_k",
        "class_weights",
        "weighted_ref_histograms",
    ];
    let mut all: Map<String, Value> = KEYS
        .into_iter()
        .map(|key| (key.to_owned(), Value::Null))
        .collect();
    if let Value::Object(given) = given {
        all.extend(given.clone());
    }
    Value::Object(all)
}

/// Whether a ranking model's target has two values.
fn is_binary_ranking(model: &Model) -> bool {
    model.task == Task::Ranking
        && model
            .spec
            .targets
            .first()
            .and_then(|name| model.schema.column(name))
            .and_then(|column| column.categories.as_ref())
            .is_some_and(|categories| categories.len() == 2)
}

/// A file.
pub(crate) fn file(file: &File) -> Value {
    json!({
        "id": file.id,
        "filename": file.filename,
        "status": file.status,
        "type": file.kind,
        "created_at": time(file.created_at),
        "updated_at": time(file.updated_at),
        "created_by": user(),
        "updated_by": user(),
    })
}

/// A dataset.
pub(crate) fn environment(app: &App, dataset: &Dataset) -> Value {
    let mut view = owned(app, &dataset.owner);
    view["id"] = json!(dataset.id);
    view["name"] = json!(dataset.name);
    view["type"] = json!(EnvType::PreProduction);
    view["row_count"] = json!(dataset.row_count);
    view["created_at"] = json!(time(dataset.created_at));
    view["updated_at"] = json!(time(dataset.updated_at));
    view
}

/// A baseline.
pub(crate) fn baseline(app: &App, baseline: &Baseline) -> Value {
    let mut view = owned(app, &baseline.owner);
    view["id"] = json!(baseline.id);
    view["name"] = json!(baseline.name);
    view["type"] = json!(baseline.kind);
    view["start_time"] = json!(baseline.start_time);
    view["end_time"] = json!(baseline.end_time);
    view["offset_delta"] = json!(baseline.offset_delta);
    view["window_bin_size"] = json!(baseline.window_bin_size);
    view["row_count"] = json!(baseline.row_count);
    // Production has no dataset of its own; the model stands for it.
    view["environment"] = match (baseline.dataset_id, &baseline.dataset_name) {
        (Some(id), Some(name)) => json!({ "id": id, "name": name, "type": baseline.env_type }),
        _ => json!({
            "id": baseline.owner.model_id,
            "name": "production",
            "type": baseline.env_type,
        }),
    };
    view["created_at"] = json!(time(baseline.created_at));
    view["updated_at"] = json!(time(baseline.updated_at));
    view
}

/// What everything that belongs to a model says of it.
fn owned(app: &App, owner: &Owner) -> Value {
    json!({
        "model": { "id": owner.model_id, "name": owner.model_name, "version": owner.version },
        "project": { "id": owner.project_id, "name": owner.project_name },
        "organization": organization(app),
    })
}
