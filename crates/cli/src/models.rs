//! Finding the model that `PROJECT/MODEL[:VERSION]` names.

use std::str::FromStr;

use luthier_types::{Code, Error, Result};
use serde_json::{Value, json};

use crate::client::{Client, text};

/// A model as a person names it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModelName {
    /// Project.
    pub(crate) project: String,
    /// Model.
    pub(crate) model: String,
    /// Version; the oldest when absent.
    pub(crate) version: Option<String>,
}

impl FromStr for ModelName {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let wrong = || format!("`{name}` is not PROJECT/MODEL or PROJECT/MODEL:VERSION");
        let (project, rest) = name.split_once('/').ok_or_else(wrong)?;
        let (model, version) = match rest.split_once(':') {
            Some((model, version)) => (model, Some(version.to_owned())),
            None => (rest, None),
        };
        if project.is_empty() || model.is_empty() || version.as_deref() == Some("") {
            return Err(wrong());
        }
        Ok(Self {
            project: project.to_owned(),
            model: model.to_owned(),
            version,
        })
    }
}

fn equal(field: &str, value: &str) -> Value {
    json!({"field": field, "operator": "equal", "value": value})
}

async fn first(client: &Client, path: &str, rules: Vec<Value>) -> Result<Option<Value>> {
    let filter = json!({"condition": "AND", "rules": rules}).to_string();
    let mut page = client
        .get_with(path, &[("filter", &filter), ("ordering", "created_at")])
        .await?;
    Ok(page["items"].get_mut(0).map(Value::take))
}

/// The project's id, if there is one of that name.
pub(crate) async fn find_project(client: &Client, name: &str) -> Result<Option<String>> {
    let project = first(client, "/v3/projects", vec![equal("name", name)]).await?;
    project.map(|project| text(&project, "id")).transpose()
}

/// The whole model, if there is one of that name.
pub(crate) async fn find_model(client: &Client, name: &ModelName) -> Result<Option<Value>> {
    let Some(project) = find_project(client, &name.project).await? else {
        return Ok(None);
    };
    let mut rules = vec![equal("name", &name.model), equal("project_id", &project)];
    rules.extend(
        name.version
            .as_deref()
            .map(|version| equal("version", version)),
    );
    match first(client, "/v3/models", rules).await? {
        Some(item) => client
            .get(&format!("/v3/models/{}", text(&item, "id")?))
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// The whole model.
///
/// # Errors
/// `NotFound` when there is none.
pub(crate) async fn model(client: &Client, name: &ModelName) -> Result<Value> {
    find_model(client, name).await?.ok_or_else(|| {
        Error::new(
            Code::NotFound,
            format!("there is no model {}/{}", name.project, name.model),
        )
        .hint("`luthier ps` lists the deployed models.")
    })
}

/// Ids of the model's datasets by name.
pub(crate) async fn dataset(client: &Client, model_id: &str, name: &str) -> Result<String> {
    let rules = vec![equal("name", name), equal("model_id", model_id)];
    match first(client, "/v3/environments", rules).await? {
        Some(dataset) => text(&dataset, "id"),
        None => Err(
            Error::new(Code::NotFound, format!("the model has no dataset `{name}`"))
                .hint("Publish it first, or leave --reference out to use the model's own."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_project_a_model_and_perhaps_a_version() {
        let name: ModelName = "bank/churn:v2".parse().unwrap();
        assert_eq!(
            (
                name.project.as_str(),
                name.model.as_str(),
                name.version.as_deref()
            ),
            ("bank", "churn", Some("v2"))
        );
        assert_eq!("bank/churn".parse::<ModelName>().unwrap().version, None);
        for wrong in ["churn", "/churn", "bank/", "bank/churn:"] {
            assert!(wrong.parse::<ModelName>().is_err(), "{wrong}");
        }
    }
}
