//! What is left of replicas: the end of their logs, and counts.

use jiff::Timestamp;
use luthier_ports::{ContainerState, LogPart};
use luthier_store::{replica_counts, replica_logs::Past};
use luthier_types::{Error, ModelId, Result};

use super::{
    Core, Deps,
    spec::{self, Identity},
};

/// Most lines of a log that are looked at when it is kept.
const LINES: usize = 20_000;

/// Keeps the end of the log of a replica whose container has ended and is about to be removed. A log
/// that cannot be kept is no reason to keep the container.
pub(super) async fn keep_log(deps: &Deps, id: &Identity) {
    if let Err(error) = try_to_keep(deps, id).await {
        tracing::warn!(replica = %id.replica, error = %error.chain(), "the log of a replica is lost");
    }
}

async fn try_to_keep(deps: &Deps, id: &Identity) -> Result<()> {
    let container = spec::container_id(id.replica);
    let Some(status) = deps.runtime.status(&container).await? else {
        return Ok(());
    };
    let past = Past {
        replica: id.replica,
        revision: id.template.revision,
        exit: match status.state {
            ContainerState::Exited(exit) => Some(exit),
            ContainerState::Starting | ContainerState::Running { .. } => None,
        },
        ended_at: Timestamp::now(),
    };
    let lines = deps
        .runtime
        .read_log(&container, LogPart::last(LINES))
        .await?;
    let (logs, model) = (deps.logs.clone(), id.model);
    tokio::task::spawn_blocking(move || logs.keep(model, &past, &lines))
        .await
        .map_err(|e| Error::internal("keeping the log of a replica", e))?
}

impl Core {
    /// Counts what happened to a replica, at the next [`write_counts`](Self::write_counts).
    pub(super) fn count(&mut self, model: ModelId, what: impl Into<String>) {
        self.counts.push((model, what.into()));
    }

    /// Counts the failure of a replica.
    pub(super) fn count_failure(&mut self, model: ModelId, error: &Error) {
        self.count(model, error.code().to_string());
        if error.observed().out_of_memory == Some(true) {
            self.count(model, replica_counts::OUT_OF_MEMORY);
        }
    }

    /// Writes what was counted; what cannot be written waits for the next pass.
    pub(super) async fn write_counts(&mut self) -> Result<()> {
        if self.counts.is_empty() {
            return Ok(());
        }
        let mut db = self.deps.store.write().await?;
        for (model, what) in &self.counts {
            replica_counts::add(&mut db, *model, what).await?;
        }
        db.commit()
            .await
            .map_err(luthier_store::failed("counting what happened to replicas"))?;
        self.counts.clear();
        Ok(())
    }
}
