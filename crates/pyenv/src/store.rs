//! The environments of this machine as a store: what there is, what is in each, and what may go.

use std::collections::BTreeSet;

use luthier_ports::{Collected, EnvInfo, LogSink};
use luthier_types::{EnvId, Result};

use crate::UvEnvs;

pub(crate) async fn list(_envs: &UvEnvs) -> Result<Vec<EnvInfo>> {
    Ok(vec![])
}

pub(crate) async fn sbom(_envs: &UvEnvs, _id: &EnvId) -> Result<Option<serde_json::Value>> {
    Ok(None)
}

pub(crate) async fn collect(
    _envs: &UvEnvs,
    _keep: &BTreeSet<EnvId>,
    _log: &LogSink,
) -> Result<Collected> {
    Ok(Collected::default())
}
