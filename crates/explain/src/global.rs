//! How much the inputs matter over many rows: impact and importance by random ablation.
//!
//! For a row x and an input j a reference row r is drawn, and the model is asked about x with j from
//! r. The impact of j is the mean of |f(x) - f(x with j from r)| over rows and draws, its importance
//! the mean of loss(y, f(x with j from r)) - loss(y, f(x)) (permutation importance after Breiman,
//! "Random Forests", 2001, section 10, with values from a reference; Fisher, Rudin & Dominici, "All
//! Models are Wrong, but Many are Useful", 2019).
//!
//! Rows come one after the other, each with all its draws for all inputs, so that who is stopped has
//! a sample of the rows. A draw that changes nothing is not asked.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use luthier_types::{Code, Error};
use serde::Serialize;

use crate::{
    loss::Loss,
    machine::{Driver, Machine, Plan, misuse, too_soon},
    random::Stream,
    rows::Rows,
    stats::{Spread, reach},
};

/// Rows over which the inputs' influence is averaged.
#[derive(Clone, Debug)]
pub struct GlobalProblem {
    /// The rows, at least one; the model's inputs as columns.
    pub rows: RecordBatch,
    /// Rows that inputs take other values from, at least one, with the same columns.
    pub reference: RecordBatch,
    /// Columns of the model's answer.
    pub outputs: Vec<String>,
    /// What is measured.
    pub measure: Measure,
    /// Most draws per input, at least 1. Of more rows than that so many are drawn; with fewer there
    /// are as many cycles as fit.
    pub iterations: usize,
    /// Confidence level of the intervals, in [0, 1).
    pub ci_level: f64,
    /// Decides everything that is drawn.
    pub seed: u64,
}

/// The stream that decides the order of the rows; the others are numbered like these.
const ORDER: u64 = u64::MAX;

/// What is measured.
#[derive(Clone, Debug)]
pub enum Measure {
    /// How much each output changes.
    Impact,
    /// How much the loss grows.
    Importance(Loss),
}

/// What was measured, and how surely.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Global {
    /// One per output for impact, in order; one for importance.
    pub measured: Vec<Measured>,
    /// Rows that were used.
    pub rows: usize,
    /// Rows that would have been, had it not been stopped.
    pub of: usize,
    /// Draws for each row and input.
    pub cycles: usize,
    /// Rows that the model predicted.
    pub rows_evaluated: u64,
}

/// What was measured of an output, or of the loss. Intervals are half-widths.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// The output; `None` for the loss.
    pub output: Option<String>,
    /// The mean prediction, or loss, of the rows as they are.
    pub mean: f64,
    /// Its interval over rows like these; `None` for a single row.
    pub mean_ci: Option<f64>,
    /// Per input, in order: the impact, or importance.
    pub values: Vec<f64>,
    /// Per input: the interval over rows like these and draws; `None` for a single row.
    pub random_sample_ci: Option<Vec<f64>>,
    /// Per input: the interval over draws alone, the rows being as they are; `None` with one cycle.
    pub fixed_sample_ci: Option<Vec<f64>>,
}

/// The plan: a row as it is, then with each input from elsewhere, cycle after cycle; the next row.
struct Cycles {
    seed: u64,
    measure: Measure,
    /// The rows that are used, one after the other.
    order: Vec<u32>,
    /// All there are: the sources before those of the reference.
    rows: usize,
    references: usize,
    features: usize,
    cycles: usize,
    reach: f64,
    // Asking.
    row: usize,
    /// Its draws: how many were made, and where the next come from.
    drawing: (usize, Stream),
    /// The feature and the source of the draw that is asked next; none before the row itself.
    upcoming: Option<(usize, u32)>,
    /// What the answers to come are about, oldest first.
    in_flight: VecDeque<Step>,
    // Answered.
    /// Of the row whose answers come: the values as it is, per series, and its draws.
    base: Vec<f64>,
    sums: Vec<Vec<Sum>>,
    done: usize,
    /// Per series.
    means: Vec<Spread>,
    /// Per series and feature: over rows, and the summed variances of their means over draws.
    values: Vec<Vec<(Spread, f64)>>,
}

