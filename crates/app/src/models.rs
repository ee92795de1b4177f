//! Models: make, find, list, change, delete, and the model factory.

mod delete;
mod input;
mod validate;

use jiff::Timestamp;
use luthier_data::{InferOptions, infer_schema};
use luthier_store::{
    models::{self, Model},
    projects,
    query::{ListQuery, Listing},
};
use luthier_types::{
    ArtifactStatus, Code, Error, FileId, ModelId, ModelSchema, ModelSpec, Result, check_name,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    App,
    audit::Change,
    lookup::{exists, not_found},
};

pub use delete::DeleteModel;
pub use input::CreateModel;

/// The version of a model whose maker names none.
const FIRST_VERSION: &str = "v1";

/// The body of a request to infer a schema.
#[derive(Clone, Debug, Deserialize)]
pub struct Infer {
    /// The uploaded data.
    pub file_id: FileId,
    /// Most different values of a category.
    #[serde(default)]
    pub max_cardinality: Option<u64>,
    /// Rows to look at.
    #[serde(default)]
    pub sample_size: Option<u64>,
    /// Echoed, when given.
    #[serde(default)]
    pub spec: Option<Value>,
}

impl App {
    /// Makes a model version. `repeated` says that the client sends the request again because it
    /// saw no answer; then an equal model that is there is the one it made.
    ///
    /// # Errors
    /// `BadRequest` for names, schema and spec; `NotFound` for the project; `Conflict`.
    pub async fn create_model(&self, request: CreateModel, repeated: bool) -> Result<Model> {
        check_name("model", &request.name)?;
        let version = request.version.unwrap_or_else(|| FIRST_VERSION.to_owned());
        validate::version(&version)?;
        let mut schema: ModelSchema = input::document("schema", request.schema)?;
        let spec: ModelSpec = input::document("spec", request.spec)?;
        validate::complete(&mut schema, &spec)?;
        validate::objects(&request.task_params, &request.xai_params)?;

        let mut db = self.deps.store.write().await?;
        let project = projects::get(&mut db, request.project_id)
            .await?
            .ok_or_else(|| not_found("Project"))?;
        let now = Timestamp::now();
        let model = Model {
            id: ModelId::new(),
            project_id: project.id,
            project_name: project.name,
            name: request.name,
            version,
            input_type: request.input_type.unwrap_or_default(),
            task: request.task.unwrap_or_default(),
            task_params: request.task_params.unwrap_or_else(|| json!({})),
            schema,
            spec,
            description: request.description,
            event_id_col: request.event_id_col,
            event_ts_col: request.event_ts_col,
            event_ts_format: request.event_ts_format,
            xai_params: request.xai_params,
            artifact_status: ArtifactStatus::NoModel,
            artifact_files: vec![],
            created_at: now,
            updated_at: now,
        };
        let same = ListQuery::equal([
            ("project_id", model.project_id.to_string()),
            ("name", model.name.clone()),
            ("version", model.version.clone()),
        ]);
        if let Some(found) = models::list(&mut db, &same).await?.items.pop() {
            let made_by_this = repeated && found.schema == model.schema && found.spec == model.spec;
            return if made_by_this {
                Ok(found)
            } else {
                Err(exists("Model"))
            };
        }
        models::insert(&mut db, &model).await?;
        self.audit(&mut db, of_model("model.create", &model))
            .await?;
        self.commit(db).await?;
        self.forget_model(model.id);
        Ok(model)
    }

