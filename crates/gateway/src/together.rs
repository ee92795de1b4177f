//! One call of the model for several requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::RecordBatch;
use luthier_types::Result;

use crate::{
    call::{self, Call},
    connection::Failure,
    join::{joined, parted},
    model::{Model, Serving},
    place::Place,
    queue::Waits as _,
    timings::Inside,
    turns::{Met, Turn, Waiter},
};

/// Predicts the requests of `group` in one call and gives each its part. When the model refuses,
/// each is to ask again alone: one of them may be at fault, and its error must be its own and
/// nobody else's. To be run on a task of its own, since any of those who ask may leave; when all
/// have left, so does the call.
pub(crate) async fn predict(
    model: Arc<Model>,
    place: Place,
    serving: Arc<Serving>,
    mut group: Vec<Waiter>,
) {
    // Rows of those who have left meanwhile are not sent.
    group.retain(|w| !w.turn.is_closed());
    if group.len() < 2 {
        if let Some(waiter) = group.pop() {
            let _ = waiter.turn.send(Turn::Go(place, serving));
        }
        return;
    }
    let entries = group.len();
    let deadline = group.iter().map(|w| w.deadline).max();
    let table = joined(group.iter().filter_map(Waiter::inputs));
    let answer = async {
        let deadline = deadline.unwrap_or_else(Instant::now);
        match ask(&model, place, &serving, entries, table, deadline).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(error = %error.chain(), "requests could not be joined");
                Err(Met::Refused)
            }
        }
    };
    let answer = tokio::select! {
        answer = answer => answer,
        () = all_left(&mut group) => return,
    };
    match answer {
        Ok((table, took, inside)) => {
            model.answered_together(entries);
            let rows: Vec<usize> = group.iter().map(Waiter::rows).collect();
            for (waiter, part) in group.into_iter().zip(parted(&table, rows.into_iter())) {
                let _ = waiter.turn.send(Turn::Part(part, took, inside));
            }
        }
        Err(met) => {
            for waiter in group {
                let _ = waiter.turn.send(Turn::Again(met));
            }
        }
    }
}

/// The answer of the model to `table` and the time it took, or what was met instead.
async fn ask(
    model: &Model,
    place: Place,
    serving: &Serving,
    entries: usize,
    table: Result<RecordBatch>,
    deadline: Instant,
) -> Result<std::result::Result<(RecordBatch, Duration, Inside), Met>> {
    let table = table?;
    let replica = place.id();
    let request = Call::predict(&table)?.request(deadline)?;
    let began = Instant::now();
    let answer = match model.exchange(place, request, entries).await {
        Ok(answer) => match call::refusal(answer.status, &answer.body) {
            Some(error) => Err(error),
            None => {
                let outputs = &serving.package.outputs;
                call::prediction(answer.body, outputs, table.num_rows())
                    .map(|table| (table, answer.inside))
            }
        },
        Err(Failure::Connect(_)) => return Ok(Err(Met::Unreachable(replica))),
        Err(Failure::Broken(_)) => return Ok(Err(Met::Broken(replica))),
        Err(Failure::TooLarge(limit)) => Err(call::too_large(limit)),
    };
    let company = &mut model.state().company;
    Ok(match answer {
        Ok((answer, inside)) => {
            let took = began.elapsed();
            company.went_well(entries, table.num_rows(), took);
            Ok((answer, took, inside))
        }
        Err(error) => {
            tracing::debug!(error = %error.chain(), entries, "joined requests are asked alone");
            company.failed();
            Err(Met::Refused)
        }
    })
}

/// Returns when nobody waits any more.
async fn all_left(group: &mut [Waiter]) {
    for waiter in group {
        waiter.turn.closed().await;
    }
}