enum Step {
    /// The row as it is.
    Base,
    /// The row with this feature from elsewhere.
    Draw(usize),
    /// No answer: the row is over.
    End,
}

/// Draws of one row and feature.
#[derive(Clone, Copy, Default)]
struct Sum {
    sum: f64,
    squares: f64,
}

/// Starts to measure.
///
/// # Errors
/// [`Code::BadRequest`] when the problem is not one: no rows, no reference, columns that differ, no
/// outputs, numbers out of range, or another number of targets than rows.
pub fn measure(problem: GlobalProblem) -> Result<Box<dyn Machine<Found = Global>>, Error> {
    problem.check()?;
    let used = problem.rows.num_rows().min(problem.iterations);
    let rows = Rows::new(&problem.rows, &problem.reference)?;
    let mut order: Vec<u32> = (0..problem.rows.num_rows() as u32).collect();
    Stream::new(problem.seed, ORDER).shuffle(&mut order);
    order.truncate(used);
    let is_loss = matches!(problem.measure, Measure::Importance(_));
    let series = if is_loss { 1 } else { problem.outputs.len() };
    let features = rows.features();
    let cycles = problem.iterations / used;
    let plan = Cycles {
        seed: problem.seed,
        measure: problem.measure,
        order,
        rows: problem.rows.num_rows(),
        references: problem.reference.num_rows(),
        features,
        cycles,
        reach: reach(problem.ci_level),
        row: 0,
        drawing: (0, Stream::new(problem.seed, 0)),
        upcoming: None,
        in_flight: VecDeque::new(),
        base: vec![],
        sums: vec![vec![Sum::default(); features]; series],
        done: 0,
        means: vec![Spread::default(); series],
        values: vec![vec![(Spread::default(), 0.0); features]; series],
    };
    let found = move |(mut measured, rows): (Vec<Measured>, usize), told: crate::machine::Told| {
        if !is_loss {
            for (measured, output) in measured.iter_mut().zip(told.outputs) {
                measured.output = Some(output);
            }
        }
        Global {
            measured,
            rows,
            of: used,
            cycles,
            rows_evaluated: told.rows_evaluated,
        }
    };
    let plan = Box::new(plan);
    Ok(Box::new(Driver::new(rows, problem.outputs, plan, found)))
}

// === impl GlobalProblem ===

impl GlobalProblem {
    fn check(&self) -> Result<(), Error> {
        let bad = |message: String, hint: &str| {
            Err(Error::new(Code::BadRequest, message).hint(hint.to_owned()))
        };
        let (rows, references) = (self.rows.num_rows(), self.reference.num_rows());
        if rows == 0 || references == 0 {
            return bad(
                format!("there are {rows} rows and {references} reference rows"),
                "Name a dataset with rows.",
            );
        }
        if u32::try_from(rows + references).is_err() {
            return bad(
                format!(
                    "{rows} rows and {references} reference rows are more than can be numbered"
                ),
                "Lower num_samples or num_refs.",
            );
        }
        let columns = |batch: &RecordBatch| {
            let fields = batch.schema_ref().fields().iter();
            let of = fields.map(|f| (f.name().clone(), f.data_type().clone()));
            of.collect::<Vec<_>>()
        };
        if self.rows.num_columns() == 0 || columns(&self.rows) != columns(&self.reference) {
            return bad(
                "the rows and the reference do not have the same inputs".to_owned(),
                "Take both from datasets of the same model.",
            );
        }
        if self.outputs.is_empty() {
            return bad(
                "there is no model output to measure".to_owned(),
                "Name at least one output in the model's spec.",
            );
        }
        if self.iterations == 0 || !(0.0..1.0).contains(&self.ci_level) {
            return bad(
                format!(
                    "num_iterations is {} and ci_level {}",
                    self.iterations, self.ci_level
                ),
                "Give at least 1 iteration, and a level such as 0.95.",
            );
        }
        match &self.measure {
            Measure::Importance(loss) => loss.check(rows, self.outputs.len()),
            Measure::Impact => Ok(()),
        }
    }
}

