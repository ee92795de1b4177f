//! Single questions to one replica, each on a connection of its own: the handshake, liveness, the
//! validation predict. What serves traffic is the [`Gateway`](crate::Gateway).

use std::{path::Path, time::Instant};

use arrow_array::RecordBatch;
use luthier_types::{Code, Error, Result, runner::Ready};

use crate::{
    call::{self, Call},
    connection::{Answer, Connection, Failure},
};

/// Largest answer taken, in bytes.
const LIMIT: usize = 256 << 20;

/// How far the runner behind `socket` is.
///
/// # Errors
/// `ModelUnavailable` when it does not answer (yet), `PredictTimeout` at `deadline`, `Internal`
/// when its answer is not the contract's.
pub async fn ready(socket: &Path, deadline: Instant) -> Result<Ready> {
    let Answer { body, .. } = ask(socket, &Call::get("/v2/health/ready"), deadline).await?;
    serde_json::from_slice(&body).map_err(|e| Error::internal("reading the runner's state", e))
}

/// Whether the runner behind `socket` answers.
///
/// # Errors
/// As [`ready`].
pub async fn live(socket: &Path, deadline: Instant) -> Result<()> {
    let answer = ask(socket, &Call::get("/v2/health/live"), deadline).await?;
    call::refusal(answer.status, &answer.body).map_or(Ok(()), Err)
}

/// One predict, checked against `outputs` like any that the gateway sends.
///
/// # Errors
/// As [`Predictor::predict`](luthier_ports::Predictor::predict).
pub async fn predict(
    socket: &Path,
    inputs: &RecordBatch,
    outputs: &[String],
    deadline: Instant,
) -> Result<RecordBatch> {
    let answer = ask(socket, &Call::predict(inputs)?, deadline).await?;
    match call::refusal(answer.status, &answer.body) {
        Some(error) => Err(error),
        None => call::prediction(answer.body, outputs, inputs.num_rows()),
    }
}

/// Calls the package's explain hook `name`.
///
/// # Errors
/// `NotSupported` when the package has no such hook; otherwise as [`predict`].
pub async fn custom_explain(
    socket: &Path,
    name: &str,
    inputs: &RecordBatch,
    deadline: Instant,
) -> Result<serde_json::Value> {
    let answer = ask(socket, &Call::hook(name, inputs)?, deadline).await?;
    match call::refusal(answer.status, &answer.body) {
        Some(error) => Err(error),
        None => call::json(&answer.body),
    }
}

async fn ask(socket: &Path, call: &Call, deadline: Instant) -> Result<Answer> {
    let request = call.request(deadline)?;
    let work = async {
        let mut connection = Connection::open(socket).await?;
        connection.exchange(request, LIMIT).await
    };
    match tokio::time::timeout_at(deadline.into(), work).await {
        Err(_) => Err(call::out_of_time()),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Failure::TooLarge)) => Err(call::too_large(LIMIT)),
        Ok(Err(Failure::Connect(e) | Failure::Broken(e))) => Err(Error::new(
            Code::ModelUnavailable,
            "the replica does not answer",
        )
        .hint("Look at the replica's log.")
        .source(e)),
    }
}
