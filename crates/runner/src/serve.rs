//! Connections, and which answer each path gets.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use luthier_types::runner::{ARROW_STREAM, RunnerError, RunnerErrorKind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pyo3::Python;
use serde::Serialize;

use crate::{
    decode, encode, failure,
    http::{Reader, Refused, Request},
    metrics,
    state::State,
    stream::Listener,
};

/// Connections beside those that call the model.
const SPARE_CONNECTIONS: usize = 64;
/// What Python code expects of a thread. Only what is touched takes memory.
const STACK: usize = 8 * 1024 * 1024;
/// How long a client may take whom the accept thread serves by itself.
const HURRY: Duration = Duration::from_millis(100);
/// Connections that wait for the accept thread to serve them; past it the oldest is dropped.
const MOST_CROWD: usize = 256;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; version=0.0.4";

struct Response {
    path: &'static str,
    status: u16,
    media_type: &'static str,
    body: Vec<u8>,
}

/// What a connection is to the limit on connections.
struct Slot(Arc<AtomicUsize>);

/// Starts to listen and to answer.
pub(crate) fn start(state: &Arc<State>) -> io::Result<()> {
    let listener = Listener::bind(&state.config.listen)?;
    state.listens(listener.as_raw_fd());
    let state = Arc::clone(state);
    thread::Builder::new()
        .name("luthier-accept".to_owned())
        .spawn(move || accept(&listener, &state))?;
    Ok(())
}

