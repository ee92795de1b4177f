//! Whether requests of a revision may be predicted together.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was found when the revision was tried, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batching {
    /// What was found.
    pub verdict: BatchingVerdict,
    /// What it was found by, where that says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What was found. Only `Batched` lets requests be predicted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchingVerdict {
    /// Rows have the same answers alone, together and in another order.
    Batched,
    /// The package does not want it.
    Declined,
    /// A row's answer depends on the rows beside it.
    DependsOnNeighbours,
    /// The same rows have other answers when asked again.
    NotDeterministic,
    /// There were no two different rows to try it with.
    TooFewRows,
    /// Trying took too long.
    TooSlow,
    /// The model failed on rows that it had predicted before, in other company.
    Failed,
}

impl Batching {
    /// Whether requests may be predicted together.
    pub fn is_batched(&self) -> bool {
        self.verdict == BatchingVerdict::Batched
    }
}

impl From<BatchingVerdict> for Batching {
    fn from(verdict: BatchingVerdict) -> Self {
        Self {
            verdict,
            detail: None,
        }
    }
}

impl fmt::Display for BatchingVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Batched => "yes",
            Self::Declined => "no: declined",
            Self::DependsOnNeighbours => "no: depends on neighbours",
            Self::NotDeterministic => "no: not deterministic",
            Self::TooFewRows => "no: too few rows to try",
            Self::TooSlow => "no: too slow to try",
            Self::Failed => "no: failed when tried",
        })
    }
}
