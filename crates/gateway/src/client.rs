//! Single questions to one replica, each on a connection of its own: the handshake, liveness, the
//! validation predict. What serves traffic is the [`Gateway`](crate::Gateway).

use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use luthier_types::{
    Code, Error, Result, RunnerAddress,
    runner::{Live, Ready, STACKS_PATH},
};

use crate::{
    call::{self, Call},
    connection::{Answer, Connection, Failure},
};

/// Largest answer taken, in bytes.
const LIMIT: usize = 256 << 20;

/// How far the runner at `at` is.
///
/// # Errors
/// `ModelUnavailable` when it does not answer (yet), `PredictTimeout` at `deadline`, `Internal`
/// when its answer is not the contract's.
pub async fn ready(at: &RunnerAddress, deadline: Instant) -> Result<Ready> {
    let Answer { body, .. } = ask(at, &Call::get("/v2/health/ready"), deadline).await?;
    serde_json::from_slice(&body).map_err(|e| Error::internal("reading the runner's state", e))
}

/// Whether the runner at `at` answers, and how its calls of the model are doing.
///
/// # Errors
/// As [`ready`].
pub async fn live(at: &RunnerAddress, deadline: Instant) -> Result<Live> {
    let answer = ask(at, &Call::get("/v2/health/live"), deadline).await?;
    match call::refusal(answer.status, &answer.body) {
        Some(error) => Err(error),
        // Runners that others supply may say nothing of their calls.
        None => Ok(serde_json::from_slice(&answer.body).unwrap_or_default()),
    }
}

/// Where each of Python's threads is in the runner at `at`, as `faulthandler` writes it.
///
/// # Errors
/// As [`ready`].
pub async fn stacks(at: &RunnerAddress, deadline: Instant) -> Result<String> {
    let answer = ask(at, &Call::get(STACKS_PATH), deadline).await?;
    match call::refusal(answer.status, &answer.body) {
        Some(error) => Err(error),
        None => Ok(String::from_utf8_lossy(&answer.body).into_owned()),
    }
}

/// One predict, checked against `outputs` like any that the gateway sends.
///
/// # Errors
/// As [`Predictor::predict`](luthier_ports::Predictor::predict).
pub async fn predict(
    at: &RunnerAddress,
    inputs: &RecordBatch,
    outputs: &[String],
    deadline: Instant,
) -> Result<RecordBatch> {
    predict_timed(at, inputs, outputs, deadline)
        .await
        .map(|(answer, _)| answer)
}

/// As [`predict`], with the time that the model took: as its runner tells it, or else all of it.
///
/// # Errors
/// As [`predict`].
pub async fn predict_timed(
    at: &RunnerAddress,
    inputs: &RecordBatch,
    outputs: &[String],
    deadline: Instant,
) -> Result<(RecordBatch, Duration)> {
    let call = Call::predict(inputs)?;
    let begun = Instant::now();
    let answer = ask(at, &call, deadline).await?;
    let told = answer.inside.frame + answer.inside.model;
    let took = if told.is_zero() {
        begun.elapsed()
    } else {
        told
    };
    match call::refusal(answer.status, &answer.body) {
        Some(error) => Err(error),
        None => Ok((
            call::prediction(answer.body, outputs, inputs.num_rows())?,
            took,
        )),
    }
}

/// Calls the package's explain hook `name`.
///
/// # Errors
/// `NotSupported` when the package has no such hook; otherwise as [`predict`].
pub async fn custom_explain(
    at: &RunnerAddress,
    name: &str,
    inputs: &RecordBatch,
    deadline: Instant,
) -> Result<serde_json::Value> {
    let answer = ask(at, &Call::hook(name, inputs)?, deadline).await?;
    match call::refusal(answer.status, &answer.body) {
        Some(error) => Err(error),
        None => call::json(&answer.body),
    }
}

async fn ask(at: &RunnerAddress, call: &Call, deadline: Instant) -> Result<Answer> {
    let request = call.request(deadline)?;
    let work = async {
        let mut connection = Connection::open(at).await?;
        connection.exchange(request, LIMIT).await
    };
    match tokio::time::timeout_at(deadline.into(), work).await {
        Err(_) => Err(call::out_of_time()),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Failure::TooLarge(limit))) => Err(call::too_large(limit)),
        Ok(Err(Failure::Connect(e) | Failure::Broken(e))) => Err(Error::new(
            Code::ModelUnavailable,
            "the replica does not answer",
        )
        .hint("Look at the replica's log.")
        .source(e)),
    }
}
