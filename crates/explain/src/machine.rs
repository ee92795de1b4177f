//! The ask/tell machine: cuts what a plan asks into batches and hands it the answers row by row.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use luthier_types::{Code, Error};
use serde::{Deserialize, Serialize};

use crate::{problem::Method, rows::Rows, values::predictions};

/// An explanation under way.
pub trait Machine: Send {
    /// What it comes to.
    type Found;

    /// The next rows to predict: the model's inputs, at least one row and at most `most` (at least
    /// one); `None` when there are no more. May be called again before the batches already handed
    /// out are told. How the rows are cut into batches does not change the numbers.
    ///
    /// # Errors
    /// [`Code::Internal`] when the rows cannot be put together.
    fn next_batch(&mut self, most: usize) -> Result<Option<RecordBatch>, Error>;

    /// Takes the model's answer to the oldest batch not yet told: its rows, in order.
    ///
    /// # Errors
    /// [`Code::InvalidPrediction`] when the answer lacks rows, an output, or has an output that is
    /// not a finite number; [`Code::Internal`] when no batch waits for an answer. The machine is
    /// of no use afterwards.
    fn tell(&mut self, predictions: &RecordBatch) -> Result<(), Error>;

    /// Ends the asking early: there are no more batches, and those not yet told never will be. What
    /// has been told is what the explanation is made of.
    fn stop(&mut self);

    /// The explanation, once [`Machine::next_batch`] gave `None` and every batch is told, or after
    /// [`Machine::stop`].
    ///
    /// # Errors
    /// [`Code::PredictTimeout`] when it was stopped before there was anything to tell, and
    /// [`Code::Internal`] when it is called earlier.
    fn finish(self: Box<Self>) -> Result<Self::Found, Error>;
}

/// What the inputs contributed to a prediction, and what reproduces the figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The method, with the parameters that were asked for.
    pub method: Method,
    /// Per explained output, in the order of the problem.
    pub outputs: Vec<OutputExplanation>,
    /// Number of reference rows, repetitions included; `None` when the method has none.
    pub num_refs: Option<usize>,
    /// The effective number of permutations, if the method has any (see
    /// [`Method::FiddlerShap`]).
    pub num_permutations: Option<usize>,
    /// Confidence level of the uncertainties, if the method has any.
    pub ci_level: Option<f64>,
    /// Number of rows that the model predicted.
    pub rows_evaluated: u64,
    /// How far it came, if it was stopped before it was done.
    pub stopped: Option<Stopped>,
    /// The problem's seed.
    pub seed: u64,
}

/// How far an explanation came that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Reference rows that it compares with, or draws per input that every input had.
    pub done: usize,
    /// How many there would have been.
    pub of: usize,
}

/// What the inputs contributed to one output of a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputExplanation {
    /// Name of the output.
    pub output: String,
    /// The prediction for the explained row.
    pub model_prediction: f64,
    /// What it is compared with: the mean prediction over the reference, or the prediction for the
    /// row that a reset method resets to.
    pub baseline_prediction: f64,
    /// Per input, in order. For the two SHAP methods they add up to
    /// `model_prediction - baseline_prediction`.
    pub attributions: Vec<f64>,
    /// Per input, in order: half the width of the confidence interval of the attribution. Given by
    /// FIDDLER_SHAP with at least two reference rows, for the attribution with all rows like these; a
    /// single one says nothing about the spread. Given by SHAP and PERMUTE when they were stopped,
    /// for what they would have found.
    pub uncertainties: Option<Vec<f64>>,
}

/// What a method asks, row by row, and makes of the answers.
pub(crate) trait Plan: Send {
    /// What it makes of them.
    type Outcome;

    /// Writes the source of each feature of the next row into `picks`; `false` after the last.
    fn next_row(&mut self, rows: &Rows, picks: &mut [u32]) -> bool;

    /// Takes the outputs predicted for the oldest row without an answer.
    fn answer(&mut self, outputs: &[f64]) -> Result<(), Error>;

    /// Called when every row has its answer, or has none because it was stopped.
    ///
    /// # Errors
    /// [`too_soon`] when it was stopped before there was anything to tell.
    fn conclude(self: Box<Self>) -> Result<Self::Outcome, Error>;
}

/// What a plan found. Lists are per output; the inner ones per feature.
pub(crate) struct Outcome {
    pub(crate) model: Vec<f64>,
    pub(crate) baseline: Vec<f64>,
    pub(crate) attributions: Vec<Vec<f64>>,
    pub(crate) uncertainties: Option<Vec<Vec<f64>>>,
    pub(crate) num_refs: Option<usize>,
    pub(crate) num_permutations: Option<usize>,
    pub(crate) ci_level: Option<f64>,
    pub(crate) stopped: Option<Stopped>,
}

