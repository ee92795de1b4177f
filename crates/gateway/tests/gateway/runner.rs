//! A server on a Unix socket that speaks the runner's contract and misbehaves on demand.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arrow_array::{
    Array as _, ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
    cast::AsArray as _, types::Float64Type,
};
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use luthier_types::runner::{
    LoadPhase, Ready, RunnerError, RunnerErrorKind, TIMEOUT_HEADER, TIMING_HEADER,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What it says of the time that each call took.
const TIMING: &str = "queue;dur=1, frame;dur=2, model;dur=3";

/// How a predict is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// `y` is twice the first input.
    Double,
    /// As `Double`, after a time, one call after another.
    Slow(Duration),
    /// The same as integers.
    Ints,
    /// These columns instead.
    Columns(Vec<&'static str>),
    /// One row, however many were asked for.
    OneRow,
    /// These bytes, as a success.
    Bytes(Vec<u8>),
    /// A refusal.
    Error(RunnerErrorKind),
    /// A refusal with a message of so many bytes.
    Rant(usize),
    /// A refusal when any input is negative, else as `Double`.
    Picky,
    /// The end of the connection when any input is negative, else as `Double`.
    Mortal,
    /// The connection ends in the middle of the answer.
    Torn,
    /// Once another answer has been set, with that.
    Held,
    /// As `Held` for more than one row, else as `Double`.
    HeldJoined,
    /// Not at all.
    Never,
    /// Once another answer has been set, by ending the connection, whatever the client does: a
    /// model cannot be interrupted.
    Deaf,
}

struct Shared {
    answer: watch::Sender<Answer>,
    phase: Mutex<LoadPhase>,
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    hang_ups: AtomicUsize,
    timeout: Mutex<Option<u64>>,
    calls: Mutex<Vec<usize>>,
    /// Held by the call that is in the model.
    python: tokio::sync::Mutex<()>,
}

/// A running server; ends with its value.
pub(crate) struct Runner {
    dir: TempDir,
    shared: Arc<Shared>,
    task: Mutex<JoinHandle<()>>,
}

impl Runner {
    pub(crate) async fn start(answer: Answer) -> Self {
        let dir = TempDir::new().unwrap();
        let shared = Arc::new(Shared {
            answer: watch::Sender::new(answer),
            phase: Mutex::new(LoadPhase::Ready),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            hang_ups: AtomicUsize::new(0),
            timeout: Mutex::new(None),
            calls: Mutex::default(),
            python: tokio::sync::Mutex::default(),
        });
        let task = listen(dir.path().join("r.sock"), shared.clone());
        Self {
            dir,
            shared,
            task: Mutex::new(task),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("r.sock")
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.shared.answer.send_replace(answer);
    }

    pub(crate) fn phase(&self, phase: LoadPhase) {
        *self.shared.phase.lock().unwrap() = phase;
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Whether it has been killed and every connection is closed.
    pub(crate) fn is_gone(&self) -> bool {
        !self.socket().exists() && self.shared.open.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Clients that said they do not wait any more.
    pub(crate) fn hang_ups(&self) -> usize {
        self.shared.hang_ups.load(Ordering::SeqCst)
    }

    /// The milliseconds that the last request could wait.
    pub(crate) fn timeout(&self) -> Option<u64> {
        *self.shared.timeout.lock().unwrap()
    }

    /// The rows of each call so far.
    pub(crate) fn calls(&self) -> Vec<usize> {
        self.shared.calls.lock().unwrap().clone()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// Ends it with every connection, as SIGKILL would.
    pub(crate) fn kill(&self) {
        self.task.lock().unwrap().abort();
        let _ = std::fs::remove_file(self.socket());
    }

    /// Kills it and starts it anew on the same path.
    pub(crate) async fn restart(&self) {
        self.kill();
        let ended = {
            let mut task = self.task.lock().unwrap();
            std::mem::replace(&mut *task, tokio::spawn(async {}))
        };
        let _ = ended.await;
        *self.task.lock().unwrap() = listen(self.socket(), self.shared.clone());
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listen(socket: PathBuf, shared: Arc<Shared>) -> JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            shared.connections.fetch_add(1, Ordering::SeqCst);
            shared.open.fetch_add(1, Ordering::SeqCst);
            let open = Open(shared.clone());
            connections.spawn(connection(stream, shared.clone(), open));
        }
    })
}

/// An open connection.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(stream: UnixStream, shared: Arc<Shared>, _open: Open) {
    let answer = shared.answer.borrow().clone();
    match answer {
        Answer::Torn => return torn(stream, &shared).await,
        Answer::Deaf => return deaf(stream, &shared).await,
        _ => {}
    }
    let service = service_fn(move |request| serve(request, shared.clone()));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn torn(mut stream: UnixStream, shared: &Shared) {
    stream.readable().await.unwrap();
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\nthe first bytes only";
    let _ = stream.write_all(head).await;
}

async fn deaf(mut stream: UnixStream, shared: &Shared) {
    let mut request = [0; 4096];
    stream.readable().await.unwrap();
    shared.requests.fetch_add(1, Ordering::SeqCst);
    while stream.read(&mut request).await.unwrap() > 0 {}
    shared.hang_ups.fetch_add(1, Ordering::SeqCst);
    let mut answers = shared.answer.subscribe();
    let _ = answers.wait_for(|a| *a != Answer::Deaf).await;
}

/// Counts a client that has left when it is dropped.
struct Unanswered<'a>(&'a Shared);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.hang_ups.fetch_add(1, Ordering::SeqCst);
    }
}