    /// A model by id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn model(&self, id: ModelId) -> Result<Model> {
        let mut db = self.deps.store.read().await?;
        models::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("Model"))
    }

    /// A part of the list of models.
    ///
    /// # Errors
    /// `BadRequest` for a filter or an ordering that does not fit.
    pub async fn models(&self, query: &ListQuery) -> Result<Listing<Model>> {
        let mut db = self.deps.store.read().await?;
        models::list(&mut db, query).await
    }

    /// Changes the fields of a model whose keys are there; a null is a value.
    ///
    /// # Errors
    /// `BadRequest` for a field that cannot be changed or a value that does not fit; `NotFound`;
    /// `Conflict` for a version that is taken.
    pub async fn update_model(&self, id: ModelId, changes: Map<String, Value>) -> Result<Model> {
        let mut db = self.deps.store.write().await?;
        let mut model = models::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let before = model.clone();
        for (key, value) in changes {
            change(&mut model, &key, value)?;
        }
        validate::complete(&mut model.schema, &model.spec)?;
        model.updated_at = Timestamp::now();
        models::update(&mut db, &model)
            .await
            .map_err(|e| match e.code() {
                Code::Conflict => exists("Model"),
                _ => e,
            })?;
        let entry = of_model("model.update", &model).fields(&shown(&before)?, &shown(&model)?);
        self.audit(&mut db, entry).await?;
        self.commit(db).await?;
        self.forget_model(id);
        Ok(model)
    }

    /// A schema from an uploaded data file.
    ///
    /// # Errors
    /// `NotFound` for the file; `BadRequest` when it is not a table.
    pub async fn infer_model(&self, request: Infer) -> Result<(ModelSchema, ModelSpec)> {
        let spec: Option<ModelSpec> = request
            .spec
            .map(|spec| input::document("spec", spec))
            .transpose()?;
        let defaults = InferOptions::default();
        let size = |asked: Option<u64>, default: usize| {
            asked.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX))
        };
        let options = InferOptions {
            max_cardinality: size(request.max_cardinality, defaults.max_cardinality),
            sample_size: size(request.sample_size, defaults.sample_size),
        };
        let digest = self.whole_file(request.file_id).await?;
        let data = self.spool(&digest).await?;
        crate::spool::heavy(move || infer_schema(data.path(), options, spec.as_ref())).await
    }
}

/// An entry of the audit log about a model.
pub(crate) fn of_model(action: &str, model: &Model) -> Change {
    let name = format!("{}/{}:{}", model.project_name, model.name, model.version);
    Change::new(action).target(model.id, name).model(model.id)
}

/// What can be changed of a model, as the audit log shows it.
fn shown(model: &Model) -> Result<Value> {
    let document = |value: serde_json::Result<Value>| {
        value.map_err(|e| Error::internal("writing the audit log", e))
    };
    Ok(json!({
        "version": model.version,
        "schema": document(serde_json::to_value(&model.schema))?,
        "spec": document(serde_json::to_value(&model.spec))?,
        "description": model.description,
        "event_id_col": model.event_id_col,
        "event_ts_col": model.event_ts_col,
        "event_ts_format": model.event_ts_format,
        "xai_params": model.xai_params,
    }))
}

/// Sets one field of a model.
fn change(model: &mut Model, key: &str, value: Value) -> Result<()> {
    match key {
        "version" => {
            model.version = input::document("version", value)?;
            validate::version(&model.version)?;
        }
        "schema" => model.schema = input::document("schema", value)?,
        "spec" => model.spec = input::document("spec", value)?,
        "description" => model.description = input::document("description", value)?,
        "event_id_col" => model.event_id_col = input::document("event_id_col", value)?,
        "event_ts_col" => model.event_ts_col = input::document("event_ts_col", value)?,
        "event_ts_format" => model.event_ts_format = input::document("event_ts_format", value)?,
        "xai_params" => {
            model.xai_params = Some(value).filter(|v| !v.is_null());
            validate::objects(&None, &model.xai_params)?;
        }
        _ => {
            return Err(Error::new(
                Code::BadRequest,
                format!("`{key}` of a model cannot be changed"),
            )
            .hint(
                "What can be: version, schema, spec, description, event_id_col, event_ts_col, \
                 event_ts_format, xai_params.",
            ));
        }
    }
    Ok(())
}
