//! The models that serve, and the predictors over them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use luthier_ports::Predictor;
use luthier_types::{ModelId, ReplicaId, Result, RunnerAddress};
use serde::Serialize;
use tokio::sync::Notify;

use crate::{
    call::Call,
    model::{self, Model, Serving},
    replica::Replica,
    timings::Timings,
};

/// Bounds of the gateway.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most requests at a time in one replica. More than a few gain nothing, since Python runs one
    /// thread at a time; the next request should only be there when one ends.
    pub in_flight: usize,
    /// Most requests that wait for one model.
    pub waiting: usize,
    /// Most bytes that these hold together.
    pub waiting_bytes: usize,
    /// Largest answer taken from a replica, in bytes.
    pub max_answer: usize,
    /// How long a request that could be joined waits at least for a replica without such a call,
    /// before it takes a second place beside one.
    pub patience: Duration,
    /// How long requests are held at most after a call, so that those it answered can join them;
    /// zero holds none.
    pub lull: Duration,
    /// How long a call that nobody waits for any more may keep its place in the replica.
    pub linger: Duration,
    /// Most rows of recent requests that are remembered of each model; 0 remembers none.
    pub recent_rows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            in_flight: 2,
            waiting: 256,
            waiting_bytes: 256 << 20,
            max_answer: 256 << 20,
            patience: Duration::from_millis(5),
            lull: Duration::from_millis(5),
            linger: Duration::from_secs(5),
            recent_rows: 200,
        }
    }
}

/// Where a replica listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaEndpoint {
    /// The replica.
    pub id: ReplicaId,
    /// The address of its runner.
    pub at: RunnerAddress,
}

/// How a model is doing. Counts are since the model was first set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Replicas that traffic reaches.
    pub replicas: usize,
    /// Requests in them now.
    pub in_flight: usize,
    /// Requests waiting for a place.
    pub waiting: usize,
    /// Requests that are not answered yet, wherever they are.
    pub active: usize,
    /// Whether requests wait where there is no replica, since one will come.
    pub holds: bool,
    /// Requests so far.
    pub requests: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Calls of replicas so far.
    pub calls: u64,
    /// Requests that were answered by a call made for several.
    pub joined: u64,
    /// Calls that answered, by how many requests they were made for: at most each of
    /// [`BATCHES`](Self::BATCHES), and more.
    pub batches: [u64; 8],
}

impl Stats {
    /// The bounds of [`batches`](Self::batches).
    pub const BATCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
}

/// What is known of the package that the replicas run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// The columns it returns.
    pub outputs: Vec<String>,
    /// Whether requests may be predicted together.
    pub batching: bool,
}

/// Replicas that traffic no longer reaches, but that may still be answering.
#[must_use = "replicas should be drained before they are stopped"]
pub struct Retired(Vec<Arc<Replica>>);

/// The replicas of every model. Cheap to share; never blocks on a model's health or load.
pub struct Gateway {
    options: Options,
    models: RwLock<HashMap<ModelId, Arc<Model>>>,
    told: Told,
}

/// Whom the models tell of what the controller should look at.
#[derive(Clone, Default)]
pub(crate) struct Told {
    /// A replica could not be reached.
    pub(crate) failed: Arc<Notify>,
    /// A request waits where there is no replica.
    pub(crate) wanted: Arc<Notify>,
}

/// The predictor of one model: whatever serves it at the time of each call.
#[derive(Clone)]
pub struct ModelPredictor {
    gateway: Arc<Gateway>,
    model: ModelId,
    timings: Arc<Timings>,
}

// === impl Gateway ===

