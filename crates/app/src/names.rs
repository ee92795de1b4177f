//! Models by name: `project/model` or `project/model:version`.

use std::str::FromStr;

use luthier_store::{
    models::{self, Model},
    projects,
    query::ListQuery,
};
use luthier_types::{ArtifactStatus, Code, Error, ModelId, Result};

use crate::{App, lookup::not_found};

/// A model as a caller names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRef {
    /// By its id.
    Id(ModelId),
    /// By its name.
    Name(ModelName),
}

/// The name of a model within its project.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelName {
    /// Name of the project.
    pub project: String,
    /// Name of the model.
    pub model: String,
    /// Which of its versions.
    pub version: Version,
}

/// Which version of a model is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The one called so.
    Named(String),
    /// The first that was made, which the stock client means when it names none.
    Oldest,
    /// The last that has an artifact, and so has proven itself; the last of all, while none has.
    Newest,
}

impl FromStr for ModelRef {
    type Err = Error;

    /// Reads an id, `project/model` or `project/model:version`.
    fn from_str(text: &str) -> Result<Self> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        match text.split_once('/') {
            Some((project, model)) => Ok(Self::Name(ModelName::new(project, model))),
            None => Err(Error::new(
                Code::BadRequest,
                format!("`{text}` is no model's id and no name"),
            )
            .hint("Give an id, PROJECT/MODEL or PROJECT/MODEL:VERSION.")),
        }
    }
}

impl ModelName {
    /// The model of a project that `model` or `model:version` names.
    pub fn new(project: &str, model: &str) -> Self {
        let (model, version) = match model.split_once(':') {
            Some((model, version)) => (model, Version::Named(version.to_owned())),
            None => (model, Version::Oldest),
        };
        Self {
            project: project.to_owned(),
            model: model.to_owned(),
            version,
        }
    }
}

impl App {
    /// The id of a model.
    ///
    /// # Errors
    /// `NotFound`, for a name; an id is not looked up.
    pub(crate) async fn model_id(&self, model: &ModelRef) -> Result<ModelId> {
        match model {
            ModelRef::Id(id) => Ok(*id),
            ModelRef::Name(name) => self.named(name).await,
        }
    }

    /// The model of this name.
    ///
    /// # Errors
    /// `NotFound` saying whether it is the project or the model.
    pub async fn resolve(&self, name: &ModelName) -> Result<Model> {
        let mut versions = self.versions(name).await?;
        let at = match &name.version {
            Version::Named(version) => versions.iter().position(|m| m.version == *version),
            Version::Oldest => (!versions.is_empty()).then_some(0),
            Version::Newest => versions
                .iter()
                .rposition(|m| m.artifact_status != ArtifactStatus::NoModel)
                .or(versions.len().checked_sub(1)),
        };
        at.map(|at| versions.swap_remove(at))
            .ok_or_else(|| not_found("Model"))
    }

    /// Every version of the model of this name, oldest first.
    ///
    /// # Errors
    /// `NotFound` for the project.
    pub async fn versions(&self, name: &ModelName) -> Result<Vec<Model>> {
        let mut db = self.deps.store.read().await?;
        let project = projects::by_name(&mut db, &name.project)
            .await?
            .ok_or_else(|| not_found("Project"))?;
        let query = ListQuery {
            limit: u32::MAX,
            ..ListQuery::equal([
                ("project_id", project.id.to_string()),
                ("name", name.model.clone()),
            ])
        };
        Ok(models::list(&mut db, &query).await?.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_an_id_or_a_name() {
        let id = ModelId::new();
        assert_eq!(
            id.to_string().parse::<ModelRef>().unwrap(),
            ModelRef::Id(id)
        );
        let name = |text: &str| match text.parse().unwrap() {
            ModelRef::Name(name) => (name.project, name.model, name.version),
            ModelRef::Id(id) => panic!("{text} was read as {id}"),
        };
        let (p, m) = ("bank".to_owned(), "churn".to_owned());
        assert_eq!(name("bank/churn"), (p.clone(), m.clone(), Version::Oldest));
        let v2 = Version::Named("v2".to_owned());
        assert_eq!(name("bank/churn:v2"), (p, m, v2));
        assert!("churn".parse::<ModelRef>().is_err());
    }
}
