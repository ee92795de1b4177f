//! Whether a replica has ended, and what is known of its end.

use std::time::Instant;

use luthier_gateway::client;
use luthier_ports::{ContainerState, ContainerStatus, Exit};
use luthier_types::{Error, Mebibytes, Moment, Resources, Result};
use tokio::time::{Duration, sleep};

use super::{
    failure::{self, Facts},
    replica::Life,
    spec,
};

/// Lines of the log that are searched for a reason; fewer are kept.
const LOG_LINES: usize = 300;

impl Life {
    /// Its status, if known; an error when it has ended. A runtime that cannot tell is no sign of
    /// that.
    pub(super) async fn check(&self, moment: Moment) -> Result<Option<ContainerStatus>> {
        if self.outside.is_some() {
            return Ok(None);
        }
        let id = spec::container_id(self.id.replica);
        match self.deps.runtime.status(&id).await {
            Ok(None) => Err(failure::vanished(moment)),
            Ok(Some(status)) => match &status.state {
                ContainerState::Exited(exit) => {
                    Err(self.ended(exit, moment, status.memory_limit).await)
                }
                ContainerState::Starting | ContainerState::Running { .. } => Ok(Some(status)),
            },
            Err(error) => {
                tracing::warn!(replica = %self.id.replica, error = %error.chain(), "no status");
                Ok(None)
            }
        }
    }

    /// Gives an end that is under way a moment to be seen.
    pub(super) async fn ended_soon(&self, moment: Moment) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            self.check(moment).await?;
            if client::live(&self.at(), self.soon()).await.is_ok() {
                return Ok(());
            }
            sleep(self.deps.settings.poll).await;
        }
        Ok(())
    }

    async fn ended(&self, exit: &Exit, moment: Moment, limit: Mebibytes) -> Error {
        if exit.out_of_memory {
            self.ran_out_of_memory(limit).await;
        }
        failure::ended(exit, self.facts(moment).await)
    }

    pub(super) async fn facts(&self, moment: Moment) -> Facts {
        let id = spec::container_id(self.id.replica);
        let status = self.deps.runtime.status(&id).await.ok().flatten();
        let is_alive = |s: &ContainerStatus| !matches!(s.state, ContainerState::Exited(_));
        if status.as_ref().is_some_and(is_alive) {
            // What it has just written may be on its way to the log, which is whole after its end.
            sleep(self.deps.settings.poll).await;
        }
        let log = self.deps.runtime.logs(&id, LOG_LINES).await;
        // It may have been resized since it started.
        let resources = Resources {
            memory: status
                .as_ref()
                .map_or(self.id.template.resources.memory, |s| s.memory_limit),
            ..self.id.template.resources
        };
        Facts {
            moment,
            resources,
            machine: self.deps.settings.machine_memory,
            peak: status.and_then(|status| status.memory_peak),
            log: log.unwrap_or_default(),
        }
    }
}