// === impl Cycles ===

impl Cycles {
    /// The next draw for the row that changes something.
    fn draw(&mut self, rows: &Rows) -> Option<(usize, u32)> {
        let row = *self.order.get(self.row)?;
        let (made, stream) = &mut self.drawing;
        while *made < self.cycles * self.features {
            let feature = *made % self.features;
            *made += 1;
            let source = (self.rows + stream.below(self.references)) as u32;
            if rows.class(feature, source) != rows.class(feature, row) {
                return Some((feature, source));
            }
        }
        None
    }

    /// What is compared: the outputs, or the loss.
    fn series(&self, outputs: &[f64]) -> Vec<f64> {
        match &self.measure {
            Measure::Impact => outputs.to_vec(),
            Measure::Importance(loss) => vec![loss.of(self.order[self.done] as usize, outputs)],
        }
    }

    fn end_row(&mut self) {
        let cycles = self.cycles as f64;
        for (series, base) in self.base.drain(..).enumerate() {
            self.means[series].push(base, 1.0);
            let values = self.values[series].iter_mut();
            for ((spread, variances), drawn) in values.zip(&mut self.sums[series]) {
                let Sum { sum, squares } = std::mem::take(drawn);
                let mean = sum / cycles;
                spread.push(mean, 1.0);
                if self.cycles > 1 {
                    let variance = (squares - cycles * mean * mean).max(0.0) / (cycles - 1.0);
                    *variances += variance / cycles;
                }
            }
        }
        self.done += 1;
    }
}

impl Plan for Cycles {
    type Outcome = (Vec<Measured>, usize);

    fn next_row(&mut self, rows: &Rows, picks: &mut [u32]) -> bool {
        let Some(&source) = self.order.get(self.row) else {
            return false;
        };
        picks.fill(source);
        let step = match self.upcoming.take() {
            None => {
                self.drawing = (0, Stream::new(self.seed, self.row as u64));
                Step::Base
            }
            Some((feature, source)) => {
                picks[feature] = source;
                Step::Draw(feature)
            }
        };
        self.in_flight.push_back(step);
        self.upcoming = self.draw(rows);
        if self.upcoming.is_none() {
            self.in_flight.push_back(Step::End);
            self.row += 1;
        }
        true
    }

    fn answer(&mut self, outputs: &[f64]) -> Result<(), Error> {
        let values = self.series(outputs);
        match self.in_flight.pop_front() {
            Some(Step::Base) => self.base = values,
            Some(Step::Draw(feature)) => {
                let is_loss = matches!(self.measure, Measure::Importance(_));
                for ((value, base), sums) in values.iter().zip(&self.base).zip(&mut self.sums) {
                    let change = match is_loss {
                        true => value - base,
                        false => (value - base).abs(),
                    };
                    sums[feature].sum += change;
                    sums[feature].squares += change * change;
                }
            }
            Some(Step::End) | None => return Err(misuse("told a row it did not ask")),
        }
        if let Some(Step::End) = self.in_flight.front() {
            self.in_flight.pop_front();
            self.end_row();
        }
        Ok(())
    }

    fn conclude(self: Box<Self>) -> Result<Self::Outcome, Error> {
        if self.done == 0 {
            return Err(too_soon());
        }
        let reach = self.reach;
        let half_width = |spread: &Spread| spread.half_width(reach);
        let rows = self.done as f64;
        let measured = self.means.iter().zip(&self.values).map(|(mean, values)| {
            let fixed = values.iter().map(|(_, v)| reach * v.sqrt() / rows);
            Measured {
                output: None,
                mean: mean.mean(),
                mean_ci: half_width(mean),
                values: values.iter().map(|(spread, _)| spread.mean()).collect(),
                random_sample_ci: values.iter().map(|(s, _)| half_width(s)).collect(),
                fixed_sample_ci: (self.cycles > 1).then(|| fixed.collect()),
            }
        });
        Ok((measured.collect(), self.done))
    }
}
