//! One connection, and which answer each path gets.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use luthier_types::runner::{ARROW_STREAM, RunnerError, RunnerErrorKind, STACKS_PATH};
use pyo3::Python;
use serde::Serialize;

use crate::{
    decode, encode, failure,
    http::{Reader, Refused, Request},
    metrics, stacks,
    state::{InFlight, State},
    watch::Watch,
};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; version=0.0.4";

struct Response {
    path: &'static str,
    status: u16,
    media_type: &'static str,
    /// What the header [`TIMING_HEADER`](luthier_types::runner::TIMING_HEADER) says.
    timing: Option<String>,
    body: Vec<u8>,
}

/// Serves one request of a connection that has no thread, if it is about health.
pub(crate) fn overflow(mut reader: Reader, state: &State, hurry: Duration) {
    if reader.wait(Some(hurry)).is_err() {
        return;
    }
    let response = match reader.request(0) {
        Err(Refused::Closed) => return,
        Ok(request) => without_model(&request, state).unwrap_or_else(|| busy(state)),
        Err(Refused::Answer(..)) => busy(state),
    };
    state.metrics.answered(response.path, response.status);
    let _ = reader.respond(
        response.status,
        response.media_type,
        None,
        &response.body,
        false,
    );
}

fn busy(state: &State) -> Response {
    error(
        "other",
        503,
        &failure(RunnerErrorKind::NotReady, state.why_busy()),
    )
}

/// Serves a connection to its end. `slot` is dropped as soon as that is reached, which the thread
/// itself may not be: it still has to take the GIL.
pub(crate) fn connection<T: Send>(mut reader: Reader, state: &State, slot: T) {
    let Some(first) = until_model(&mut reader, state) else {
        return;
    };
    // From here on the thread keeps its Python thread state, without holding the GIL: making one
    // for every request would cost more than the rest of the call.
    Python::attach(|py| {
        py.detach(move || {
            let slot = slot;
            let mut next = Some(first);
            while let Some((mut request, flight)) = next.take() {
                let keep = {
                    let _flight = flight;
                    let body = std::mem::take(&mut request.body);
                    let response = with_model(&request, body, state, &|| wanted(&request, &reader));
                    send(&mut reader, state, response, request.keep_alive)
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

/// Answers what needs no model, and returns the first request that does: in flight from here on,
/// though it may have to wait for the GIL before anything else.
fn until_model<'a>(reader: &mut Reader, state: &'a State) -> Option<(Request, InFlight<'a>)> {
    loop {
        reader.wait(None).ok()?;
        let flight = state.enter();
        match reader.request(state.config.max_body_bytes) {
            Ok(request) => match without_model(&request, state) {
                Some(response) => {
                    if !send(reader, state, response, request.keep_alive) {
                        return None;
                    }
                }
                None => return Some((request, flight)),
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
            response.timing.as_deref(),
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
        "/v2/health/live" if get => json("live", 200, &state.live()),
        "/v2/health/ready" if get => {
            let (ready, body) = state.readiness();
            json("ready", if ready { 200 } else { 503 }, &body)
        }
        "/metrics" if get => Response {
            path: "metrics",
            status: 200,
            media_type: TEXT,
            timing: None,
            body: metrics::text(state).into_bytes(),
        },
        STACKS_PATH if get => Response {
            path: "stacks",
            status: 200,
            media_type: "text/plain",
            timing: None,
            body: stacks::text(),
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

/// Whether somebody still waits for the answer.
fn wanted(request: &Request, reader: &Reader) -> bool {
    request.deadline.is_none_or(|end| Instant::now() < end) && !reader.left()
}

/// The answer to a request that calls the model, if it is still `wanted` when the model is free.
fn with_model(
    request: &Request,
    body: Vec<u8>,
    state: &State,
    wanted: &dyn Fn() -> bool,
) -> Response {
    let (path, name) = match request.path.strip_prefix("/custom-explain/") {
        Some(name) => ("custom-explain", Some(name)),
        None => ("predict", None),
    };
    let deadline = request.deadline;
    let watch = Watch::start();
    let wanted = || {
        watch.model_is_free();
        wanted()
    };
    let answer = catch_unwind(AssertUnwindSafe(|| match name {
        Some(name) => {
            explain(name, body, deadline, state, &wanted, &watch).map(|body| (JSON, body))
        }
        None => predict(body, deadline, state, &wanted, &watch).map(|body| (ARROW_STREAM, body)),
    }));
    match answer {
        Ok(Ok((media_type, body))) => Response {
            path,
            status: 200,
            media_type,
            timing: Some(watch.header()),
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

fn predict(
    body: Vec<u8>,
    deadline: Option<Instant>,
    state: &State,
    wanted: &dyn Fn() -> bool,
    watch: &Watch,
) -> Result<Vec<u8>, RunnerError> {
    let model = state.model()?;
    let table = decoded(body, state)?;
    watch.waits_for_model();
    let _permit = state.permit(deadline);
    let (seconds, columns) = model.predict(&table, wanted)?;
    watch.in_model(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    state.metrics.predicted(seconds, table.rows);
    encode::stream(&state.config.outputs, columns, table.rows)
}

/// The Arrow library panics on some malformed streams.
fn decoded(body: Vec<u8>, state: &State) -> Result<decode::Table, RunnerError> {
    catch_unwind(|| decode::table(body, &state.config)).unwrap_or_else(|_| {
        Err(failure(
            RunnerErrorKind::BadRequest,
            "the body is not an Arrow IPC stream",
        ))
    })
}

fn explain(
    name: &str,
    body: Vec<u8>,
    deadline: Option<Instant>,
    state: &State,
    wanted: &dyn Fn() -> bool,
    watch: &Watch,
) -> Result<Vec<u8>, RunnerError> {
    let model = state.model()?;
    let name = percent_decoded(name)
        .ok_or_else(|| failure(RunnerErrorKind::BadRequest, "the name is not UTF-8"))?;
    let table = decoded(body, state)?;
    if table.rows != 1 {
        return Err(failure(
            RunnerErrorKind::BadRequest,
            format!("an explanation is of one row, not {}", table.rows),
        ));
    }
    watch.waits_for_model();
    let _permit = state.permit(deadline);
    let json = model.explain(&name, &table, wanted)?;
    // The frame of one row is not worth telling apart.
    watch.in_model(watch.since_free());
    Ok(json)
}

const fn status(kind: RunnerErrorKind) -> u16 {
    match kind {
        RunnerErrorKind::BadRequest => 400,
        RunnerErrorKind::NoSuchHook => 404,
        RunnerErrorKind::TooLarge => 413,
        RunnerErrorKind::NotReady => 503,
        RunnerErrorKind::TooLate => 504,
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
        timing: None,
        body,
    }
}

fn error(path: &'static str, status: u16, error: &RunnerError) -> Response {
    json(path, status, error)
}
