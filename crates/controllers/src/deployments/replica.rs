//! The life of one replica, one task from its start to its removal.
//!
//! ```text
//! start ─▶ load ─▶ validate ─▶ serve ─┐
//!            │         │              ├─▶ dead ─▶ told to end ─▶ drain ─▶ stop ─▶ remove
//!            └─────────┴──────────────┘              ▲
//!        told to end at any of these ────────────────┘
//! ```

use std::{convert::Infallible, sync::Arc, time::Instant};

use arrow_array::RecordBatch;
use luthier_gateway::{Retired, client};
use luthier_ports::Resized;
use luthier_store::{batching as store, deployments::Revision};
use luthier_types::{
    Batching, BatchingVerdict, Code, Error, Moment, ReplicaId, Resources, Result, RunnerAddress,
    runner::{Live, LoadPhase, Ready},
};
use tokio::{
    io::AsyncReadExt as _,
    sync::{mpsc, oneshot, watch},
    time::{Duration, sleep},
};

use super::{
    Deps, batching,
    failure::{self, clues},
    record,
    spec::{self, Identity, RunDir},
    usage::Meter,
};

/// What a replica's task tells its owner.
pub(super) enum Event {
    /// It has proven itself.
    Ready(ReplicaId),
    /// It will not answer (any more).
    Died(ReplicaId, Error),
    /// It may use these resources now.
    Resized(ReplicaId, Resources),
    /// It cannot use these resources while it runs.
    Refused(ReplicaId, Resources),
}

/// Where its life begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// With a new container.
    Start,
    /// With a running container that still has to prove itself.
    Loading,
    /// With a running container that has proven itself.
    Serving,
}

/// A replica's task.
pub(super) struct Life {
    pub(super) id: Identity,
    pub(super) revision: Arc<Revision>,
    /// Where its runner listens, if an operator keeps it and there is no container.
    pub(super) outside: Option<RunnerAddress>,
    pub(super) deps: Arc<Deps>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// Changes when replicas should be looked at now.
    pub(super) look: watch::Receiver<u64>,
    /// What it shall be able to use.
    pub(super) resources: watch::Receiver<Resources>,
}

impl Life {
    /// Lives until `end` tells it to end, with what the gateway has retired of it.
    ///
    /// # Errors
    /// When the container or its directories could not be removed.
    pub(super) async fn run(
        self,
        from: From,
        end: oneshot::Receiver<Option<Retired>>,
    ) -> Result<()> {
        if let Some(at) = self.outside.clone() {
            return self.run_outside(at, from, end).await;
        }
        // Not interrupted: a container is wholly started before it is stopped.
        let started = match from {
            From::Start => self.start().await,
            From::Loading | From::Serving => Ok(()),
        };
        let living = async {
            let Err(error) = match started {
                Ok(()) => self.live(from).await,
                Err(error) => Err(error),
            };
            let _ = self.events.send(Event::Died(self.id.replica, error));
            std::future::pending::<Infallible>().await
        };
        let retired = tokio::select! {
            told = end => told.ok().flatten(),
            never = living => match never {},
        };
        self.finish(retired).await
    }

    async fn start(&self) -> Result<()> {
        let dir = self.dir();
        let config = spec::runner_config(&self.revision, &self.deps.settings);
        dir.prepare(&config)?;
        let spec = spec::container_spec(
            &self.id,
            &self.revision,
            &self.deps.layout,
            &dir,
            &self.deps.settings,
        );
        self.deps.runtime.start(&spec).await
    }

    async fn finish(&self, retired: Option<Retired>) -> Result<()> {
        let id = spec::container_id(self.id.replica);
        if let Some(retired) = retired
            && !retired.drained(self.deps.settings.drain_timeout).await
        {
            tracing::warn!(replica = %self.id.replica, "stopped before every request was answered");
        }
        self.deps
            .runtime
            .stop(&id, self.deps.settings.stop_grace)
            .await?;
        record::keep_log(&self.deps, &self.id).await;
        self.deps.runtime.remove(&id).await?;
        self.dir().remove()
    }

    /// Lives until it dies.
    async fn live(&self, from: From) -> Result<Infallible> {
        if from != From::Serving {
            let ready = self.load().await?;
            self.validate(&ready).await?;
            self.measured_loading().await;
            self.compare(&self.at()).await?;
        }
        // Before traffic reaches it, so that nothing is missed.
        let meter = self.meter().await;
        let _ = self.events.send(Event::Ready(self.id.replica));
        self.serve(meter).await
    }

    /// Waits until the model is loaded.
    async fn load(&self) -> Result<Ready> {
        let settings = &self.deps.settings;
        let deadline = Instant::now() + settings.load_timeout;
        let mut moment = Moment::Starting;
        loop {
            self.check(moment).await?;
            if let Ok(ready) = client::ready(&self.at(), self.soon()).await {
                match ready.phase {
                    LoadPhase::Ready => return Ok(ready),
                    LoadPhase::Failed => {
                        let facts = self.facts(failed_moment(&ready)).await;
                        return Err(failure::not_loaded(ready.error.as_ref(), facts));
                    }
                    LoadPhase::Starting | LoadPhase::Importing | LoadPhase::Loading => {
                        moment = failure::moment(ready.phase);
                    }
                }
            }
            if Instant::now() >= deadline {
                let stacks = self.stacks().await;
                let facts = self.facts(moment).await;
                return Err(failure::too_slow(settings.load_timeout, facts, stacks));
            }
            sleep(settings.poll).await;
        }
    }