impl Gateway {
    /// A gateway in which no model serves.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            models: RwLock::default(),
            told: Told::default(),
        }
    }

    /// Its bounds.
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Told, with a permit, each time a replica could not be reached or broke its connection: the
    /// controller should look at its replicas at once.
    pub fn failures(&self) -> Arc<Notify> {
        self.told.failed.clone()
    }

    /// Told, with a permit, each time a request waits for a model that [`Gateway::hold`] holds.
    pub fn wanted(&self) -> Arc<Notify> {
        self.told.wanted.clone()
    }

    /// Lets traffic of `model` reach exactly `replicas`, which run `package`. Requests underway go
    /// on in the replicas that were taken out, which are given back.
    pub fn set(&self, model: ModelId, replicas: Vec<ReplicaEndpoint>, package: Package) -> Retired {
        let model = self.known(model);
        let before = model.serving();
        let replicas = replicas
            .into_iter()
            .map(|new| {
                let kept = before
                    .replicas
                    .iter()
                    .find(|old| old.id == new.id && old.at == new.at);
                kept.cloned()
                    .unwrap_or_else(|| Arc::new(Replica::new(new.id, new.at)))
            })
            .collect();
        let old = model.replace(Serving {
            replicas,
            package,
            holds: false,
        });
        retired(&old, &model.serving())
    }

    /// Lets requests of `model` wait, each until its deadline, for the replicas that [`Gateway::set`]
    /// will name. Those underway go on in the replicas that were taken out, which are given back.
    pub fn hold(&self, model: ModelId) -> Retired {
        let model = self.known(model);
        let old = model.replace(Serving {
            holds: true,
            ..Serving::default()
        });
        retired(&old, &model.serving())
    }

    /// Lets no traffic of `model` through any more.
    pub fn clear(&self, model: ModelId) -> Retired {
        let model = self
            .models
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&model);
        let Some(model) = model else {
            return Retired(vec![]);
        };
        let old = model.replace(Serving::default());
        retired(&old, &model.serving())
    }

    /// Predicts with a replica of `model`.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub async fn predict(
        &self,
        model: ModelId,
        inputs: RecordBatch,
        deadline: Instant,
    ) -> Result<RecordBatch> {
        self.predict_timed(model, inputs, deadline, &Timings::default())
            .await
    }

    /// As [`Gateway::predict`]; adds to `timings` where the time went, also of what fails.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub async fn predict_timed(
        &self,
        model: ModelId,
        inputs: RecordBatch,
        deadline: Instant,
        timings: &Timings,
    ) -> Result<RecordBatch> {
        self.model(model)?.predict(inputs, deadline, timings).await
    }

    /// Calls the explain hook `name` of the package of `model`.
    ///
    /// # Errors
    /// `NotSupported` when the package has no such hook; otherwise as [`Predictor::predict`].
    pub async fn custom_explain(
        &self,
        model: ModelId,
        name: &str,
        inputs: &RecordBatch,
        deadline: Instant,
        timings: &Timings,
    ) -> Result<serde_json::Value> {
        let call = Call::hook(name, inputs)?;
        self.model(model)?.explain(call, deadline, timings).await
    }

    /// Perhaps remembers some rows of a request, if the model serves.
    pub fn remember(&self, model: ModelId, request: &RecordBatch) {
        if let Ok(model) = self.model(model) {
            model.recent.note(request);
        }
    }

    /// Some rows of the recent requests of `model`; `None` when none are remembered.
    pub fn recent(&self, model: ModelId) -> Option<RecordBatch> {
        self.model(model).ok()?.recent.rows()
    }

    /// The predictor of `model`, whether it serves now or not. It adds to `timings` where its time
    /// goes.
    pub fn predictor(self: &Arc<Self>, model: ModelId, timings: Arc<Timings>) -> ModelPredictor {
        ModelPredictor {
            gateway: self.clone(),
            model,
            timings,
        }
    }

    /// The replicas that traffic of `model` reaches.
    pub fn endpoints(&self, model: ModelId) -> Vec<ReplicaEndpoint> {
        let Ok(model) = self.model(model) else {
            return vec![];
        };
        let serving = model.serving();
        let endpoint = |r: &Arc<Replica>| ReplicaEndpoint {
            id: r.id,
            at: r.at.clone(),
        };
        serving.replicas.iter().map(endpoint).collect()
    }

    /// Requests that a replica of `model` has answered since traffic first reached it; `None` when
    /// none does.
    pub fn answered(&self, model: ModelId, replica: ReplicaId) -> Option<u64> {
        let serving = self.model(model).ok()?.serving();
        let found = serving.replicas.iter().find(|r| r.id == replica)?;
        Some(found.answered())
    }

    /// How `model` is doing; `None` when it has never been set or was cleared.
    pub fn stats(&self, model: ModelId) -> Option<Stats> {
        self.model(model).ok().map(|m| m.stats())
    }

    /// How long nobody has asked `model`: not at all while a request is not answered yet. `None` when
    /// it has never been set or was cleared.
    pub fn idle(&self, model: ModelId) -> Option<Duration> {
        self.model(model).ok().map(|m| m.idle())
    }

    /// A model, which is made if it is not there.
    fn known(&self, model: ModelId) -> Arc<Model> {
        self.models
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(model)
            .or_insert_with(|| Arc::new(Model::new(self.options.clone(), self.told.clone())))
            .clone()
    }

    fn model(&self, model: ModelId) -> Result<Arc<Model>> {
        self.models
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&model)
            .cloned()
            .ok_or_else(model::unavailable)
    }
}

fn retired(old: &Serving, new: &Serving) -> Retired {
    let gone = |r: &&Arc<Replica>| !new.replicas.iter().any(|n| Arc::ptr_eq(n, r));
    Retired(old.replicas.iter().filter(gone).cloned().collect())
}

// === impl Retired ===

impl Retired {
    /// Each replica by itself.
    pub fn split(self) -> Vec<(ReplicaId, Self)> {
        let alone = |replica: Arc<Replica>| (replica.id, Self(vec![replica]));
        self.0.into_iter().map(alone).collect()
    }

    /// Waits until nothing is in flight in any of them, but not past `limit`; tells whether so.
    pub async fn drained(self, limit: Duration) -> bool {
        let all = async {
            for replica in &self.0 {
                replica.drain().await;
            }
        };
        let drained = tokio::time::timeout(limit, all).await.is_ok();
        for replica in &self.0 {
            replica.close_idle();
        }
        drained
    }
}

// === impl ModelPredictor ===

#[async_trait]
impl Predictor for ModelPredictor {
    async fn predict(&self, inputs: RecordBatch, deadline: Instant) -> Result<RecordBatch> {
        self.gateway
            .predict_timed(self.model, inputs, deadline, &self.timings)
            .await
    }
}
