//! The engine's questions and the model's answers, several at a time.

use std::{collections::VecDeque, time::Instant};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use luthier_data::RecordBatch;
use luthier_explain::{Explanation, Machine, Problem, explain as start};
use luthier_gateway::{Part, Timings};
use luthier_ports::Predictor;
use luthier_types::Result;

use crate::spool::heavy;

/// Drives an explanation to its end: asks `predictor`, with one more batch underway than there are
/// replicas, and tells the answers in order. The engine's own work is done where it holds up no
/// other request.
pub(crate) async fn explain(
    predictor: &dyn Predictor,
    problem: Problem,
    replicas: usize,
    deadline: Instant,
    timings: &Timings,
) -> Result<Explanation> {
    let starting = timings.start(Part::Explain);
    let mut machine = heavy(move || start(problem)).await?;
    drop(starting);
    let mut underway: FuturesOrdered<BoxFuture<'_, Result<RecordBatch>>> = FuturesOrdered::new();
    let mut told = None;
    let mut more = true;
    loop {
        let room = (replicas + 1).saturating_sub(underway.len());
        let stepping = timings.start(Part::Explain);
        let (back, batches, exhausted) =
            heavy(move || step(machine, told, if more { room } else { 0 })).await?;
        drop(stepping);
        machine = back;
        more &= !exhausted;
        for batch in batches {
            underway.push_back(predictor.predict(batch, deadline));
        }
        match underway.next().await {
            Some(answer) => told = Some(answer?),
            None => break,
        }
    }
    let _finishing = timings.start(Part::Explain);
    heavy(move || machine.finish()).await
}

type Stepped = (Box<dyn Machine>, VecDeque<RecordBatch>, bool);

/// Tells the machine an answer and takes up to `room` questions.
fn step(mut machine: Box<dyn Machine>, told: Option<RecordBatch>, room: usize) -> Result<Stepped> {
    if let Some(answer) = told {
        machine.tell(&answer)?;
    }
    let mut batches = VecDeque::new();
    while batches.len() < room {
        match machine.next_batch()? {
            Some(batch) => batches.push_back(batch),
            None => return Ok((machine, batches, true)),
        }
    }
    Ok((machine, batches, false))
}
