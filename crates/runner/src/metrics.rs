//! Counters, and their Prometheus text.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use luthier_types::runner::Live;

use crate::{process, state::State};

/// Upper bounds of the buckets of predict seconds.
const BOUNDS: [f64; 13] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0,
];

/// What is counted while requests are answered.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    buckets: [AtomicU64; BOUNDS.len()],
    predicts: AtomicU64,
    nanoseconds: AtomicU64,
    rows: AtomicU64,
    most_rows: AtomicU64,
}

impl Metrics {
    /// One answered request. `path` is one of a few words, never what the client sent.
    pub(crate) fn answered(&self, path: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((path, status)).or_default() += 1;
    }

    /// One call of the model's `predict`.
    pub(crate) fn predicted(&self, seconds: f64, rows: usize) {
        let at = BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = at.and_then(|at| self.buckets.get(at)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.predicts.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds
            .fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.most_rows.fetch_max(rows as u64, Ordering::Relaxed);
    }

    /// What health says of them.
    pub(crate) fn live(&self) -> Live {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Live {
            live: true,
            predicts: count(&self.predicts),
            rows: count(&self.rows),
            most_rows: count(&self.most_rows),
            ..Live::default()
        }
    }
}

/// The text of `GET /metrics`.
pub(crate) fn text(state: &State) -> String {
    let mut out = String::with_capacity(2048);
    render(state, &mut out);
    out
}

fn render(state: &State, out: &mut String) {
    let metrics = &state.metrics;
    head(
        out,
        "requests_total",
        "counter",
        "Answered requests by path and status.",
    );
    for ((path, status), count) in metrics
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        let _ = writeln!(
            out,
            "luthier_runner_requests_total{{path=\"{path}\",status=\"{status}\"}} {count}"
        );
    }
    head(
        out,
        "predict_seconds",
        "histogram",
        "Seconds spent in the model's predict.",
    );
    let mut sum = 0;
    for (bound, bucket) in BOUNDS.iter().zip(&metrics.buckets) {
        sum += bucket.load(Ordering::Relaxed);
        let _ = writeln!(
            out,
            "luthier_runner_predict_seconds_bucket{{le=\"{bound}\"}} {sum}"
        );
    }
    let predicts = metrics.predicts.load(Ordering::Relaxed);
    let seconds = metrics.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
    let _ = writeln!(
        out,
        "luthier_runner_predict_seconds_bucket{{le=\"+Inf\"}} {predicts}\n\
         luthier_runner_predict_seconds_sum {seconds}\n\
         luthier_runner_predict_seconds_count {predicts}"
    );
    let rows = metrics.rows.load(Ordering::Relaxed) as f64;
    value(out, "rows_total", "counter", "Rows predicted.", rows);
    value(
        out,
        "in_flight",
        "gauge",
        "Requests being answered, this one included.",
        state.in_flight() as f64,
    );
    value(
        out,
        "memory_bytes",
        "gauge",
        "Resident memory of the process.",
        process::memory_bytes() as f64,
    );
    let (import, load) = state.load_seconds();
    if let Some(import) = import {
        value(
            out,
            "import_seconds",
            "gauge",
            "Seconds that importing package.py took.",
            import,
        );
    }
    if let Some(load) = load {
        value(
            out,
            "load_seconds",
            "gauge",
            "Seconds that get_model() took.",
            load,
        );
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        out,
        "# HELP luthier_runner_{name} {help}\n# TYPE luthier_runner_{name} {kind}"
    );
}

fn value(out: &mut String, name: &str, kind: &str, help: &str, value: f64) {
    head(out, name, kind, help);
    let _ = writeln!(out, "luthier_runner_{name} {value}");
}
