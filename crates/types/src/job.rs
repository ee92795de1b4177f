//! Words of jobs and of data environments, as the stock client spells them.

use serde::{Deserialize, Serialize};

/// The state of a job as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Waiting for a worker.
    Pending,
    /// A worker has it.
    Started,
    /// Finished well.
    Success,
    /// Finished with an error.
    Failure,
    /// A step failed and will be tried again.
    Retry,
    /// Cancelled.
    Revoked,
}

impl JobStatus {
    /// Whether the job will never change again.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Revoked)
    }
}

/// Which data an operation speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EnvType {
    /// Events of the running model.
    #[serde(alias = "production")]
    Production,
    /// A named dataset. Users copy the hyphenated spelling from published examples.
    #[serde(
        alias = "PRE-PRODUCTION",
        alias = "pre_production",
        alias = "pre-production"
    )]
    PreProduction,
}
