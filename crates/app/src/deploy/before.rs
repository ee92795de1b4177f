//! What stood before a deployment, so that a failed one can be undone.

use jiff::Timestamp;
use luthier_store::{
    artifacts::{self, Artifact},
    deployments::{self, Deployment},
    models,
};
use luthier_types::{
    ArtifactStatus, ArtifactType, DeploymentType, Mebibytes, Millicpu, ModelId, Resources, Result,
    RevisionId, Scaling,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::SqliteConnection;

/// What a deployment was meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) artifact_type: ArtifactType,
    pub(crate) deployment_type: DeploymentType,
    pub(crate) active: bool,
    pub(crate) replicas: u32,
    pub(crate) cpu: Millicpu,
    pub(crate) memory: Mebibytes,
    #[serde(default)]
    pub(crate) scaling: Scaling,
    pub(crate) wanted_revision: Option<RevisionId>,
}

/// A model's deployment and artifact as a job found them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Before {
    pub(crate) intent: Option<Intent>,
    pub(crate) artifact: Option<Artifact>,
    pub(crate) artifact_status: ArtifactStatus,
    pub(crate) artifact_files: Vec<Value>,
}

// === impl Intent ===

impl Intent {
    /// The intent of a deployment.
    pub(crate) fn new(d: &Deployment) -> Self {
        Self {
            artifact_type: d.artifact_type,
            deployment_type: d.deployment_type,
            active: d.active,
            replicas: d.replicas,
            cpu: d.resources.cpu,
            memory: d.resources.memory,
            scaling: d.scaling,
            wanted_revision: d.wanted_revision,
        }
    }

    /// The intent of a model's deployment, if it has one.
    pub(crate) async fn of(db: &mut SqliteConnection, model: ModelId) -> Result<Option<Self>> {
        let deployment = deployments::of_model(db, model).await?;
        Ok(deployment.as_ref().map(Self::new))
    }

    /// What each replica may use.
    pub(crate) fn resources(&self) -> Resources {
        Resources {
            cpu: self.cpu,
            memory: self.memory,
        }
    }

    /// Makes this the intent of `d` and stores it, unless it is already.
    pub(crate) async fn store(
        &self,
        db: &mut SqliteConnection,
        mut d: Deployment,
        at: Timestamp,
    ) -> Result<()> {
        if Self::new(&d) == *self {
            return Ok(());
        }
        d.artifact_type = self.artifact_type;
        d.deployment_type = self.deployment_type;
        d.active = self.active;
        d.replicas = self.replicas;
        d.resources = self.resources();
        d.scaling = self.scaling;
        d.wanted_revision = self.wanted_revision;
        d.generation += 1;
        d.updated_at = at;
        deployments::update_intent(db, &d).await
    }
}

// === impl Before ===

impl Before {
    /// What stands now.
    pub(crate) async fn read(db: &mut SqliteConnection, model: ModelId) -> Result<Option<Self>> {
        let Some(card) = models::get(db, model).await? else {
            return Ok(None);
        };
        Ok(Some(Self {
            intent: Intent::of(db, model).await?,
            artifact: artifacts::of_model(db, model).await?,
            artifact_status: card.artifact_status,
            artifact_files: card.artifact_files,
        }))
    }

    /// Brings it back. Does nothing where nothing has changed, or when the model is gone.
    pub(crate) async fn restore(
        &self,
        db: &mut SqliteConnection,
        model: ModelId,
        at: Timestamp,
    ) -> Result<()> {
        match Self::read(db, model).await? {
            None => return Ok(()),
            Some(now) if now == *self => return Ok(()),
            Some(_) => {}
        }
        if let Some(d) = deployments::of_model(db, model).await? {
            match &self.intent {
                None => deployments::delete(db, d.id).await?,
                Some(intent) => intent.store(db, d, at).await?,
            }
        }
        artifacts::set(
            db,
            model,
            self.artifact.as_ref(),
            self.artifact_status,
            &self.artifact_files,
            at,
        )
        .await
    }
}
