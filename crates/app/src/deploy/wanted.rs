//! What a deployment is to be, by what was asked for and what there is.

use luthier_types::{
    ArtifactType, Code, DeploymentParams, DeploymentType, Error, Resources, Result, Scaling,
};

use super::{DeployPayload, Intent};

/// The figures a deployment is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) artifact_type: ArtifactType,
    pub(crate) deployment_type: DeploymentType,
    pub(crate) active: bool,
    pub(crate) replicas: u32,
    pub(crate) resources: Resources,
    pub(crate) scaling: Scaling,
}

impl Wanted {
    /// What `params` make of what there is: absent figures stay, or take their defaults.
    pub(crate) fn new(params: &DeploymentParams, current: Option<&Intent>) -> Result<Self> {
        params.check()?;
        if params.artifact_type == Some(ArtifactType::Surrogate) {
            return Err(Error::new(
                Code::BadRequest,
                "artifact_type is SURROGATE, and an uploaded package is none",
            )
            .hint("Leave artifact_type out, or set it to PYTHON_PACKAGE."));
        }
        let deployment_type = params
            .deployment_type
            .or(current.map(|c| c.deployment_type))
            .unwrap_or(DeploymentType::BaseContainer);
        let defaults = current.map_or_else(Resources::default, |c| c.resources());
        let replicas = params.replicas.or(current.map(|c| c.replicas)).unwrap_or(1);
        let scaling = current.map(|c| c.scaling).unwrap_or_default();
        scaling.check(replicas)?;
        Ok(Self {
            artifact_type: ArtifactType::PythonPackage,
            deployment_type,
            active: deployment_type == DeploymentType::BaseContainer,
            replicas,
            scaling,
            resources: Resources {
                cpu: params.cpu.unwrap_or(defaults.cpu),
                memory: params.memory.unwrap_or(defaults.memory),
            },
        })
    }

    /// The most replicas that there can be.
    pub(crate) fn most(&self) -> u32 {
        self.scaling.most(self.replicas)
    }
}

// === impl DeployPayload ===

impl DeployPayload {
    /// The figures the deployment is to have.
    pub(crate) fn wanted(&self, current: Option<&Intent>) -> Result<Wanted> {
        let mut wanted = Wanted::new(&self.params, current)?;
        if let (true, Some(current)) = (self.keep_active, current) {
            wanted.active = current.active;
        }
        Ok(wanted)
    }
}
