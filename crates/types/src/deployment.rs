//! Words of deployments, as the stock client spells them.

use serde::{Deserialize, Serialize};

use crate::{Error, Mebibytes, Millicpu, Resources, units::check_range};

/// What kind of model a deployment runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ArtifactType {
    /// A package uploaded by a user.
    PythonPackage,
    /// A model made by the server.
    Surrogate,
}

/// Who starts the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeploymentType {
    /// The server does.
    BaseContainer,
    /// The artifact is stored; containers start when the deployment is made active.
    Manual,
}

/// What a model has by way of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactStatus {
    /// Nothing yet.
    NoModel,
    /// A surrogate made by the server.
    Surrogate,
    /// A package uploaded by a user.
    UserUploaded,
}

/// Where a deployment stands for its latest generation, written by the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Replicas of the wanted revision are starting or being validated.
    Starting,
    /// The wanted number of replicas of the wanted revision serve.
    Ready,
    /// The wanted revision did not prove itself; `failure` says why.
    Failed,
    /// Not active: no replicas run.
    Stopped,
    /// Active, but no replica runs, since nobody asked for some time. The next request brings them
    /// back.
    Idle,
}

/// What a deploy call may set; absent fields take their defaults or stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentParams {
    /// Kind of artifact.
    pub artifact_type: Option<ArtifactType>,
    /// Who starts containers.
    pub deployment_type: Option<DeploymentType>,
    /// Name of a catalogue image.
    pub image_uri: Option<String>,
    /// Number of replicas.
    pub replicas: Option<u32>,
    /// CPU reservation of each replica, in millicpu.
    pub cpu: Option<Millicpu>,
    /// Memory limit of each replica, in MiB.
    pub memory: Option<Mebibytes>,
}

impl DeploymentParams {
    /// Allowed numbers of replicas.
    pub const REPLICAS_RANGE: std::ops::RangeInclusive<u32> = 1..=10;

    /// Checks every figure that is present against its range.
    ///
    /// # Errors
    /// [`crate::Code::BadRequest`] for the first figure out of range.
    pub fn check(&self) -> Result<(), Error> {
        let defaults = Resources::default();
        Resources {
            cpu: self.cpu.unwrap_or(defaults.cpu),
            memory: self.memory.unwrap_or(defaults.memory),
        }
        .check()?;
        match self.replicas {
            Some(n) => check_range("replicas", n, &Self::REPLICAS_RANGE, "replicas"),
            None => Ok(()),
        }
    }
}