    /// Lets it predict the revision's validation rows.
    pub(super) async fn validate(&self, ready: &Ready) -> Result<()> {
        let mut bytes = vec![];
        self.deps
            .blobs
            .get(&self.revision.validation)
            .await?
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| Error::internal("reading the validation rows", e))?;
        let rows = luthier_data::from_ipc(bytes.into())
            .map_err(|e| Error::internal("reading the validation rows", e))?;
        let deadline = Instant::now() + self.deps.settings.validation_timeout;
        let outputs = &self.revision.outputs;
        let error = match client::predict(&self.at(), &rows, outputs, deadline).await {
            Ok(answer) => return self.find_batching(ready, &rows, &answer).await,
            Err(error) => error,
        };
        let stacks = match error.code() {
            Code::ModelUnavailable => {
                // It broke off: most likely it has ended, which says more.
                self.ended_soon(Moment::Validating).await?;
                None
            }
            Code::PredictTimeout => self.stacks().await,
            _ => None,
        };
        let facts = self.facts(Moment::Validating).await;
        Err(failure::not_valid(&error, facts, stacks))
    }

    /// Finds out whether requests may be predicted together, unless an earlier replica of the
    /// revision has.
    async fn find_batching(
        &self,
        ready: &Ready,
        rows: &RecordBatch,
        answer: &RecordBatch,
    ) -> Result<()> {
        let revision = self.revision.id;
        let known = {
            let mut db = self.deps.store.read().await?;
            store::of_revision(&mut db, revision).await?
        };
        if known.is_some() {
            return Ok(());
        }
        let deadline = Instant::now() + self.deps.settings.batching_timeout;
        let found = if ready.declines_batching {
            BatchingVerdict::Declined.into()
        } else {
            match batching::tried(&self.at(), rows, answer, deadline).await {
                Ok(found) => found,
                Err(error) => {
                    self.ended_soon(Moment::Validating).await?;
                    Batching {
                        verdict: BatchingVerdict::Failed,
                        detail: Some(error.message().to_owned()),
                    }
                }
            }
        };
        tracing::info!(%revision, verdict = ?found.verdict, detail = found.detail, "batching tried");
        let mut db = self.deps.store.write().await?;
        store::insert(&mut db, revision, &found).await?;
        db.commit().await.map_err(luthier_store::failed(
            "recording whether a revision is batched",
        ))
    }

    /// Watches it while it serves.
    async fn serve(&self, mut meter: Meter) -> Result<Infallible> {
        let settings = &self.deps.settings;
        let mut look = self.look.clone();
        let mut resources = self.resources.clone();
        let mut failures = 0;
        loop {
            let asked = tokio::select! {
                () = sleep(settings.liveness_interval) => false,
                Ok(()) = look.changed() => true,
                Ok(()) = resources.changed() => {
                    let wanted = *resources.borrow_and_update();
                    self.resize(wanted).await;
                    continue;
                }
            };
            let status = self.check(Moment::Serving).await?;
            match client::live(&self.at(), self.soon()).await {
                Ok(live) => {
                    failures = 0;
                    self.check_calls(&live).await?;
                    self.measured_serving(&mut meter, status, &live).await;
                }
                Err(_) => {
                    self.ended_soon(Moment::Serving).await?;
                    // Only the timer's checks count, or a burst of failures would count as many.
                    failures += u32::from(!asked);
                }
            }
            if failures >= settings.liveness_failures {
                let facts = self.facts(Moment::Serving).await;
                return Err(failure::unresponsive(failures, facts));
            }
            if asked {
                sleep(settings.poll).await;
            }
        }
    }

    /// Lets it use other resources while it runs, if it can. Whatever keeps it from that is as good
    /// as a refusal: it is replaced.
    async fn resize(&self, resources: Resources) {
        let replica = self.id.replica;
        let mut id = self.id;
        id.template.resources = resources;
        let labels = spec::labels(&id, &self.revision);
        let container = spec::container_id(replica);
        let resized = self.deps.runtime.resize(&container, resources, &labels);
        let cause = match resized.await {
            Ok(Resized::Done) => {
                tracing::info!(%replica, cpu = %resources.cpu, memory = %resources.memory, "replica resized");
                let _ = self.events.send(Event::Resized(replica, resources));
                return;
            }
            Ok(Resized::Refused(cause)) => cause,
            Err(error) => error.chain(),
        };
        tracing::info!(%replica, cause, "replica cannot be resized and is replaced");
        let _ = self.events.send(Event::Refused(replica, resources));
    }

    /// An error when a call of the model goes on long after its time. No other call is harmed by that
    /// alone, but it never gives back what it holds.
    async fn check_calls(&self, live: &Live) -> Result<()> {
        let overdue = Duration::from_millis(live.overdue_ms);
        if overdue < self.deps.settings.hang_timeout {
            return Ok(());
        }
        let running = Duration::from_millis(live.overdue_running_ms);
        let stacks = self.stacks().await;
        let facts = self.facts(Moment::Serving).await;
        Err(failure::hung(running, overdue, facts, stacks))
    }

    /// Where Python's threads are, if it can be had.
    async fn stacks(&self) -> Option<String> {
        let text = client::stacks(&self.at(), self.soon()).await.ok()?;
        clues::stacks(&text)
    }

    pub(super) fn soon(&self) -> Instant {
        Instant::now() + self.deps.settings.liveness_timeout
    }

    fn dir(&self) -> RunDir {
        RunDir::new(&self.deps.run_dir, self.id.replica)
    }

    pub(super) fn at(&self) -> RunnerAddress {
        let inside = || self.dir().socket().into();
        self.outside.clone().unwrap_or_else(inside)
    }
}

/// What a runner was doing that could not load its model.
fn failed_moment(ready: &Ready) -> Moment {
    match ready.import_seconds {
        Some(_) => Moment::Loading,
        None => Moment::Importing,
    }
}