fn accept(listener: &Listener, state: &Arc<State>) {
    let most = SPARE_CONNECTIONS + state.config.threads as usize;
    let open = Arc::new(AtomicUsize::new(0));
    let mut crowd: VecDeque<Reader> = VecDeque::new();
    loop {
        if !crowd.is_empty() && !attend(listener, &mut crowd, state) {
            continue;
        }
        let reader = match listener.accept().and_then(Reader::new) {
            Ok(reader) => reader,
            Err(_) if state.draining() => return,
            Err(_) => {
                // Out of descriptors, most likely: give the others time to end.
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let slot = Slot::take(&open);
        if let Some(reader) = give(reader, slot, open.load(Ordering::Relaxed) <= most, state) {
            if crowd.len() == MOST_CROWD {
                crowd.pop_front();
            }
            crowd.push_back(reader);
        }
    }
}

/// Gives a connection to a thread of its own; back when there can be none.
fn give(reader: Reader, slot: Slot, allowed: bool, state: &Arc<State>) -> Option<Reader> {
    if !allowed {
        return Some(reader);
    }
    // Through a channel, so that the connection is still here when there is no thread for it.
    let (give, take) = mpsc::sync_channel::<Reader>(1);
    let state = Arc::clone(state);
    let spawned = thread::Builder::new()
        .name("luthier-conn".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            if let Ok(reader) = take.recv() {
                connection(reader, &state, slot);
            }
        });
    match spawned {
        Ok(_) => give.send(reader).err().map(|e| e.0),
        Err(_) => Some(reader),
    }
}

/// Waits for a new connection or for one of the crowd to speak, and answers those that did.
/// Returns whether there is a new one.
fn attend(listener: &Listener, crowd: &mut VecDeque<Reader>, state: &State) -> bool {
    let mut polled: Vec<PollFd<'_>> = std::iter::once(listener.as_fd())
        .chain(crowd.iter().map(Reader::as_fd))
        .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
        .collect();
    if poll(&mut polled, PollTimeout::NONE).is_err() {
        return false;
    }
    // Whatever happened to a descriptor, an end or an error included.
    let mut spoke = polled
        .iter()
        .map(|p| p.any().unwrap_or(true))
        .collect::<Vec<_>>()
        .into_iter();
    let new = spoke.next().unwrap_or(false);
    for (reader, spoke) in std::mem::take(crowd).into_iter().zip(spoke) {
        if spoke {
            overflow(reader, state);
        } else {
            crowd.push_back(reader);
        }
    }
    new
}

/// Serves one request of a connection that has no thread, if it is about health.
fn overflow(mut reader: Reader, state: &State) {
    if reader.wait(Some(HURRY)).is_err() {
        return;
    }
    let response = match reader.request(0) {
        Err(Refused::Closed) => return,
        Ok(request) => without_model(&request, state).unwrap_or_else(|| busy("other")),
        Err(Refused::Answer(..)) => busy("other"),
    };
    state.metrics.answered(response.path, response.status);
    let _ = reader.respond(response.status, response.media_type, &response.body, false);
}

fn busy(path: &'static str) -> Response {
    error(
        path,
        503,
        &failure(RunnerErrorKind::NotReady, "there are too many connections"),
    )
}

fn connection(mut reader: Reader, state: &State, slot: Slot) {
    let Some(request) = until_model(&mut reader, state) else {
        return;
    };
    // From here on the thread keeps its Python thread state, without holding the GIL: making one
    // for every request would cost more than the rest of the call.
    Python::attach(|py| {
        py.detach(move || {
            let slot = slot;
            let mut next = Some(request);
            while let Some(request) = next.take() {
                let keep = {
                    let _flight = state.enter();
                    send(
                        &mut reader,
                        state,
                        with_model(&request, state),
                        request.keep_alive,
                    )
                };
                if keep {
                    next = until_model(&mut reader, state);
                }
            }
            drop(reader);
            drop(slot);
        });
    });
}

/// Answers what needs no model, and returns the first request that does.
fn until_model(reader: &mut Reader, state: &State) -> Option<Request> {
    loop {
        reader.wait(None).ok()?;
        let _flight = state.enter();
        match reader.request(state.config.max_body_bytes) {
            Ok(request) => match without_model(&request, state) {
                Some(response) => {
                    if !send(reader, state, response, request.keep_alive) {
                        return None;
                    }
                }
                None => return Some(request),
            },
            Err(Refused::Closed) => return None,
            Err(Refused::Answer(status, message)) => {
                let kind = match status {
                    413 => RunnerErrorKind::TooLarge,
                    _ => RunnerErrorKind::BadRequest,
                };
                send(
                    reader,
                    state,
                    error("other", status, &failure(kind, message)),
                    false,
                );
                reader.linger();
                return None;
            }
        }
    }
}

/// Whether the connection may be used again.
fn send(reader: &mut Reader, state: &State, response: Response, keep_alive: bool) -> bool {
    let keep_alive = keep_alive && !state.draining();
    state.metrics.answered(response.path, response.status);
    reader
        .respond(
            response.status,
            response.media_type,
            &response.body,
            keep_alive,
        )
        .is_ok()
        && keep_alive
}

/// The answer to a request that does not call the model.
fn without_model(request: &Request, state: &State) -> Option<Response> {
    let get = matches!(request.method.as_str(), "GET" | "HEAD");
    let path = request.path.as_str();
    let known = match path {
        "/v2/health/live" if get => json("live", 200, &serde_json::json!({ "live": true })),
        "/v2/health/ready" if get => {
            let (ready, body) = state.readiness();
            json("ready", if ready { 200 } else { 503 }, &body)
        }
        "/metrics" if get => Response {
            path: "metrics",
            status: 200,
            media_type: TEXT,
            body: metrics::text(state).into_bytes(),
        },
        _ if calls_model(request) => match state.model() {
            Ok(_) => return None,
            // Not later: the GIL may be held by what is loading.
            Err(failed) => error("predict", status(failed.kind), &failed),
        },
        _ if path.starts_with("/gradients/") && request.method == "POST" => error(
            "gradients",
            404,
            &failure(
                RunnerErrorKind::NoSuchHook,
                "this runner serves no gradients",
            ),
        ),
        "/v2/health/live" | "/v2/health/ready" | "/metrics" | "/predict" => error(
            "other",
            405,
            &failure(
                RunnerErrorKind::BadRequest,
                format!("{path} has another method"),
            ),
        ),
        _ => error(
            "other",
            404,
            &failure(
                RunnerErrorKind::BadRequest,
                format!("there is nothing at {path}"),
            ),
        ),
    };
    Some(known)
}

fn calls_model(request: &Request) -> bool {
    let path = request.path.as_str();
    request.method == "POST" && (path == "/predict" || path.starts_with("/custom-explain/"))
}

/// The answer to a request that calls the model.
fn with_model(request: &Request, state: &State) -> Response {
    let (path, name) = match request.path.strip_prefix("/custom-explain/") {
        Some(name) => ("custom-explain", Some(name)),
        None => ("predict", None),
    };
    let answer = catch_unwind(AssertUnwindSafe(|| match name {
        Some(name) => explain(name, &request.body, state).map(|body| (JSON, body)),
        None => predict(&request.body, state).map(|body| (ARROW_STREAM, body)),
    }));
    match answer {
        Ok(Ok((media_type, body))) => Response {
            path,
            status: 200,
            media_type,
            body,
        },
        Ok(Err(failed)) => error(path, status(failed.kind), &failed),
        Err(_) => error(
            path,
            500,
            &failure(RunnerErrorKind::Internal, "the runner failed"),
        ),
    }
}

fn predict(body: &[u8], state: &State) -> Result<Vec<u8>, RunnerError> {
    let model = state.model()?;
    let table = decode::table(body, &state.config)?;
    let _permit = state.permit();
    let (seconds, columns) = model.predict(&table)?;
    state.metrics.predicted(seconds, table.rows);
    encode::stream(&state.config.outputs, columns, table.rows)
}

fn explain(name: &str, body: &[u8], state: &State) -> Result<Vec<u8>, RunnerError> {
    let model = state.model()?;
    let name = percent_decoded(name)
        .ok_or_else(|| failure(RunnerErrorKind::BadRequest, "the name is not UTF-8"))?;
    let table = decode::table(body, &state.config)?;
    if table.rows != 1 {
        return Err(failure(
            RunnerErrorKind::BadRequest,
            format!("an explanation is of one row, not {}", table.rows),
        ));
    }
    let _permit = state.permit();
    model.explain(&name, &table)
}

const fn status(kind: RunnerErrorKind) -> u16 {
    match kind {
        RunnerErrorKind::BadRequest => 400,
        RunnerErrorKind::NoSuchHook => 404,
        RunnerErrorKind::TooLarge => 413,
        RunnerErrorKind::NotReady => 503,
        _ => 500,
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let hex = (*first == b'%').then(|| more.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &more[2..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(out).ok()
}

fn json(path: &'static str, status: u16, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).unwrap_or_default();
    Response {
        path,
        status,
        media_type: JSON,
        body,
    }
}

fn error(path: &'static str, status: u16, error: &RunnerError) -> Response {
    json(path, status, error)
}

// === impl Slot ===

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
