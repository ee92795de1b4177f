//! Explains one prediction of a black-box model by attributing it to the model's inputs.
//!
//! The engine is pure: no IO, no async, no clock; chance comes from a seeded ChaCha generator
//! only. It never calls the model itself. [`explain`] turns a [`Problem`] into a [`Machine`] that
//! *asks* for predictions and is *told* them:
//!
//! ```text
//!                next_batch(most) -> Some(rows)
//!               ┌─────────────────────────────▶┐
//! explain() ─▶ idle                         waiting
//!               │◀─────────────────────────────┘
//!               │       tell(predictions)
//!               └─ next_batch() -> None, or stop() ─▶ finish() -> Explanation
//! ```
//!
//! What is asked never depends on what was told, so several batches may be in flight; they must be
//! told in the order in which they were asked. The numbers depend on the problem alone, not on the
//! size of the batches, and on how many rows were told where it was stopped before it was done.
//!
//! A method is one module that implements `Plan` and one arm in [`explain`].

#![forbid(unsafe_code)]

mod ablation;
mod coalitions;
mod games;
mod global;
mod loss;
mod machine;
mod problem;
mod random;
mod reset;
mod rows;
mod solve;
mod stats;
mod values;

pub use global::{Global, GlobalProblem, Measure, Measured, measure};
pub use loss::Loss;
pub use machine::{Explanation, Machine, OutputExplanation, Stopped};
pub use problem::{MAX_NUM_PERMUTATIONS, Method, Problem};

use ablation::Ablation;
use games::{Games, Rules};
use luthier_types::Error;
use machine::{Driver, Outcome, Plan};
use rows::Rows;

/// Starts an explanation.
///
/// # Errors
/// [`luthier_types::Code::BadRequest`] when the problem is not one: no inputs, no outputs, no
/// reference, a reference of another shape than the row, parameters out of range, or a method that
/// cannot treat the type of a column.
pub fn explain(problem: Problem) -> Result<Box<dyn Machine<Found = Explanation>>, Error> {
    problem.check()?;
    let Problem {
        row,
        reference,
        outputs,
        method,
        seed,
    } = problem;
    let num_refs = reference.num_rows();
    let reference = match method {
        Method::FiddlerShap { .. } | Method::Shap | Method::Permute { .. } => reference,
        Method::MeanReset => reset::mean_row(&row, &reference)?,
        Method::ZeroReset => reset::zero_row(&row)?,
    };
    let rows = Rows::new(&row, &reference)?;
    let plan: Box<dyn Plan<Outcome = Outcome>> = match method {
        Method::FiddlerShap {
            num_permutations,
            ci_level,
        } => {
            let rules = Rules::fiddler_shap(rows.features(), num_permutations, ci_level);
            Box::new(Games::new(&rows, outputs.len(), rules, seed))
        }
        Method::Shap => {
            let rules = Rules::shap(rows.features());
            Box::new(Games::new(&rows, outputs.len(), rules, seed))
        }
        Method::Permute { num_permutations } => {
            let outputs = outputs.len();
            Box::new(Ablation::permute(&rows, outputs, num_permutations, seed))
        }
        Method::ZeroReset => Box::new(Ablation::reset(&rows, outputs.len(), None)),
        Method::MeanReset => Box::new(Ablation::reset(&rows, outputs.len(), Some(num_refs))),
    };
    let found = move |found, told| Explanation::new(method, seed, found, told);
    Ok(Box::new(Driver::new(rows, outputs, plan, found)))
}
