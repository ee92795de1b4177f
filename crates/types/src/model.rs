//! A model's schema and spec: the columns it knows and the part each plays.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Code, Error};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// 64-bit floating point; missing is NaN.
    Float,
    /// 64-bit integer; a column with missing values is handed on as float.
    Int,
    /// Boolean.
    Bool,
    /// Text.
    Str,
    /// Text from a closed list.
    Category,
    /// A point in time.
    Timestamp,
    /// A fixed number of floats.
    Vector,
}

/// What the inputs of a model are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// A table of columns.
    #[default]
    Structured,
    /// Text.
    Text,
    /// Text and columns.
    Mixed,
}

/// What the model predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One probability.
    BinaryClassification,
    /// One probability per class.
    MulticlassClassification,
    /// One number.
    Regression,
    /// A score within a group.
    Ranking,
    /// A large language model: stored only.
    Llm,
    /// Not said.
    #[default]
    NotSet,
}

/// One column. Unset keys are sent and stored as nulls, as the client does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Made by the server when the client sends none.
    #[serde(default)]
    pub id: Option<String>,
    /// Unique within the schema.
    pub name: String,
    /// Type of the values.
    pub data_type: DataType,
    /// Smallest value (numeric columns).
    #[serde(default)]
    pub min: Option<f64>,
    /// Largest value (numeric columns).
    #[serde(default)]
    pub max: Option<f64>,
    /// The closed list of a category column; may mix types.
    #[serde(default)]
    pub categories: Option<Vec<Value>>,
    /// Edges of histogram bins (numeric columns).
    #[serde(default)]
    pub bins: Option<Vec<f64>>,
    /// Replaces NaN with a value of this column's type.
    #[serde(default)]
    pub replace_with_nulls: Option<Value>,
    /// Dimensions (vector columns).
    #[serde(default)]
    pub n_dimensions: Option<u32>,
}

/// The columns of a model, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSchema {
    /// Always 1.
    #[serde(default = "one")]
    pub schema_version: u32,
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// The part each column plays. Values are column names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Always 1.
    #[serde(default = "one")]
    pub schema_version: u32,
    /// What the model is given, in this order.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// What the model returns.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// The truth.
    #[serde(default)]
    pub targets: Vec<String>,
    /// What was decided on the prediction.
    #[serde(default)]
    pub decisions: Vec<String>,
    /// Anything else that is kept.
    #[serde(default)]
    pub metadata: Vec<String>,
    /// Kept and echoed; only monitoring reads them.
    #[serde(default)]
    pub custom_features: Vec<Value>,
}

const fn one() -> u32 {
    1
}

impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            schema_version: 1,
            inputs: vec![],
            outputs: vec![],
            targets: vec![],
            decisions: vec![],
            metadata: vec![],
            custom_features: vec![],
        }
    }
}

impl ModelSchema {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The columns of the model's inputs, in the order of the spec.
    ///
    /// # Errors
    /// [`Code::BadRequest`] naming an input that the schema does not have.
    pub fn inputs<'a>(&'a self, spec: &ModelSpec) -> Result<Vec<&'a Column>, Error> {
        spec.inputs
            .iter()
            .map(|name| {
                self.column(name).ok_or_else(|| {
                    Error::new(
                        Code::BadRequest,
                        format!("the spec names input `{name}`, which the schema does not have"),
                    )
                    .hint("Add the column to the schema or take it out of spec.inputs.")
                })
            })
            .collect()
    }
}
