//! Telling the gateway who serves.

use luthier_gateway::{Package, ReplicaEndpoint, Retired};
use luthier_store::batching;
use luthier_types::{DeploymentId, ReplicaId, Result, RevisionId};

use super::{Core, plan::Template};

impl Core {
    /// Lets traffic reach exactly the replicas `traffic`, which are made of `serving`, if that is
    /// not so already. Where there are none, requests wait if they are to be held.
    pub(super) async fn direct(
        &mut self,
        deployment: DeploymentId,
        traffic: &[ReplicaId],
        hold: bool,
        serving: Option<Template>,
    ) -> Result<()> {
        let same = |kept: &super::Kept| kept.traffic == traffic && kept.holds == hold;
        if self.kept.get(&deployment).is_none_or(same) {
            return Ok(());
        }
        let package = match serving {
            Some(template) => self.package(template.revision).await?,
            None => Package::default(),
        };
        let Some(kept) = self.kept.get_mut(&deployment) else {
            return Ok(());
        };
        kept.traffic = traffic.to_vec();
        kept.holds = hold;
        let known = traffic.iter().filter_map(|id| self.replicas.get(id));
        let endpoints = known.map(|replica| ReplicaEndpoint {
            id: replica.id.replica,
            at: replica.at.clone(),
        });
        let retired = if hold {
            self.deps.gateway.hold(kept.model)
        } else if traffic.is_empty() {
            self.deps.gateway.clear(kept.model)
        } else {
            let endpoints = endpoints.collect();
            self.deps.gateway.set(kept.model, endpoints, package)
        };
        self.retire(retired);
        Ok(())
    }

    /// Remembers what may still be answering, to be drained before it is stopped.
    pub(super) fn retire(&mut self, retired: Retired) {
        for (id, retired) in retired.split() {
            if let Some(replica) = self.replicas.get_mut(&id) {
                replica.retired = Some(retired);
            }
        }
    }

    async fn package(&mut self, revision: RevisionId) -> Result<Package> {
        let outputs = self.revision(revision).await?.outputs.clone();
        let mut db = self.deps.store.read().await?;
        let found = batching::of_revision(&mut db, revision).await?;
        Ok(Package {
            outputs,
            batching: found.is_some_and(|found| found.is_batched()),
        })
    }
}
