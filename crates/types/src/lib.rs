//! Typed ids, domain words, resource units and the transport-free [`Error`] that every other crate
//! speaks. No IO, no async, no clock.

#![forbid(unsafe_code)]

mod batching;
mod deployment;
mod digest;
mod error;
mod evidence;
mod ids;
mod job;
mod lack;
pub mod layout;
mod model;
mod names;
mod requirements;
mod rollout;
pub mod runner;
mod runner_address;
mod scaling;
pub mod sizing;
mod units;

/// The target of spans that are only there for traces; off unless traces are exported.
pub const TRACES: &str = "luthier::traces";

pub use batching::{Batching, BatchingVerdict};
pub use deployment::{ArtifactStatus, ArtifactType, DeploymentParams, DeploymentType, Phase};
pub use digest::{Digest, EnvId, ParseDigestError};
pub use error::{Code, Error, Fault, Result};
pub use evidence::{Evidence, Moment, signal_name};
pub use ids::{
    BaselineId, DatasetId, DeploymentId, FileId, JobId, ModelId, OrgId, OutsideId, ProjectId,
    ReplicaId, RevisionId, UserId,
};
pub use job::{EnvType, JobStatus};
pub use lack::Lack;
pub use model::{Column, DataType, InputType, ModelSchema, ModelSpec, Task};
pub use names::check_name;
pub use requirements::{Include, RequirementFiles, include, logical_lines};
pub use rollout::{AttributionChange, Cause, Comparison, LatencyChange, Limits, OutputChange};
pub use runner_address::RunnerAddress;
pub use scaling::Scaling;
pub use units::{Mebibytes, Millicpu, Resources};