/// Drives a plan in batches, and makes what it found of its outcome.
pub(crate) struct Driver<O, F> {
    rows: Rows,
    outputs: Vec<String>,
    plan: Box<dyn Plan<Outcome = O>>,
    found: Box<dyn FnOnce(O, Told) -> F + Send>,
    /// Sizes of the batches that wait for an answer, oldest first.
    awaited: VecDeque<usize>,
    rows_evaluated: u64,
    exhausted: bool,
}

/// What a driver knows at the end.
pub(crate) struct Told {
    pub(crate) outputs: Vec<String>,
    /// Rows that the model predicted.
    pub(crate) rows_evaluated: u64,
}

// === impl Driver ===

impl<O, F> Driver<O, F> {
    pub(crate) fn new(
        rows: Rows,
        outputs: Vec<String>,
        plan: Box<dyn Plan<Outcome = O>>,
        found: impl FnOnce(O, Told) -> F + Send + 'static,
    ) -> Self {
        Self {
            rows,
            outputs,
            plan,
            found: Box::new(found),
            awaited: VecDeque::new(),
            rows_evaluated: 0,
            exhausted: false,
        }
    }
}

impl<O, F> Machine for Driver<O, F> {
    type Found = F;

    fn next_batch(&mut self, most: usize) -> Result<Option<RecordBatch>, Error> {
        let mut picks = vec![vec![]; self.rows.features()];
        let mut row = vec![0; self.rows.features()];
        let mut len = 0;
        while len < most && !self.exhausted {
            if !self.plan.next_row(&self.rows, &mut row) {
                self.exhausted = true;
                break;
            }
            for (column, &pick) in picks.iter_mut().zip(&row) {
                column.push(pick);
            }
            len += 1;
        }
        if len == 0 {
            return Ok(None);
        }
        let batch = self.rows.batch(picks)?;
        self.awaited.push_back(len);
        Ok(Some(batch))
    }

    fn tell(&mut self, answer: &RecordBatch) -> Result<(), Error> {
        let rows = self
            .awaited
            .pop_front()
            .ok_or_else(|| misuse("told more than was asked"))?;
        let columns = predictions(answer, &self.outputs, rows)?;
        self.rows_evaluated += rows as u64;
        let mut values = vec![0.0; columns.len()];
        for i in 0..rows {
            for (value, column) in values.iter_mut().zip(&columns) {
                *value = column[i];
            }
            self.plan.answer(&values)?;
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.exhausted = true;
        self.awaited.clear();
    }

    fn finish(self: Box<Self>) -> Result<F, Error> {
        if !self.exhausted || !self.awaited.is_empty() {
            return Err(misuse("finished before every row was asked and told"));
        }
        let told = Told {
            outputs: self.outputs,
            rows_evaluated: self.rows_evaluated,
        };
        Ok((self.found)(self.plan.conclude()?, told))
    }
}

impl Explanation {
    pub(crate) fn new(method: Method, seed: u64, found: Outcome, told: Told) -> Self {
        let mut uncertainties = found.uncertainties.map(Vec::into_iter);
        let outputs = told
            .outputs
            .into_iter()
            .zip(found.model)
            .zip(found.baseline)
            .zip(found.attributions)
            .map(
                |(((output, model), baseline), attributions)| OutputExplanation {
                    output,
                    model_prediction: model,
                    baseline_prediction: baseline,
                    attributions,
                    uncertainties: uncertainties.as_mut().and_then(Iterator::next),
                },
            )
            .collect();
        Self {
            method,
            outputs,
            num_refs: found.num_refs,
            num_permutations: found.num_permutations,
            ci_level: found.ci_level,
            rows_evaluated: told.rows_evaluated,
            stopped: found.stopped,
            seed,
        }
    }
}

/// The machine was stopped before there was anything to tell.
pub(crate) fn too_soon() -> Error {
    Error::new(
        Code::PredictTimeout,
        "the model did not answer enough rows for an explanation in the time or the rows allowed",
    )
    .hint(
        "Allow more of them, lower num_permutations, or give the deployment more cpu or replicas.",
    )
}

/// The machine was driven in the wrong order.
pub(crate) fn misuse(what: &str) -> Error {
    Error::new(Code::Internal, format!("an explanation was {what}"))
        .hint("This is a fault of the server; report it with the request that led to it.")
}
