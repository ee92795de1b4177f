//! What every thread shares: how far the runner is, its model, and who is in flight.

use std::{
    os::fd::RawFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use luthier_types::runner::{Live, LoadPhase, Ready, RunnerConfig, RunnerError, RunnerErrorKind};
use nix::sys::socket::{Shutdown, shutdown};
use serde_json::{Map, Value};

use crate::{bridge::Model, failure, metrics::Metrics, process};

/// State of the runner.
pub(crate) struct State {
    pub(crate) config: RunnerConfig,
    pub(crate) metrics: Metrics,
    python: String,
    packages: OnceLock<Map<String, Value>>,
    load: Mutex<Load>,
    flight: Mutex<Flight>,
    changed: Condvar,
    draining: AtomicBool,
    no_threads: AtomicBool,
    listener: OnceLock<RawFd>,
}

struct Load {
    phase: LoadPhase,
    import_seconds: Option<f64>,
    load_seconds: Option<f64>,
    error: Option<RunnerError>,
    declines_batching: bool,
    model: Option<Arc<Model>>,
}

#[derive(Default)]
struct Flight {
    /// Requests whose response is not yet written.
    requests: usize,
    /// Calls of the model that run.
    calls: Vec<Running>,
    /// The main thread waits for the end, so that it can leave in order.
    waiting: bool,
    stopped: bool,
}

/// A call of the model that runs.
struct Running {
    began: Instant,
    /// Until when its answer is waited for.
    deadline: Option<Instant>,
}

/// Counts one request for as long as it lives.
pub(crate) struct InFlight<'a>(&'a State);

/// The right to call the model, one of `config.threads`.
pub(crate) struct Permit<'a>(&'a State, Instant);

// === impl State ===

impl State {
    pub(crate) fn new(config: RunnerConfig, python: String) -> Self {
        Self {
            config,
            metrics: Metrics::default(),
            python,
            packages: OnceLock::new(),
            load: Mutex::new(Load {
                phase: LoadPhase::Starting,
                import_seconds: None,
                load_seconds: None,
                error: None,
                declines_batching: false,
                model: None,
            }),
            flight: Mutex::default(),
            changed: Condvar::new(),
            draining: AtomicBool::new(false),
            no_threads: AtomicBool::new(false),
            listener: OnceLock::new(),
        }
    }

    /// The listening socket, which lives as long as the process unless it is told to stop.
    pub(crate) fn listens(&self, listener: RawFd) {
        let _ = self.listener.set(listener);
    }

    pub(crate) fn set_packages(&self, packages: Map<String, Value>) {
        let _ = self.packages.set(packages);
    }

    pub(crate) fn importing(&self) {
        lock(&self.load).phase = LoadPhase::Importing;
    }

    pub(crate) fn loading(&self, import_seconds: f64) {
        let mut load = lock(&self.load);
        load.phase = LoadPhase::Loading;
        load.import_seconds = Some(import_seconds);
    }

    pub(crate) fn ready(&self, load_seconds: f64, model: Model, declines_batching: bool) {
        let mut load = lock(&self.load);
        load.phase = LoadPhase::Ready;
        load.load_seconds = Some(load_seconds);
        load.declines_batching = declines_batching;
        load.model = Some(Arc::new(model));
    }

    pub(crate) fn fail(&self, error: RunnerError) {
        let mut load = lock(&self.load);
        load.phase = LoadPhase::Failed;
        load.error = Some(error);
    }

    /// What `GET /v2/health/ready` says. A runner that is stopping is not ready.
    pub(crate) fn readiness(&self) -> (bool, Ready) {
        let load = lock(&self.load);
        let ready = Ready {
            phase: load.phase,
            import_seconds: load.import_seconds,
            load_seconds: load.load_seconds,
            memory_bytes: process::memory_bytes(),
            python: self.python.clone(),
            packages: self.packages.get().cloned().unwrap_or_default(),
            declines_batching: load.declines_batching,
            error: load.error.clone(),
        };
        (ready.phase == LoadPhase::Ready && !self.draining(), ready)
    }

