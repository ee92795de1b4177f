//! A server on a Unix socket that speaks the runner's contract and misbehaves on demand.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow_array::{
    Array as _, ArrayRef, Float64Array, RecordBatch, RecordBatchOptions, cast::AsArray as _,
    types::Float64Type,
};
use arrow_schema::{Field, Schema};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use luthier_types::runner::{LoadPhase, Ready, RunnerError, RunnerErrorKind};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How a predict is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// `y` is twice the first input.
    Double,
    /// These columns instead.
    Columns(Vec<&'static str>),
    /// One row, however many were asked for.
    OneRow,
    /// These bytes, as a success.
    Bytes(Vec<u8>),
    /// A refusal.
    Error(RunnerErrorKind),
    /// The connection ends in the middle of the answer.
    Torn,
    /// Once another answer has been set, with that.
    Held,
    /// Not at all.
    Never,
}

struct Shared {
    answer: watch::Sender<Answer>,
    phase: Mutex<LoadPhase>,
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
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
    if *shared.answer.borrow() == Answer::Torn {
        return torn(stream, &shared).await;
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

async fn serve(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    if path == "/v2/health/live" {
        return Ok(Response::new(Full::default()));
    }
    if path == "/v2/health/ready" {
        let phase = *shared.phase.lock().unwrap();
        return Ok(reply(phase == LoadPhase::Ready, &ready(phase)));
    }
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let running = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most.fetch_max(running, Ordering::SeqCst);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut answers = shared.answer.subscribe();
    let answer = answers
        .wait_for(|a| *a != Answer::Held)
        .await
        .unwrap()
        .clone();
    if answer == Answer::Never {
        std::future::pending::<()>().await;
    }
    shared.running.fetch_sub(1, Ordering::SeqCst);
    if let Answer::Error(kind) = answer {
        return Ok(reply(false, &refusal(kind)));
    }
    if let Some(hook) = path.strip_prefix("/custom-explain/") {
        return Ok(reply(true, &serde_json::json!({"hook": hook})));
    }
    let bytes = match answer {
        Answer::Bytes(bytes) => bytes,
        answer => {
            luthier_data::to_ipc(&table(&luthier_data::from_ipc(body).unwrap(), answer)).unwrap()
        }
    };
    Ok(Response::new(Full::new(bytes.into())))
}

fn table(inputs: &RecordBatch, answer: Answer) -> RecordBatch {
    let x = inputs.column(0).as_primitive::<Float64Type>();
    let mut y: Float64Array = x.unary(|v| v * 2.0);
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
