//! What is to be explained, and how.

use arrow_array::RecordBatch;
use luthier_types::{Code, Error};
use serde::{Deserialize, Serialize};

/// The largest number of permutations, as in the HTTP interface. It bounds what a game holds in
/// memory.
pub const MAX_NUM_PERMUTATIONS: usize = 10_000;

/// How a prediction is attributed to the inputs. In what follows f is one output of the model, x
/// the row and r_1..r_m the reference rows. Serialized with the names of the HTTP interface under
/// the key `explanation_type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "explanation_type")]
pub enum Method {
    /// The mean over k of the Shapley values of the single-reference games
    /// v_k(S) = f(x on S, r_k elsewhere), after Merrick & Taly, "The Explanation Game"
    /// (arXiv 1909.08128).
    #[serde(rename = "FIDDLER_SHAP")]
    FiddlerShap {
        /// Most coalitions evaluated per game, 1 to [`MAX_NUM_PERMUTATIONS`]. Raised to four times
        /// the number of inputs when it is less, which the estimator needs to be well posed; games
        /// with no more coalitions than this are solved exactly.
        num_permutations: usize,
        /// Confidence level of the uncertainties, in [0, 1).
        ci_level: f64,
    },
    /// The Shapley values of the game v(S) = mean over k of f(x on S, r_k elsewhere), as Kernel SHAP
    /// estimates them (Lundberg & Lee 2017): as means over the games of [`Method::FiddlerShap`],
    /// each with at most max(2n + 512, 4n) coalitions of n inputs, and all of them where no more
    /// than ten inputs differ.
    #[serde(rename = "SHAP")]
    Shap,
    /// For each input j the mean of f(x) - f(x with j from r) over draws of r. Draws go through
    /// the whole reference as often as they can and take the rest without replacement.
    #[serde(rename = "PERMUTE")]
    Permute {
        /// Number of draws per input, 1 to [`MAX_NUM_PERMUTATIONS`].
        num_permutations: usize,
    },
    /// f(x) - f(x with j = 0) for each input j; numeric inputs only; no reference.
    #[serde(rename = "ZERO_RESET")]
    ZeroReset,
    /// f(x) - f(x with j = mean of the reference) for each input j; numeric inputs only. The mean
    /// leaves out missing values (null and NaN), and stays missing when there is nothing else; in
    /// an integer column it is rounded to the nearest integer, so that the model sees the type it
    /// was made for.
    #[serde(rename = "MEAN_RESET")]
    MeanReset,
}

impl Method {
    /// The method's name in the HTTP interface.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FiddlerShap { .. } => "FIDDLER_SHAP",
            Self::Shap => "SHAP",
            Self::Permute { .. } => "PERMUTE",
            Self::ZeroReset => "ZERO_RESET",
            Self::MeanReset => "MEAN_RESET",
        }
    }

    const fn needs_reference(&self) -> bool {
        !matches!(self, Self::ZeroReset)
    }
}

/// One prediction to be explained.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The row: exactly one, with the model's inputs as columns, in order.
    pub row: RecordBatch,
    /// The rows it is compared with, at least one, with the same columns.
    /// [`Method::ZeroReset`] does not look at it.
    pub reference: RecordBatch,
    /// The outputs to explain, as columns of the model's answer.
    pub outputs: Vec<String>,
    /// How.
    pub method: Method,
    /// Decides everything that is drawn.
    pub seed: u64,
}

impl Problem {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |message: String, hint: &str| {
            Err(Error::new(Code::BadRequest, message).hint(hint.to_owned()))
        };
        if self.row.num_rows() != 1 {
            return bad(
                format!(
                    "an explanation is of one row, and {} were given",
                    self.row.num_rows()
                ),
                "Send exactly one row.",
            );
        }
        if self.row.num_columns() == 0 {
            return bad(
                "the row has no model inputs to attribute the prediction to".to_owned(),
                "Name the model's inputs in its spec and send their values.",
            );
        }
        if self.outputs.is_empty() {
            return bad(
                "there is no model output to explain".to_owned(),
                "Name at least one output in the model's spec.",
            );
        }
        if let Method::FiddlerShap {
            num_permutations, ..
        }
        | Method::Permute { num_permutations } = self.method
            && !(1..=MAX_NUM_PERMUTATIONS).contains(&num_permutations)
        {
            return bad(
                format!(
                    "num_permutations is {num_permutations}, and must be from 1 to \
                     {MAX_NUM_PERMUTATIONS}"
                ),
                "Set num_permutations to a number in that range; 300 is a good start.",
            );
        }
        if let Method::FiddlerShap { ci_level, .. } = self.method
            && !(0.0..1.0).contains(&ci_level)
        {
            return bad(
                format!("ci_level is {ci_level}, and must be at least 0 and less than 1"),
                "Set ci_level to a level such as 0.95.",
            );
        }
        if self.method.needs_reference() {
            self.check_reference()
        } else {
            Ok(())
        }
    }

    fn check_reference(&self) -> Result<(), Error> {
        let rows = self.reference.num_rows();
        if rows == 0 {
            return Err(Error::new(
                Code::BadRequest,
                format!(
                    "{} compares with reference rows, and there are none",
                    self.method.name()
                ),
            )
            .hint("Name a dataset with rows as the reference, or use ZERO_RESET."));
        }
        // Rows are numbered by u32, the explained one being number 0.
        if u32::try_from(rows + 1).is_err() {
            return Err(Error::new(
                Code::BadRequest,
                format!("the reference has {rows} rows, more than can be numbered"),
            )
            .hint("Take a sample of the reference; 200 rows are a good start."));
        }
        let (row, reference) = (self.row.schema_ref(), self.reference.schema_ref());
        let differ = row.fields().len() != reference.fields().len();
        let at = row
            .fields()
            .iter()
            .zip(reference.fields())
            .find(|(a, b)| a.name() != b.name() || a.data_type() != b.data_type());
        if !differ && at.is_none() {
            return Ok(());
        }
        let message = match at {
            Some((a, b)) => format!(
                "the reference has column `{}` ({}) where the row has `{}` ({})",
                b.name(),
                b.data_type(),
                a.name(),
                a.data_type()
            ),
            None => format!(
                "the reference has {} columns and the row {}",
                reference.fields().len(),
                row.fields().len()
            ),
        };
        Err(Error::new(Code::BadRequest, message)
            .hint("The reference needs exactly the model's inputs, in their order and types."))
    }
}