    pub(crate) fn load_seconds(&self) -> (Option<f64>, Option<f64>) {
        let load = lock(&self.load);
        (load.import_seconds, load.load_seconds)
    }

    /// The model, or why there is none.
    pub(crate) fn model(&self) -> Result<Arc<Model>, RunnerError> {
        let load = lock(&self.load);
        match &load.model {
            Some(model) => Ok(Arc::clone(model)),
            None if load.phase == LoadPhase::Failed => {
                let why = load
                    .error
                    .as_ref()
                    .map_or("unknown", |e| e.message.as_str());
                Err(failure(
                    RunnerErrorKind::NotReady,
                    format!("the model could not be loaded: {why}"),
                ))
            }
            None => Err(failure(
                RunnerErrorKind::NotReady,
                "the model is still being loaded",
            )),
        }
    }

    pub(crate) fn enter(&self) -> InFlight<'_> {
        lock(&self.flight).requests += 1;
        InFlight(self)
    }

    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.flight).requests
    }

    /// Waits until fewer than `config.threads` calls run, for one whose answer is waited for until
    /// `deadline`.
    pub(crate) fn permit(&self, deadline: Option<Instant>) -> Permit<'_> {
        let most = self.most_calls();
        let mut flight = lock(&self.flight);
        while flight.calls.len() >= most {
            flight = self
                .changed
                .wait(flight)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let began = Instant::now();
        flight.calls.push(Running { began, deadline });
        Permit(self, began)
    }

    fn most_calls(&self) -> usize {
        self.config.threads.max(1) as usize
    }

    /// What `GET /v2/health/live` says.
    pub(crate) fn live(&self) -> Live {
        let now = Instant::now();
        let flight = lock(&self.flight);
        let overdue =
            |call: &Running| Some((now.checked_duration_since(call.deadline?)?, call.began));
        let worst = flight.calls.iter().filter_map(overdue).max_by_key(|c| c.0);
        let mut live = self.metrics.live();
        if let Some((overdue, began)) = worst {
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            live.overdue_ms = millis(overdue);
            live.overdue_running_ms = millis(now - began);
        }
        live
    }

    /// The system refused a thread for a connection.
    pub(crate) fn lacks_threads(&self) {
        self.no_threads.store(true, Ordering::Relaxed);
    }

    /// Why there is no thread for a connection.
    pub(crate) fn why_busy(&self) -> &'static str {
        if self.no_threads.load(Ordering::Relaxed) {
            "no thread could be started for the connection"
        } else {
            "there are too many connections"
        }
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Lets what is in flight end, for `patience` at most, then frees the main thread. Returns
    /// whether that one waits.
    pub(crate) fn drain(&self, patience: Duration) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.get() {
            let _ = shutdown(*listener, Shutdown::Both);
        }
        if let Some(path) = self.config.listen.strip_prefix("unix:") {
            let _ = fs_err::remove_file(path);
        }
        let end = Instant::now() + patience;
        let mut flight = lock(&self.flight);
        while flight.requests > 0 {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                break;
            };
            flight = self
                .changed
                .wait_timeout(flight, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        flight.stopped = true;
        let waiting = flight.waiting;
        drop(flight);
        self.changed.notify_all();
        waiting
    }

    pub(crate) fn wait_stopped(&self) {
        let mut flight = lock(&self.flight);
        flight.waiting = true;
        while !flight.stopped {
            flight = self
                .changed
                .wait(flight)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

// === impl InFlight, Permit ===

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut flight = lock(&self.0.flight);
        flight.requests -= 1;
        let tell = flight.requests == 0 && self.0.draining();
        drop(flight);
        if tell {
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut flight = lock(&self.0.flight);
        let tell = flight.calls.len() == self.0.most_calls();
        let mine = flight.calls.iter().position(|call| call.began == self.1);
        if let Some(mine) = mine {
            flight.calls.swap_remove(mine);
        }
        drop(flight);
        if tell {
            self.0.changed.notify_all();
        }
    }
}

// A thread that panicked leaves nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
