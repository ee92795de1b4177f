//! What a model must be like, and what the server fills in.

use std::collections::HashSet;

use luthier_data::{MAX_COLUMNS, bin_edges};
use luthier_types::{Code, DataType, Error, ModelSchema, ModelSpec, Result};
use serde_json::Value;

/// Longest version.
const MAX_VERSION: usize = 64;

/// Checks the name of a version.
pub(super) fn version(version: &str) -> Result<()> {
    let length = version.chars().count();
    if (1..=MAX_VERSION).contains(&length) {
        return Ok(());
    }
    Err(Error::new(
        Code::BadRequest,
        format!("the version has {length} characters"),
    )
    .hint(format!("Use 1 to {MAX_VERSION} characters.")))
}

/// Checks that parameters are objects or absent.
pub(super) fn objects(task: &Option<Value>, xai: &Option<Value>) -> Result<()> {
    for (name, value) in [("task_params", task), ("xai_params", xai)] {
        if value.as_ref().is_some_and(|v| !v.is_object()) {
            return Err(
                Error::new(Code::BadRequest, format!("`{name}` is not an object"))
                    .hint("Send an object or null."),
            );
        }
    }
    Ok(())
}

/// Checks schema and spec against each other, and fills in ids and bins.
pub(super) fn complete(schema: &mut ModelSchema, spec: &ModelSpec) -> Result<()> {
    check_columns(schema)?;
    check_spec(schema, spec)?;
    for column in &mut schema.columns {
        if column.id.is_none() {
            column.id = Some(column.name.to_lowercase());
        }
        let numeric = matches!(column.data_type, DataType::Float | DataType::Int);
        if let (true, None, Some(min), Some(max)) = (numeric, &column.bins, column.min, column.max)
        {
            column.bins = Some(bin_edges(min, max));
        }
    }
    Ok(())
}

fn check_columns(schema: &ModelSchema) -> Result<()> {
    let refuse = |cause: String, hint: &str| Err(Error::new(Code::BadRequest, cause).hint(hint));
    if schema.columns.len() > MAX_COLUMNS {
        return refuse(
            format!(
                "the schema has {} columns, more than {MAX_COLUMNS}",
                schema.columns.len()
            ),
            "Leave out columns the model does not need.",
        );
    }
    let mut seen = HashSet::new();
    for column in &schema.columns {
        let name = &column.name;
        if name.is_empty() {
            return refuse(
                "a column of the schema has an empty name".to_owned(),
                "Give every column a name.",
            );
        }
        if !seen.insert(name) {
            return refuse(
                format!("the schema has the column `{name}` twice"),
                "Give every column a name of its own.",
            );
        }
        if let (Some(min), Some(max)) = (column.min, column.max)
            && min > max
        {
            return refuse(
                format!("the column `{name}` has min {min} above max {max}"),
                "Exchange min and max.",
            );
        }
    }
    Ok(())
}

fn check_spec(schema: &ModelSchema, spec: &ModelSpec) -> Result<()> {
    let parts = [
        ("inputs", &spec.inputs),
        ("outputs", &spec.outputs),
        ("targets", &spec.targets),
        ("decisions", &spec.decisions),
        ("metadata", &spec.metadata),
    ];
    let known: HashSet<&str> = schema.columns.iter().map(|c| c.name.as_str()).collect();
    for (part, names) in parts {
        let mut seen = HashSet::new();
        for name in names {
            if !known.contains(name.as_str()) {
                return Err(Error::new(
                    Code::BadRequest,
                    format!("spec.{part} names `{name}`, which the schema does not have"),
                )
                .hint(format!(
                    "Add the column to the schema or take it out of spec.{part}."
                )));
            }
            if !seen.insert(name) {
                return Err(Error::new(
                    Code::BadRequest,
                    format!("spec.{part} names `{name}` twice"),
                )
                .hint("Name each column once."));
            }
        }
    }
    Ok(())
}
