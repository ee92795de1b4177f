//! Containers that were there before this server: those that are wanted are taken over as they
//! run, the rest removed.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use luthier_gateway::client;
use luthier_ports::{ContainerId, ContainerState};
use luthier_store::deployments::Deployment;
use luthier_types::{
    Code, DeploymentId, Error, OutsideId, Phase, ReplicaId, Result, RunnerAddress,
    runner::LoadPhase,
};
use tokio::{task::JoinSet, time::Duration};

use super::{
    Core, Kept, Task,
    plan::{Memory, Template},
    record,
    replica::From,
    spec::{self, Identity, RunDir},
};

/// How long a running replica may take to say how far it is. One that takes longer is looked at
/// again like one that is coming up.
const HANDSHAKE: Duration = Duration::from_secs(3);

impl Core {
    /// Takes over what runs and remembers what was decided before. What is not taken over, the
    /// search for orphans removes.
    pub(super) async fn adopt(&mut self, wanted: &[Deployment]) -> Result<()> {
        let known: HashMap<DeploymentId, &Deployment> = wanted.iter().map(|d| (d.id, d)).collect();
        let mut handshakes = JoinSet::new();
        for container in self.deps.runtime.list().await? {
            let Some(id) = spec::identity(&container.labels) else {
                continue;
            };
            let Some(deployment) = known.get(&id.deployment) else {
                continue;
            };
            let revision = Some(id.template.revision);
            let needed = deployment.active
                && !matches!(container.state, ContainerState::Exited(_))
                && (revision == deployment.wanted_revision
                    || revision == deployment.serving_revision);
            if !needed {
                continue;
            }
            let proven = revision == deployment.serving_revision;
            let at = RunDir::new(&self.deps.run_dir, id.replica).socket().into();
            handshakes.spawn(async move {
                let ready = client::ready(&at, Instant::now() + HANDSHAKE).await;
                let answers = ready.is_ok_and(|r| r.phase == LoadPhase::Ready);
                (id, answers && proven)
            });
        }
        for deployment in wanted.iter().filter(|d| d.active) {
            if let Some((id, at)) = self.outside_that_served(deployment) {
                handshakes.spawn(async move {
                    let ready = client::ready(&at, Instant::now() + HANDSHAKE).await;
                    let answers = ready.is_ok_and(|r| r.phase == LoadPhase::Ready);
                    (id, answers)
                });
            }
        }
        let mut adopted: Vec<(Identity, bool)> = handshakes.join_all().await;
        adopted.sort_by_key(|(id, _)| id.replica);
        for (id, serves) in &adopted {
            let revision = self.revision(id.template.revision).await?;
            tracing::info!(replica = %id.replica, deployment = %id.deployment, serves, "replica adopted");
            let from = if *serves {
                From::Serving
            } else {
                From::Loading
            };
            self.bring_up(*id, revision, from);
        }
        for deployment in wanted.iter().filter(|d| d.active) {
            let outside = self.outside.get(&deployment.id).map(|o| o.id);
            let memory = recall(deployment, &adopted, outside);
            let kept = Kept::new(deployment, memory, tokio::time::Instant::now());
            self.kept.insert(deployment.id, kept);
        }
        Ok(())
    }

    /// The runner that an operator keeps for a deployment, if it served when the last server ended.
    fn outside_that_served(&self, d: &Deployment) -> Option<(Identity, RunnerAddress)> {
        let outside = self.outside.get(&d.id)?;
        let revision = d
            .serving_revision
            .filter(|r| Some(*r) == d.wanted_revision)?;
        let settled = d.observed_generation == d.generation && d.phase == Phase::Ready;
        let id = Identity {
            deployment: d.id,
            model: d.model_id,
            replica: ReplicaId::new(),
            template: Template {
                revision,
                resources: d.resources,
                outside: Some(outside.id),
            },
        };
        settled.then(|| (id, outside.address.clone()))
    }

    /// Removes containers that are replicas by their labels and belong to no replica known here,
    /// and run directories without a replica.
    pub(super) async fn remove_orphans(&mut self) -> Result<()> {
        let mine: HashSet<ContainerId> = self
            .replicas
            .keys()
            .map(|id| spec::container_id(*id))
            .collect();
        let containers = self.deps.runtime.list().await?;
        for id in RunDir::list(&self.deps.run_dir)? {
            let container = spec::container_id(id);
            let used = mine.contains(&container) || containers.iter().any(|c| c.id == container);
            if !used {
                RunDir::new(&self.deps.run_dir, id).remove()?;
            }
        }
        for container in containers {
            let id = container.id;
            if !spec::is_replica(&container.labels)
                || mine.contains(&id)
                || !self.orphans.insert(id.clone())
            {
                continue;
            }
            tracing::info!(container = %id, "container of no deployment is removed");
            let deps = self.deps.clone();
            let identity = spec::identity(&container.labels);
            let dir = identity.map(|i| RunDir::new(&self.deps.run_dir, i.replica));
            let about = Task::Orphan(id.clone());
            let task = self.tasks.spawn(async move {
                deps.runtime.stop(&id, deps.settings.stop_grace).await?;
                if let Some(identity) = &identity {
                    record::keep_log(&deps, identity).await;
                }
                deps.runtime.remove(&id).await?;
                dir.map_or(Ok(()), |dir| dir.remove())
            });
            self.about.insert(task.id(), about);
        }
        Ok(())
    }
}

/// What the last server knew, as far as it is stored or can be seen.
fn recall(
    deployment: &Deployment,
    adopted: &[(Identity, bool)],
    outside: Option<OutsideId>,
) -> Memory {
    let observed = deployment.observed_generation == deployment.generation;
    let mine = |(id, _): &&(Identity, bool)| id.deployment == deployment.id;
    let serving = deployment
        .serving_revision
        .filter(|_| deployment.phase != Phase::Stopped)
        .map(|revision| {
            let templates: Vec<Template> = adopted
                .iter()
                .filter(mine)
                .map(|(id, _)| id.template)
                .filter(|t| t.revision == revision)
                .collect();
            let wanted = Template {
                revision,
                resources: deployment.resources,
                outside,
            };
            // Others than those wanted: an exchange of resources is underway, or has failed.
            let other = templates.into_iter().find(|t| *t != wanted);
            let done = observed && deployment.phase == Phase::Ready;
            other.filter(|_| !done).unwrap_or(wanted)
        });
    let rejected = deployment
        .wanted_revision
        .filter(|_| observed && deployment.phase == Phase::Failed)
        .map(|revision| {
            let wanted = Template {
                revision,
                resources: deployment.resources,
                outside,
            };
            let reason = deployment
                .failure
                .clone()
                .unwrap_or_else(|| Error::new(Code::ModelServeError, "the model did not come up"));
            (wanted, deployment.generation, reason)
        });
    Memory {
        serving,
        rejected,
        settled: (observed && deployment.phase == Phase::Ready).then_some(deployment.generation),
        ..Memory::default()
    }
}
