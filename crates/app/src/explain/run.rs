//! The engine's questions and the model's answers, several at a time, for as long as is allowed.

use std::{
    collections::VecDeque,
    future::Future,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use luthier_data::RecordBatch;
use luthier_explain::Machine;
use luthier_gateway::{Part, Timings};
use luthier_ports::Predictor;
use luthier_types::{Code, Error, Result};
use tokio::time::sleep_until;

use crate::spool::heavy;

/// How long a batch should take: short beside the time there is, and long beside what a call costs.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// Rows of the first batches, when nothing is known of the model, and most rows of any.
const FIRST_ROWS: usize = 64;
const MOST_ROWS: usize = 4096;
/// How much larger a batch may be than one before it.
const GROWTH: f64 = 16.0;
/// What is kept of the time for the answer itself: a share, and the most.
const KEPT: u32 = 20;
const MOST_KEPT: Duration = Duration::from_secs(2);

/// What an explanation may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// When the answer has to be there.
    pub(crate) deadline: Instant,
    /// The time until then, from the beginning.
    pub(crate) time: Duration,
    /// Most rows that the model is asked about.
    pub(crate) rows: u64,
}

impl Allowance {
    /// The result of `work`, if there is one by the deadline.
    pub(crate) async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout_at(self.deadline.into(), work).await {
            Err(_) => Err(self.late()),
            Ok(Err(error))
                if error.code() == Code::PredictTimeout && Instant::now() >= self.deadline =>
            {
                Err(self.late())
            }
            Ok(result) => result,
        }
    }

    /// The time was over before anything could be told.
    fn late(&self) -> Error {
        let cause = format!(
            "the explanation was not done after {} s",
            self.time.as_secs_f64()
        );
        Error::new(Code::PredictTimeout, cause).hint(
            "Lower num_permutations or the reference's num_samples, or give the deployment more cpu \
             or replicas.",
        )
    }
}

/// How many rows a batch should have, learnt from those answered.
struct Pace {
    rows: usize,
}

/// Drives an explanation to its end, or to the end of what is allowed: asks `predictor`, with one
/// more batch underway than there are replicas, and tells the answers in order. The engine's own
/// work is done where it holds up no other request.
pub(crate) async fn explain<F: Send + 'static>(
    predictor: &dyn Predictor,
    start: impl FnOnce() -> Result<Asking<F>> + Send + 'static,
    replicas: usize,
    allowed: Allowance,
    timings: &Timings,
) -> Result<F> {
    let deadline = allowed.deadline;
    let end = deadline.checked_sub((allowed.time / KEPT).min(MOST_KEPT));
    let end = end.unwrap_or(deadline);
    let starting = timings.start(Part::Explain);
    let mut machine = heavy(start).await?;
    drop(starting);
    let mut underway: FuturesOrdered<BoxFuture<'_, Result<Answered>>> = FuturesOrdered::new();
    let mut pace = Pace { rows: FIRST_ROWS };
    let mut may_ask = allowed.rows;
    let mut told = None;
    let mut more = true;
    loop {
        let room = match more && may_ask > 0 {
            true => (replicas + 1).saturating_sub(underway.len()),
            false => 0,
        };
        let stepping = timings.start(Part::Explain);
        let most = pace.rows;
        let (back, batches, exhausted) =
            heavy(move || step(machine, told, room, most, may_ask)).await?;
        drop(stepping);
        machine = back;
        more &= !exhausted;
        for batch in batches {
            may_ask -= batch.num_rows() as u64;
            let (rows, sent) = (batch.num_rows(), Instant::now());
            let answer = predictor.predict(batch, deadline);
            underway.push_back(answer.map(move |a| Ok((a?, rows, sent.elapsed()))).boxed());
        }
        let answer = tokio::select! {
            biased;
            answer = underway.next() => answer,
            () = sleep_until(end.into()) => None,
        };
        match answer {
            None => break,
            Some(Ok((answer, rows, took))) => {
                pace.answered(rows, took);
                told = Some(answer);
            }
            Some(Err(error)) if error.code() == Code::PredictTimeout && Instant::now() >= end => {
                break;
            }
            Some(Err(error)) => return Err(error),
        }
    }
    // Nobody waits for what is underway any more.
    drop(underway);
    let _finishing = timings.start(Part::Explain);
    heavy(move || {
        // Changes nothing when everything is told.
        machine.stop();
        machine.finish()
    })
    .await
}

/// An answer, its rows, and the time it took.
type Answered = (RecordBatch, usize, Duration);
type Stepped<F> = (Asking<F>, VecDeque<RecordBatch>, bool);
/// An explanation under way, of whatever kind.
pub(crate) type Asking<F> = Box<dyn Machine<Found = F>>;

/// Tells the machine an answer and takes up to `room` questions of up to `most` rows, up to
/// `may_ask` rows in all.
fn step<F>(
    mut machine: Asking<F>,
    told: Option<RecordBatch>,
    room: usize,
    most: usize,
    mut may_ask: u64,
) -> Result<Stepped<F>> {
    if let Some(answer) = told {
        machine.tell(&answer)?;
    }
    let mut batches = VecDeque::new();
    while batches.len() < room && may_ask > 0 {
        let most = most.min(usize::try_from(may_ask).unwrap_or(usize::MAX));
        match machine.next_batch(most)? {
            Some(batch) => {
                may_ask -= batch.num_rows() as u64;
                batches.push_back(batch);
            }
            None => return Ok((machine, batches, true)),
        }
    }
    Ok((machine, batches, false))
}

// === impl Pace ===

impl Pace {
    fn answered(&mut self, rows: usize, took: Duration) {
        let seconds = took.as_secs_f64().max(1e-6);
        let factor = (BATCH_TIME.as_secs_f64() / seconds).min(GROWTH);
        self.rows = ((rows as f64 * factor) as usize).clamp(1, MOST_ROWS);
    }
}

#[cfg(test)]
mod tests;