async fn serve(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let path = request.uri().path().to_owned();
    if path == "/v2/health/live" {
        return Ok(Response::new(Full::default()));
    }
    if path == "/v2/health/ready" {
        let phase = *shared.phase.lock().unwrap();
        return Ok(reply(phase == LoadPhase::Ready, &ready(phase)));
    }
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let timeout = request.headers().get(TIMEOUT_HEADER);
    *shared.timeout.lock().unwrap() = timeout.map(|v| v.to_str().unwrap().parse().unwrap());
    let running = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most.fetch_max(running, Ordering::SeqCst);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let unanswered = Unanswered(&shared);
    let joined = luthier_data::from_ipc(body.clone()).unwrap().num_rows() > 1;
    let mut answers = shared.answer.subscribe();
    let answer = answers
        .wait_for(|a| *a != Answer::Held && !(joined && *a == Answer::HeldJoined))
        .await
        .unwrap()
        .clone();
    if let Answer::Slow(takes) = answer {
        let _one = shared.python.lock().await;
        tokio::time::sleep(takes).await;
    }
    if answer == Answer::Never {
        std::future::pending::<()>().await;
    }
    std::mem::forget(unanswered);
    shared.running.fetch_sub(1, Ordering::SeqCst);
    if let Answer::Error(kind) = answer {
        return Ok(reply(false, &refusal(kind)));
    }
    if let Answer::Rant(length) = answer {
        let mut rant = refusal(RunnerErrorKind::PredictRaised);
        rant.message = "x".repeat(length);
        return Ok(reply(false, &rant));
    }
    if let Some(hook) = path.strip_prefix("/custom-explain/") {
        let mut response = reply(true, &serde_json::json!({"hook": hook}));
        let timing = http::HeaderValue::from_static(TIMING);
        response.headers_mut().insert(TIMING_HEADER, timing);
        return Ok(response);
    }
    let inputs = luthier_data::from_ipc(body).unwrap();
    shared.calls.lock().unwrap().push(inputs.num_rows());
    let x = inputs.column(0).as_primitive_opt::<Float64Type>();
    let negative = x.is_some_and(|x| x.values().iter().any(|v| *v < 0.0));
    let bytes = match answer {
        Answer::Picky if negative => {
            return Ok(reply(false, &refusal(RunnerErrorKind::PredictRaised)));
        }
        Answer::Mortal if negative => return Err(std::io::Error::other("killed by a row")),
        Answer::Bytes(bytes) => bytes,
        answer => luthier_data::to_ipc(&table(&inputs, answer)).unwrap(),
    };
    let response = Response::builder().header(TIMING_HEADER, TIMING);
    Ok(response.body(Full::new(bytes.into())).unwrap())
}

fn table(inputs: &RecordBatch, answer: Answer) -> RecordBatch {
    let x = inputs.column(0).as_primitive_opt::<Float64Type>();
    let mut y: Float64Array = match x {
        Some(x) => x.unary(|v| v * 2.0),
        None => vec![0.0; inputs.num_rows()].into(),
    };
    if answer == Answer::Ints {
        let ints: Int64Array = y.unary(|v| v as i64);
        return RecordBatch::try_from_iter([("y", Arc::new(ints) as ArrayRef)]).unwrap();
    }
    if answer == Answer::OneRow {
        y = y.slice(0, 1);
    }
    let names = match answer {
        Answer::Columns(names) => names,
        _ => vec!["y"],
    };
    let fields: Vec<Field> = names
        .iter()
        .map(|n| Field::new(*n, y.data_type().clone(), true))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(y.len()));
    let columns = names
        .iter()
        .map(|_| Arc::new(y.clone()) as ArrayRef)
        .collect();
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap()
}

fn ready(phase: LoadPhase) -> Ready {
    Ready {
        phase,
        import_seconds: None,
        load_seconds: None,
        memory_bytes: 1,
        python: "3.11.0".into(),
        packages: serde_json::Map::new(),
        declines_batching: false,
        error: None,
    }
}

fn refusal(kind: RunnerErrorKind) -> RunnerError {
    RunnerError {
        kind,
        message: "bad row".into(),
        exception: Some("ValueError".into()),
        traceback: Some("Traceback: line 3".into()),
        module: None,
    }
}

fn reply(good: bool, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(serde_json::to_vec(body).unwrap().into()));
    if !good {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
