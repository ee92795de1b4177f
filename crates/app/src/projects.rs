//! Projects: make, find, list, delete.

use jiff::Timestamp;
use luthier_store::{
    files, models,
    projects::{self, Project},
    query::{ListQuery, Listing},
};
use luthier_types::{Code, Error, ProjectId, Result, check_name};
use serde::Deserialize;

use crate::{
    App,
    audit::Change,
    lookup::{exists, not_found},
};

/// The body of a request for a new project.
#[derive(Clone, Debug, Deserialize)]
pub struct CreateProject {
    /// Its name.
    pub name: String,
}

impl App {
    /// Makes a project. `repeated` says that the client sends the request again because it saw no
    /// answer; then the project that is there is the one it made.
    ///
    /// # Errors
    /// `BadRequest` for the name; `Conflict`.
    pub async fn create_project(&self, request: CreateProject, repeated: bool) -> Result<Project> {
        check_name("project", &request.name)?;
        let now = Timestamp::now();
        let project = Project {
            id: ProjectId::new(),
            name: request.name,
            created_at: now,
            updated_at: now,
        };
        let mut db = self.deps.store.write().await?;
        if let Some(found) = projects::by_name(&mut db, &project.name).await? {
            return if repeated {
                Ok(found)
            } else {
                Err(exists("Project"))
            };
        }
        projects::insert(&mut db, &project).await?;
        let change = Change::new("project.create").target(project.id, &project.name);
        self.audit(&mut db, change).await?;
        self.commit(db).await?;
        Ok(project)
    }

    /// A project by id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn project(&self, id: ProjectId) -> Result<Project> {
        let mut db = self.deps.store.read().await?;
        projects::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("Project"))
    }

    /// A part of the list of projects.
    ///
    /// # Errors
    /// `BadRequest` for a filter or an ordering that does not fit.
    pub async fn projects(&self, query: &ListQuery) -> Result<Listing<Project>> {
        let mut db = self.deps.store.read().await?;
        projects::list(&mut db, query).await
    }

    /// Deletes a project with its models, their data and deployments.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_project(&self, id: ProjectId) -> Result<()> {
        let mut db = self.deps.store.write().await?;
        let all = ListQuery {
            limit: u32::MAX,
            ..ListQuery::equal([("project_id", id.to_string())])
        };
        let models = models::list(&mut db, &all).await?.items;
        let project = projects::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("Project"))?;
        for model in &models {
            files::delete_deployed(&mut db, model.id).await?;
        }
        projects::delete(&mut db, id).await?;
        let change = Change::new("project.delete").target(id, project.name);
        self.audit(&mut db, change).await?;
        self.commit(db).await?;
        for model in models {
            self.forget_model(model.id);
        }
        self.deps.wake_deployments.notify_one();
        // Not waited for: its replicas have to end first.
        self.upkeep.notify_one();
        Ok(())
    }

    /// The same by `organization:project`, as older clients name it.
    ///
    /// # Errors
    /// `BadRequest` when it is not of that form; `NotFound`.
    pub async fn delete_project_by_name(&self, qualified: &str) -> Result<()> {
        let (organization, name) = qualified.split_once(':').ok_or_else(|| {
            Error::new(
                Code::BadRequest,
                format!("`{qualified}` is not ORGANIZATION:PROJECT"),
            )
            .hint("Name the project after the organization and a colon.")
        })?;
        let mut db = self.deps.store.read().await?;
        let project = projects::by_name(&mut db, name)
            .await?
            .filter(|_| organization == self.deps.settings.organization)
            .ok_or_else(|| not_found("Project"))?;
        drop(db);
        self.delete_project(project.id).await
    }
}
