//! Keeps the replicas of every deployment as they are wanted.
//!
//! One task owns all state and passes over it: read intent, [`plan`](plan::plan) each deployment,
//! apply. Whatever takes time runs beside it: each [replica](replica::Life) is a task from its
//! start to its removal, so that one slow to stop holds up nothing. States of a replica as its
//! owner sees it:
//!
//! ```text
//!  start, adopt ─▶ Proving ─▶ Ready ─▶ Dead ─▶ Removing ─▶ (gone)
//!                     └──────────────────▲        ▲
//!                     told to end, from any state ┘
//! ```
//!
//! Containers outlive the server. [`DeploymentController::first_pass`] adopts those that run, so
//! that the gateway knows them before the first request comes.

mod adopt;
mod batching;
mod comparison;
mod end;
mod failed;
mod failure;
mod kept;
mod outside;
pub mod plan;
mod record;
mod replica;
pub mod scaling;
mod settings;
mod spec;
mod traffic;
mod usage;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_gateway::{Gateway, Retired};
use luthier_ports::{BlobStore, ContainerId, ContainerRuntime};
use luthier_store::{
    Store,
    deployments::{self, Deployment, Observation, Revision},
    failures::Failure,
    outside::{self as outside_runners, Outside},
    replica_counts,
    replica_logs::ReplicaLogs,
    values::to_json,
};
use luthier_types::{
    DeploymentId, Error, ModelId, OutsideId, ReplicaId, Resources, Result, RevisionId,
    RunnerAddress, layout::CacheLayout,
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::{Id, JoinError, JoinSet},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

pub use self::settings::Settings;
use self::{
    kept::Kept,
    plan::{Desired, Memory, Plan, ReplicaView, State, Template},
    replica::{Event, From, Life},
    spec::{Identity, RunDir},
};
use crate::driver::{LastPass, Reconciler, drive};

/// What the controller works with.
pub struct Deps {
    /// Intent, and where observations go.
    pub store: Store,
    /// Starts and stops containers.
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Is told who serves.
    pub gateway: Arc<Gateway>,
    /// Holds the validation rows.
    pub blobs: Arc<dyn BlobStore>,
    /// Where layers lie.
    pub layout: CacheLayout,
    /// Where replicas' sockets and configurations go; its path must be short.
    pub run_dir: PathBuf,
    /// Keeps the logs of replicas that are gone.
    pub logs: ReplicaLogs,
    /// Told when intent changed.
    pub wake: Arc<Notify>,
    /// Times and bounds.
    pub settings: Settings,
}

/// The reconciler of deployments.
pub struct DeploymentController {
    core: Core,
    wake: Arc<Notify>,
    last: watch::Sender<LastPass>,
}

/// A replica as its owner knows it.
struct Replica {
    id: Identity,
    at: RunnerAddress,
    state: State,
    /// What it was told to use; `id` says what it may.
    resources: watch::Sender<Resources>,
    refused: Option<Resources>,
    end: Option<oneshot::Sender<Option<Retired>>>,
    retired: Option<Retired>,
}

/// What a task is about.
enum Task {
    Replica(ReplicaId),
    Orphan(ContainerId),
}

/// The owner of all state.
struct Core {
    deps: Arc<Deps>,
    kept: HashMap<DeploymentId, Kept>,
    replicas: HashMap<ReplicaId, Replica>,
    revisions: HashMap<RevisionId, Arc<Revision>>,
    /// The runners that operators keep now.
    outside: HashMap<DeploymentId, Outside>,
    /// And where those listen that were ever seen.
    addresses: HashMap<OutsideId, RunnerAddress>,
    tasks: JoinSet<Result<()>>,
    about: HashMap<Id, Task>,
    orphans: HashSet<ContainerId>,
    events: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    pending: VecDeque<Event>,
    look: watch::Sender<u64>,
    /// What happened to replicas and is not written yet.
    counts: Vec<(ModelId, String)>,
    adopted: bool,
    next_search: Instant,
}

// === impl DeploymentController ===

impl DeploymentController {
    /// A controller that has not looked yet.
    ///
    /// # Errors
    /// `ContainerFailed` when the path of the run directory is too long for Unix sockets.
    pub fn new(deps: Deps) -> Result<Self> {
        RunDir::check(&deps.run_dir)?;
        let wake = deps.wake.clone();
        Ok(Self {
            core: Core {
                deps: Arc::new(deps),
                kept: HashMap::new(),
                replicas: HashMap::new(),
                revisions: HashMap::new(),
                outside: HashMap::new(),
                addresses: HashMap::new(),
                tasks: JoinSet::new(),
                about: HashMap::new(),
                orphans: HashSet::new(),
                events: mpsc::unbounded_channel(),
                pending: VecDeque::new(),
                look: watch::Sender::new(0),
                counts: vec![],
                adopted: false,
                next_search: Instant::now(),
            },
            wake,
            last: watch::Sender::default(),
        })
    }

    /// How the last pass went; follows along.
    pub fn last_pass(&self) -> watch::Receiver<LastPass> {
        self.last.subscribe()
    }

    /// Adopts the replicas that run and lets traffic reach those that answer. To be awaited before
    /// the server takes requests.
    ///
    /// # Errors
    /// When the store or the runtime fails; `run` tries again.
    pub async fn first_pass(&mut self) -> Result<()> {
        self.core.pass().await.map(drop)
    }

    /// Keeps deployments as they are wanted until `cancel`. Replicas run on.
    pub async fn run(self, cancel: CancellationToken) {
        drive(self.core, self.wake, self.last, cancel).await;
    }
}

// === impl Core ===

#[async_trait]
impl Reconciler for Core {
    fn name(&self) -> &'static str {
        "deployments"
    }

    async fn pass(&mut self) -> Result<Duration> {
        let wanted = {
            let mut db = self.deps.store.read().await?;
            let wanted = deployments::list(&mut db).await?;
            let outside = outside_runners::list(&mut db).await?;
            self.outside = outside.into_iter().map(|(id, _, o)| (id, o)).collect();
            wanted
        };
        for outside in self.outside.values() {
            let address = outside.address.clone();
            self.addresses.insert(outside.id, address);
        }
        if !self.adopted {
            self.adopt(&wanted).await?;
            self.adopted = true;
        }
        let failures = self.absorb();
        self.record(&failures).await;
        let mut again = Instant::now() + self.deps.settings.interval;
        let mut failed = None;
        for deployment in &wanted {
            match self.reconcile(deployment).await {
                Ok(at) => again = again.min(at.unwrap_or(again)),
                Err(error) => {
                    tracing::error!(deployment = %deployment.id, error = %error.chain(), "not reconciled");
                    failed = Some(error);
                }
            }
        }
        self.forget_deleted(&wanted);
        self.write_counts().await?;
        if self.next_search <= Instant::now() {
            self.remove_orphans().await?;
            self.next_search = Instant::now() + self.deps.settings.interval;
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(again.saturating_duration_since(Instant::now())),
        }
    }

    async fn happened(&mut self) {
        let failures = self.deps.gateway.failures();
        let wanted = self.deps.gateway.wanted();
        loop {
            tokio::select! {
                Some(event) = self.events.1.recv() => {
                    self.pending.push_back(event);
                    return;
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.task_ended(ended);
                    return;
                }
                // The replicas' own tasks find out, and tell.
                () = wanted.notified() => return,
                () = failures.notified() => self.look.send_modify(|n| *n += 1),
            }
        }
    }
}

