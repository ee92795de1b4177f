//! The contract between the server and the runner: configuration in, health and errors out.

use serde::{Deserialize, Serialize};

use crate::{DataType, layout::container};

/// Media type of tables in both directions of `POST /predict`.
pub const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// Header of a request that calls the model: the milliseconds that its answer is waited for. A call
/// that could begin only after them is not made.
pub const TIMEOUT_HEADER: &str = "luthier-timeout-ms";

/// Environment variable by which a memory-hungry allocator or BLAS is told how many threads to
/// use; see [`RunnerConfig::threads`].
pub const THREADS_ENV: &str = "OMP_NUM_THREADS";

/// Header of an answer by which the runner says where the time went, in milliseconds: waiting for
/// the model to be free, making frames, and in the model.
pub const TIMING_HEADER: &str = "server-timing";

/// The descriptor by which a program gets the socket that it listens on, opened for it.
pub const LISTENER: i32 = 3;

/// What a replica runs, wherever it runs.
pub const COMMAND: [&str; 4] = [
    container::ENV_PYTHON,
    "-I",
    container::RUNNER_MAIN,
    container::CONFIG,
];

/// The environment variables of every replica: as few as do. How many threads its libraries use
/// is not among them, for that follows from its resources.
pub const ENVIRONMENT: [(&str, &str); 6] = [
    ("HOME", "/tmp"),
    ("LANG", "C.UTF-8"),
    ("PATH", "/opt/luthier/env/bin:/usr/local/bin:/usr/bin:/bin"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("PYTHONUNBUFFERED", "1"),
    // An arena for each thread would cost memory that small models do not have.
    ("MALLOC_ARENA_MAX", "2"),
];

/// Threads of a runner that serve HTTP, unless it is told otherwise: more than requests are sent
/// to one replica at a time, so that questions about it find one free.
pub const HTTP_THREADS: u32 = 8;

/// Largest request body a runner takes unless it is told otherwise, in bytes.
pub const MAX_BODY_BYTES: u64 = 256 << 20;

/// One input column as the package sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputColumn {
    /// Name.
    pub name: String,
    /// Decides the pandas dtype: float64, int64, bool, object, datetime64.
    pub data_type: DataType,
}

/// What the runner reads at start, as JSON, from the file named by its only argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerConfig {
    /// Directory of the package.
    pub package: String,
    /// What to listen on: `unix:/path`, `tcp:host:port`, or `fd:N`, a listening Unix socket that
    /// was handed over.
    pub listen: String,
    /// The model's inputs, in order.
    pub inputs: Vec<InputColumn>,
    /// The model's outputs, in order.
    pub outputs: Vec<String>,
    /// Threads that serve HTTP; health has one of its own besides.
    pub threads: u32,
    /// Largest request body taken, in bytes.
    pub max_body_bytes: u64,
}

/// How far the runner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadPhase {
    /// The interpreter is up; `package.py` is not yet imported.
    Starting,
    /// `package.py` is being imported.
    Importing,
    /// `get_model()` runs.
    Loading,
    /// Predictions are answered.
    Ready,
    /// Loading failed; `error` says why. The runner stays up to say so.
    Failed,
}

/// Body of `GET /v2/health/ready`: status 200 when ready, 503 otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// How far it is.
    pub phase: LoadPhase,
    /// Seconds that importing `package.py` took, once known.
    pub import_seconds: Option<f64>,
    /// Seconds that `get_model()` took, once known.
    pub load_seconds: Option<f64>,
    /// Resident memory of the process, in bytes.
    pub memory_bytes: u64,
    /// Version of the Python interpreter, for example `3.9.18`.
    pub python: String,
    /// Versions of the libraries installed in the environment, by normalised name.
    pub packages: serde_json::Map<String, serde_json::Value>,
    /// Whether the package says that rows of several requests must not be predicted together.
    #[serde(default)]
    pub declines_batching: bool,
    /// Set when `phase` is `failed`.
    pub error: Option<RunnerError>,
}

/// Body of `GET /v2/health/live`. A runner of an earlier server says less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// True.
    pub live: bool,
    /// Milliseconds for which the call of the model that is furthest past its time has run; 0 when
    /// none is.
    pub overdue_running_ms: u64,
    /// Milliseconds by which that call is past the time that its answer was waited for.
    pub overdue_ms: u64,
    /// Calls of `predict` that ended well.
    pub predicts: u64,
    /// Rows in them.
    pub rows: u64,
    /// Most rows in one of them.
    pub most_rows: u64,
}

/// Path of `GET` that gives, as text, where each of Python's threads is.
pub const STACKS_PATH: &str = "/debug/stacks";

/// Why the runner could not load the model or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerErrorKind {
    /// There is no `package.py`.
    NoPackage,
    /// `package.py` does not parse.
    SyntaxError,
    /// `package.py` imports a module that is not installed; `module` names it.
    MissingModule,
    /// Importing `package.py` raised.
    ImportFailed,
    /// `package.py` has no function `get_model`.
    NoGetModel,
    /// `get_model()` raised.
    GetModelRaised,
    /// The model has no method `predict`.
    NoPredict,
    /// `predict` raised.
    PredictRaised,
    /// `predict` did not return a pandas DataFrame.
    NotADataFrame,
    /// The result's columns are not the declared outputs.
    WrongColumns,
    /// The result's number of rows is not the input's.
    WrongRows,
    /// The result holds values that are not numbers, booleans or text.
    WrongValues,
    /// The request is malformed: not Arrow, a column missing, a type that does not fit.
    BadRequest,
    /// The request's body is larger than the limit.
    TooLarge,
    /// The model is not ready.
    NotReady,
    /// The time of the request was over, or its sender gone, before the model could be called.
    TooLate,
    /// The package has no such hook.
    NoSuchHook,
    /// A fault of the runner.
    Internal,
}

/// Body of every response of the runner that is not a success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerError {
    /// What kind of failure.
    pub kind: RunnerErrorKind,
    /// One sentence.
    pub message: String,
    /// Type of the Python exception, for example `ValueError`.
    pub exception: Option<String>,
    /// The Python traceback, frames of the runner left out.
    pub traceback: Option<String>,
    /// The module that is missing.
    pub module: Option<String>,
}
