//! What runs inside a model's container: an HTTP server on threads of its own around a Python
//! model. One shared library for every CPython from 3.9 on; `python/` holds the Python side.
//!
//! ```text
//! main thread      imports the package, runs get_model(), then waits for the end
//! accept thread    takes connections; answers health itself when no other thread is left
//! connections      one thread each: read, answer health and metrics, or call the model
//! signal thread    SIGTERM: stop accepting, let what runs end, leave
//! ```
//!
//! Health and metrics are answered from [`state::State`] alone, and only a call of the model takes
//! the GIL, so neither a long predict nor a hanging `get_model()` can delay them.

mod accept;
mod bridge;
mod decode;
mod encode;
mod head;
mod http;
mod metrics;
mod packages;
mod process;
mod serve;
mod stacks;
mod state;
mod stream;
mod watch;
mod words;

use std::sync::Arc;

use luthier_types::runner::{RunnerConfig, RunnerError, RunnerErrorKind};
use pyo3::{exceptions::PyRuntimeError, prelude::*};

use crate::{bridge::Model, state::State};

/// The server as the Python side sees it.
#[pyclass(frozen)]
struct Server {
    state: Arc<State>,
}

/// Reads the configuration, starts to listen, and returns at once.
#[pyfunction]
fn start(py: Python<'_>, config: &str, python: String, path: Vec<String>) -> PyResult<Server> {
    py.detach(|| {
        let text = fs_err::read(config)?;
        let config: RunnerConfig = serde_json::from_slice(&text).map_err(|e| {
            PyRuntimeError::new_err(format!("{config} is not a configuration: {e}"))
        })?;
        process::few_arenas();
        let state = Arc::new(State::new(config, python));
        accept::start(&state)?;
        process::on_stop_signals(&state)?;
        // After the port is open: this reads directories, and health need not wait for it.
        state.set_packages(packages::installed(&path));
        Ok(Server { state })
    })
}

#[pymethods]
impl Server {
    /// `(directory, names of the inputs, names of the outputs, key of a batch without nulls)`.
    fn package(&self) -> (String, Vec<String>, Vec<String>, String) {
        let config = &self.state.config;
        (
            config.package.clone(),
            config.inputs.iter().map(|c| c.name.clone()).collect(),
            config.outputs.clone(),
            decode::full_key(&config.inputs),
        )
    }

    /// Lets `register`, which is `faulthandler`'s, write where Python's threads are when it is asked
    /// for.
    fn stacks(&self, register: &Bound<'_, PyAny>) -> PyResult<()> {
        stacks::set_up(register)
    }

    fn importing(&self) {
        self.state.importing();
    }

    fn loading(&self, import_seconds: f64) {
        self.state.loading(import_seconds);
    }

    fn ready(
        &self,
        load_seconds: f64,
        predict: Py<PyAny>,
        explain: Py<PyAny>,
        declines_batching: bool,
    ) {
        // Loading may have put handlers of its own in the place of ours.
        process::take_stop_signals();
        let model = Model::new(predict, explain);
        self.state.ready(load_seconds, model, declines_batching);
    }

    fn failed(
        &self,
        kind: &str,
        message: String,
        exception: Option<String>,
        traceback: Option<String>,
        module: Option<String>,
    ) {
        process::take_stop_signals();
        let kind = bridge::kind(kind);
        self.state.fail(RunnerError {
            kind,
            message,
            exception,
            traceback,
            module,
        });
    }

    /// Returns when the server has stopped.
    fn wait(&self, py: Python<'_>) {
        py.detach(|| self.state.wait_stopped());
    }

    /// Ends the process at once, with status 0.
    fn exit(&self) {
        process::exit(0);
    }
}

/// A failure without an exception behind it.
fn failure(kind: RunnerErrorKind, message: impl Into<String>) -> RunnerError {
    RunnerError {
        kind,
        message: message.into(),
        exception: None,
        traceback: None,
        module: None,
    }
}

/// The extension module.
#[pymodule]
fn luthier_runner(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Server>()?;
    module.add_function(wrap_pyfunction!(start, module)?)
}
