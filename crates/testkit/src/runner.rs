//! A model's process: the runner's contract on a Unix socket, computing in Rust.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response, StatusCode, body::Incoming, header::HeaderValue, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use luthier_data::{Missing, RowParser};
use luthier_types::{
    Column,
    runner::{LoadPhase, Ready, RunnerError, TIMING_HEADER},
};
use serde_json::{Map, Value, json};
use tokio::{
    net::UnixListener,
    task::{JoinHandle, JoinSet},
};

/// What a model does with a row: its outputs, or an error.
pub type Predict = dyn Fn(&Map<String, Value>) -> Map<String, Value> + Send + Sync;

/// How a model answers.
#[derive(Clone)]
pub enum Answer {
    /// Each row by a function.
    Rows(Arc<Predict>),
    /// With this error.
    Fails(RunnerError),
    /// Never.
    Silent,
}

struct State {
    answer: Mutex<Answer>,
    outputs: Vec<Column>,
    rows: AtomicU64,
    calls: AtomicU64,
}

/// A running model; ends with its value.
pub struct FakeRunner {
    socket: PathBuf,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl FakeRunner {
    /// What it says of the time that each call took.
    pub const TIMING: &str = "queue;dur=0.001, frame;dur=0.002, model;dur=0.003";

    /// Listens on `socket`, answering with `outputs` (all numbers).
    pub fn start(socket: &Path, outputs: &[&str], answer: Answer) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let state = Arc::new(State {
            answer: Mutex::new(answer),
            outputs: outputs.iter().map(|name| number(name)).collect(),
            rows: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                let service = service_fn(move |request| serve(request, state.clone()));
                connections
                    .spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            socket: socket.to_owned(),
            state,
            task,
        }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    /// Rows it was asked about.
    pub fn rows(&self) -> u64 {
        self.state.rows.load(Ordering::SeqCst)
    }

    /// Predict calls it was sent.
    pub fn calls(&self) -> u64 {
        self.state.calls.load(Ordering::SeqCst)
    }
}

impl Drop for FakeRunner {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn number(name: &str) -> Column {
    serde_json::from_value(json!({ "name": name, "data_type": "float" })).unwrap()
}

async fn serve(
    request: Request<Incoming>,
    state: Arc<State>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    if path.starts_with("/v2/health") {
        return Ok(reply(
            StatusCode::OK,
            &serde_json::to_vec(&ready()).unwrap(),
        ));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let answer = state.answer.lock().unwrap().clone();
    state.calls.fetch_add(1, Ordering::SeqCst);
    let predict = match answer {
        Answer::Rows(predict) => predict,
        Answer::Fails(error) => {
            let body = serde_json::to_vec(&error).unwrap();
            return Ok(reply(StatusCode::INTERNAL_SERVER_ERROR, &body));
        }
        Answer::Silent => std::future::pending().await,
    };
    let rows = luthier_data::batch_to_rows(&luthier_data::from_ipc(body).unwrap());
    state.rows.fetch_add(rows.len() as u64, Ordering::SeqCst);
    if path.starts_with("/custom-explain/") {
        let gem = json!({ "type": "container", "contents": [], "attribution": 0.0 });
        let body = json!({
            "explanations_by_output": { "y": gem },
            "extras_by_output": { "y": { "model_prediction": 1.0, "baseline_prediction": 0.5 } },
        });
        return Ok(reply(StatusCode::OK, &serde_json::to_vec(&body).unwrap()));
    }
    let answers: Vec<Map<String, Value>> = rows.iter().map(|row| predict(row)).collect();
    let columns: Vec<&Column> = state.outputs.iter().collect();
    let table = RowParser::new(&columns, Missing::Reject)
        .maps(&answers)
        .unwrap();
    Ok(reply(
        StatusCode::OK,
        &luthier_data::to_ipc(&table).unwrap(),
    ))
}

fn ready() -> Ready {
    let mut packages = Map::new();
    packages.insert("pandas".to_owned(), json!("1.5.3"));
    Ready {
        phase: LoadPhase::Ready,
        import_seconds: Some(0.1),
        load_seconds: Some(0.2),
        memory_bytes: 1,
        python: "3.11.7".to_owned(),
        packages,
        declines_batching: false,
        error: None,
    }
}

fn reply(status: StatusCode, body: &[u8]) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body)));
    *response.status_mut() = status;
    let timing = HeaderValue::from_static(FakeRunner::TIMING);
    response.headers_mut().insert(TIMING_HEADER, timing);
    response
}