impl Core {
    /// Takes in what the replicas' tasks have told; gives those that failed.
    fn absorb(&mut self) -> Vec<(ModelId, Failure)> {
        let mut failures = vec![];
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.task_ended(ended);
        }
        while let Ok(event) = self.events.1.try_recv() {
            self.pending.push_back(event);
        }
        for event in std::mem::take(&mut self.pending) {
            let (id, state) = match event {
                Event::Ready(id) => (id, State::Ready),
                Event::Died(id, error) => (id, State::Dead(error)),
                Event::Resized(id, resources) => {
                    if let Some(replica) = self.replicas.get_mut(&id) {
                        replica.id.template.resources = resources;
                    }
                    continue;
                }
                Event::Refused(id, resources) => {
                    if let Some(replica) = self.replicas.get_mut(&id) {
                        replica.refused = Some(resources);
                    }
                    continue;
                }
            };
            let Some(replica) = self.replicas.get_mut(&id) else {
                continue;
            };
            if matches!(replica.state, State::Removing) {
                continue;
            }
            replica.state = state;
            let (of, state) = (replica.id, replica.state.clone());
            if let State::Dead(error) = &state {
                tracing::warn!(
                    replica = %id, deployment = %of.deployment, error = %error.chain(),
                    "replica failed"
                );
                self.count_failure(of.model, error);
                let failure = Failure {
                    at: Timestamp::now(),
                    replica: id,
                    revision: of.template.revision,
                    error: error.to_public(),
                };
                failures.push((of.model, failure));
            } else {
                tracing::info!(replica = %id, deployment = %of.deployment, "replica ready");
            }
        }
        failures
    }

    fn task_ended(&mut self, ended: Result<(Id, Result<()>), JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, result),
            Err(error) => (
                error.id(),
                Err(Error::internal("looking after a container", error)),
            ),
        };
        if let Err(error) = result {
            // Forgotten all the same: the next search finds what is left and removes it.
            tracing::error!(error = %error.chain(), "a container could not be removed");
        }
        match self.about.remove(&task) {
            Some(Task::Replica(id)) => drop(self.replicas.remove(&id)),
            Some(Task::Orphan(id)) => drop(self.orphans.remove(&id)),
            None => {}
        }
    }

    /// Plans one deployment and applies the plan; gives when to look again.
    async fn reconcile(&mut self, deployment: &Deployment) -> Result<Option<Instant>> {
        let template = deployment.wanted_revision.map(|revision| Template {
            revision,
            resources: deployment.resources,
            outside: self.outside.get(&deployment.id).map(|o| o.id),
        });
        let views: Vec<ReplicaView> = self.views(deployment.id);
        let now = Instant::now();
        let kept = self
            .kept
            .entry(deployment.id)
            .or_insert_with(|| Kept::new(deployment, Memory::default(), now));
        let template_now = template.filter(|_| deployment.active);
        let (replicas, look) = kept.goal(deployment, template_now, &self.deps, now);
        let desired = Desired {
            template: template_now,
            replicas,
            sleeps: deployment.scaling.sleeps(),
            generation: deployment.generation,
        };
        let plan = plan::plan(&desired, &views, &mut kept.memory, now);
        let serving = kept.memory.serving;
        self.apply(deployment, &plan, serving).await?;
        if template.is_some() || !deployment.active {
            self.observe(deployment, &plan, replicas, serving).await?;
        }
        Ok(plan.again.into_iter().chain(look).min())
    }

    fn views(&self, deployment: DeploymentId) -> Vec<ReplicaView> {
        let mut views: Vec<ReplicaView> = self
            .replicas
            .values()
            .filter(|r| r.id.deployment == deployment)
            .map(|r| ReplicaView {
                id: r.id.replica,
                template: r.id.template,
                state: r.state.clone(),
                refused: r.refused,
            })
            .collect();
        views.sort_by_key(|r| r.id);
        views
    }

    /// Traffic first, so that nothing is stopped that it still reaches.
    async fn apply(
        &mut self,
        deployment: &Deployment,
        plan: &Plan,
        serving: Option<Template>,
    ) -> Result<()> {
        self.direct(deployment.id, &plan.traffic, plan.hold, serving)
            .await?;
        for id in &plan.remove {
            self.end(*id);
        }
        for (id, resources) in &plan.resize {
            if let Some(replica) = self.replicas.get(id) {
                replica.resources.send_if_modified(|told| {
                    let new = *told != *resources;
                    *told = *resources;
                    new
                });
            }
        }
        for template in &plan.start {
            let id = Identity {
                deployment: deployment.id,
                model: deployment.model_id,
                replica: ReplicaId::new(),
                template: *template,
            };
            let revision = self.revision(template.revision).await?;
            tracing::info!(replica = %id.replica, deployment = %deployment.id, "replica starts");
            self.count(deployment.model_id, replica_counts::STARTED);
            self.bring_up(id, revision, From::Start);
        }
        Ok(())
    }

    fn bring_up(&mut self, id: Identity, revision: Arc<Revision>, from: From) {
        let (tell, end) = oneshot::channel();
        // One that is not known answers nothing.
        let known = |o| self.addresses.get(&o).cloned();
        let nowhere = || RunnerAddress::Unix(PathBuf::new());
        let outside = id
            .template
            .outside
            .map(|o| known(o).unwrap_or_else(nowhere));
        let (resources, told) = watch::channel(id.template.resources);
        let life = Life {
            id,
            revision,
            outside,
            deps: self.deps.clone(),
            events: self.events.0.clone(),
            look: self.look.subscribe(),
            resources: told,
        };
        let at = life.at();
        let task = self.tasks.spawn(life.run(from, end));
        self.about.insert(task.id(), Task::Replica(id.replica));
        let state = match from {
            From::Start | From::Loading => State::Proving,
            From::Serving => State::Ready,
        };
        let replica = Replica {
            id,
            at,
            state,
            resources,
            refused: None,
            end: Some(tell),
            retired: None,
        };
        self.replicas.insert(id.replica, replica);
    }

    /// Drains, stops and removes a replica, beside everything else.
    fn end(&mut self, id: ReplicaId) {
        if let Some(replica) = self.replicas.get_mut(&id)
            && let Some(end) = replica.end.take()
        {
            replica.state = State::Removing;
            let _ = end.send(replica.retired.take());
        }
    }

    /// Writes what was seen, if it has changed.
    async fn observe(
        &self,
        deployment: &Deployment,
        plan: &Plan,
        replicas: u32,
        serving: Option<Template>,
    ) -> Result<()> {
        let observation = Observation {
            generation: deployment.generation,
            phase: plan.phase,
            serving_revision: serving.map(|t| t.revision).or(deployment.serving_revision),
            ready_replicas: u32::try_from(plan.traffic.len()).unwrap_or(u32::MAX),
            target_replicas: replicas,
            failure: plan.failure.clone(),
            crashes: plan.crashes,
        };
        let failure = |f: &Option<Error>| f.as_ref().map(to_json).transpose();
        let same = observation.generation == deployment.observed_generation
            && observation.phase == deployment.phase
            && observation.serving_revision == deployment.serving_revision
            && observation.ready_replicas == deployment.ready_replicas
            && Some(observation.target_replicas) == deployment.target_replicas
            && observation.crashes == deployment.crashes
            && failure(&observation.failure)? == failure(&deployment.failure)?;
        if same {
            return Ok(());
        }
        let mut db = self.deps.store.write().await?;
        deployments::observe(&mut db, deployment.id, &observation).await?;
        db.commit()
            .await
            .map_err(luthier_store::failed("recording a deployment's state"))
    }

    /// Ends what belongs to deployments that are no more.
    fn forget_deleted(&mut self, wanted: &[Deployment]) {
        let known: HashSet<DeploymentId> = wanted.iter().map(|d| d.id).collect();
        let gone: Vec<DeploymentId> = self
            .kept
            .keys()
            .filter(|id| !known.contains(id))
            .copied()
            .collect();
        for deployment in gone {
            if let Some(kept) = self.kept.remove(&deployment) {
                self.retire(self.deps.gateway.clear(kept.model));
            }
        }
        let left: Vec<ReplicaId> = self
            .replicas
            .values()
            .filter(|r| !known.contains(&r.id.deployment))
            .map(|r| r.id.replica)
            .collect();
        for replica in left {
            self.end(replica);
        }
        let used: HashSet<RevisionId> = self
            .replicas
            .values()
            .map(|r| r.id.template.revision)
            .chain(wanted.iter().filter_map(|d| d.wanted_revision))
            .chain(wanted.iter().filter_map(|d| d.serving_revision))
            .collect();
        self.revisions.retain(|id, _| used.contains(id));
    }

    /// A revision, which never changes once it is there.
    async fn revision(&mut self, id: RevisionId) -> Result<Arc<Revision>> {
        if let Some(revision) = self.revisions.get(&id) {
            return Ok(revision.clone());
        }
        let mut db = self.deps.store.read().await?;
        let revision = deployments::revision(&mut db, id)
            .await?
            .ok_or_else(|| Error::internal("reading a deployment's revision", "it is not there"))?;
        let revision = Arc::new(revision);
        self.revisions.insert(id, revision.clone());
        Ok(revision)
    }
}
