//! The gateway against HTTP servers on Unix sockets that keep, or break, the runner's contract.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod holding;
mod hostile;
mod joining;
mod runner;
mod splitting;
mod timing;
mod waiting;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{Float64Array, RecordBatch, cast::AsArray as _, types::Float64Type};
use luthier_gateway::{Gateway, Options, Package, ReplicaEndpoint};
use luthier_types::{ModelId, ReplicaId};

use crate::runner::Runner;

pub(crate) fn rows(values: &[f64]) -> RecordBatch {
    RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(values.to_vec())) as _)]).unwrap()
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(crate) fn endpoint(runner: &Runner) -> ReplicaEndpoint {
    ReplicaEndpoint {
        id: ReplicaId::new(),
        at: runner.socket().into(),
    }
}

pub(crate) fn serving(options: Options, runners: &[&Runner]) -> (Arc<Gateway>, ModelId) {
    let gateway = Arc::new(Gateway::new(options));
    let model = ModelId::new();
    let set = runners.iter().map(|r| endpoint(r)).collect();
    drop(gateway.set(model, set, package(false)));
    (gateway, model)
}

pub(crate) fn package(batching: bool) -> Package {
    Package {
        outputs: vec!["y".into()],
        batching,
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

/// The values of the only column.
pub(crate) fn floats(table: &RecordBatch) -> Vec<f64> {
    table
        .column(0)
        .as_primitive::<Float64Type>()
        .values()
        .to_vec()
}
