//! What a prediction costs, given what was true.

use luthier_types::{Code, Error};

/// Probabilities are taken to be no closer to 0 and 1 than this.
const CLOSEST: f64 = 1e-15;

/// The loss of predictions for rows with known targets.
#[derive(Clone, Debug, PartialEq)]
pub enum Loss {
    /// -ln of the probability given to what was true, for one output that is the probability of the
    /// positive class. Per row whether that was true.
    BinaryLog(Vec<bool>),
    /// The same for one output per class. Per row which one was true.
    ClassLog(Vec<usize>),
    /// (y - f)^2, for one output. Per row y.
    Squared(Vec<f64>),
}

impl Loss {
    /// The loss's name in answers.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BinaryLog(_) | Self::ClassLog(_) => "pointwise_logloss",
            Self::Squared(_) => "squared_error",
        }
    }

    /// # Errors
    /// [`Code::BadRequest`] when it is not one of so many rows and outputs.
    pub(crate) fn check(&self, rows: usize, outputs: usize) -> Result<(), Error> {
        let (targets, fits) = match self {
            Self::BinaryLog(targets) => (targets.len(), outputs == 1),
            Self::Squared(targets) => (targets.len(), outputs == 1),
            Self::ClassLog(classes) => (classes.len(), classes.iter().all(|c| *c < outputs)),
        };
        if targets == rows && fits {
            return Ok(());
        }
        let message = format!(
            "the {} of {targets} targets does not fit {rows} rows and {outputs} outputs",
            self.name()
        );
        Err(Error::new(Code::BadRequest, message)
            .hint("Set the model's task and targets to what its outputs stand for."))
    }

    /// The loss of the outputs predicted for a row.
    pub(crate) fn of(&self, row: usize, outputs: &[f64]) -> f64 {
        let log = |p: f64| -p.clamp(CLOSEST, 1.0 - CLOSEST).ln();
        match self {
            Self::BinaryLog(targets) if targets[row] => log(outputs[0]),
            Self::BinaryLog(_) => log(1.0 - outputs[0]),
            Self::ClassLog(classes) => log(outputs[classes[row]]),
            Self::Squared(targets) => (targets[row] - outputs[0]).powi(2),
        }
    }
}
