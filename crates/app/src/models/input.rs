//! The body of a request for a new model, as leniently as clients send it.

use luthier_types::{Code, Error, InputType, ProjectId, Result, Task};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// The body of a request for a new model. What the user did not set comes as null.
#[derive(Clone, Debug, Deserialize)]
pub struct CreateModel {
    /// Its name.
    pub name: String,
    /// The project it goes into.
    pub project_id: ProjectId,
    /// Its columns.
    pub schema: Value,
    /// The part each column plays.
    pub spec: Value,
    /// What the inputs are.
    #[serde(default)]
    pub input_type: Option<InputType>,
    /// What it predicts.
    #[serde(default)]
    pub task: Option<Task>,
    /// Parameters of the task.
    #[serde(default)]
    pub task_params: Option<Value>,
    /// Free text.
    #[serde(default)]
    pub description: Option<String>,
    /// Column with the id of an event.
    #[serde(default)]
    pub event_id_col: Option<String>,
    /// Column with the time of an event.
    #[serde(default)]
    pub event_ts_col: Option<String>,
    /// Format of that time.
    #[serde(default)]
    pub event_ts_format: Option<String>,
    /// Parameters of explanations.
    #[serde(default)]
    pub xai_params: Option<Value>,
    /// Its version; absent for the first.
    #[serde(default)]
    pub version: Option<String>,
}

/// Reads the value of `field`; in an object a null key is an absent one.
///
/// # Errors
/// `BadRequest` naming the field and what does not fit.
pub(super) fn document<T: DeserializeOwned>(field: &str, mut value: Value) -> Result<T> {
    if let Value::Object(object) = &mut value {
        object.retain(|_, inner| !inner.is_null());
    }
    serde_json::from_value(value).map_err(|e| {
        Error::new(Code::BadRequest, format!("`{field}` does not fit: {e}"))
            .hint("Look up the form of this field.")
    })
}
