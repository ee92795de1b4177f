//! What is counted and measured of each model, and a look at everything there is to see.
//!
//! Counts of requests are kept here, by model, so that the path of a request neither formats nor
//! looks up names; everything else is read when somebody looks. Only models that exist are shown, so
//! that the number of series is bounded by what there is.

mod observed;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use luthier_types::{Code, ModelId, Result};
use prometheus_client::metrics::histogram::Histogram;

pub use observed::Observed;

/// Seconds: what a cheap model takes to what no client waits for.
const BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// What is counted of each model.
#[derive(Default)]
pub(crate) struct Metrics(RwLock<HashMap<ModelId, Arc<ModelMetrics>>>);

/// What is counted of one model.
#[derive(Default)]
pub(crate) struct ModelMetrics {
    pub(crate) predict: Operation,
    pub(crate) explain: Operation,
}

/// Requests of one kind.
pub(crate) struct Operation {
    seconds: Histogram,
    succeeded: AtomicU64,
    failed: Mutex<BTreeMap<String, u64>>,
}

impl Metrics {
    /// Those of a model, made when it is first asked for.
    pub(crate) fn of(&self, model: ModelId) -> Arc<ModelMetrics> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(model).or_default())
    }

    /// Forgets models for which `is_there` says no, and gives those that are.
    fn existing(&self, is_there: impl Fn(&ModelId) -> bool) -> HashMap<ModelId, Arc<ModelMetrics>> {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|model, _| is_there(model));
        known.clone()
    }
}

impl Default for Operation {
    fn default() -> Self {
        Self {
            seconds: Histogram::new(BUCKETS),
            succeeded: AtomicU64::new(0),
            failed: Mutex::default(),
        }
    }
}

impl Operation {
    /// Counts a request and measures how long it takes. One whose client leaves is not counted.
    pub(crate) async fn counted<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        let result = request.await;
        match &result {
            Ok(_) => _ = self.succeeded.fetch_add(1, Ordering::Relaxed),
            Err(error) => self.failed(error.code()),
        }
        self.seconds.observe(begun.elapsed().as_secs_f64());
        result
    }

    fn failed(&self, code: Code) {
        *self.failures().entry(code.to_string()).or_default() += 1;
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests by code, `ok` for those that succeeded.
    fn by_code(&self) -> BTreeMap<String, u64> {
        let mut codes = self.failures().clone();
        codes.insert("ok".to_owned(), self.succeeded.load(Ordering::Relaxed));
        codes
    }
}
