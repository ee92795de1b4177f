//! Impact and importance as the stock client reads them.

use jiff::Timestamp;
use luthier_explain::{Global, Measured};
use luthier_store::artifacts::Table;
use serde_json::{Map, Value, json};

use super::{Influence, Settings};
use crate::serving::Serving;

/// What an answer tells beside the figures.
pub(super) struct About<'a> {
    pub(super) which: Influence,
    pub(super) serving: &'a Serving,
    /// Where the rows are from.
    pub(super) table: &'a Table,
    pub(super) num_refs: usize,
    /// Rows that were read, with and without a usable target.
    pub(super) read: usize,
    pub(super) loss: Option<&'static str>,
    pub(super) asked: Settings,
}

impl About<'_> {
    /// The answer, as the stock client reads it.
    pub(super) fn answer(&self, found: &Global, mut receipt: Value) -> Value {
        let card = &self.serving.card;
        receipt["model_rows"] = json!(found.rows_evaluated);
        let upper = |word: Value| word.as_str().unwrap_or_default().to_uppercase();
        let names: Vec<&str> = self
            .serving
            .inputs
            .iter()
            .map(|c| c.name.as_str())
            .collect();
        let all = mean(&found.measured);
        let mut answer = json!({
            "num_inputs": found.rows,
            "num_refs": self.num_refs,
            "num_iterations": found.rows * found.cycles,
            "ci_level": self.asked.ci_level,
            "feature_names": names,
            "random_sample_ci": all.random_sample_ci,
            "fixed_sample_ci": all.fixed_sample_ci,
            "model_task": upper(json!(card.task)),
            "model_input_type": "TABULAR",
            "env_id": self.table.id,
            "env_uuid": self.table.id,
            "env_name": self.table.name,
            "created_at": Timestamp::now().to_string(),
            "stopped": (found.rows < found.of).then(|| json!({"done": found.rows, "of": found.of})),
            "receipt": receipt,
        });
        let more = match self.which {
            Influence::Impact => json!({
                "response_type": "FEATURE_IMPACT_TABULAR",
                "system_generated": true,
                "mean_prediction": all.mean,
                "mean_prediction_ci": all.mean_ci,
                "mean_abs_prediction_change_impact": all.values,
                "feature_impact_scores": all.values,
                "outputs": outputs(&found.measured),
            }),
            Influence::Importance => json!({
                "response_type": "FEATURE_IMPORTANCE_TABULAR",
                "loss": self.loss,
                "mean_loss": all.mean,
                "mean_loss_ci": all.mean_ci,
                "mean_loss_increase_importance": all.values,
                "total_input_samples": self.read,
                "valid_input_samples": found.rows,
            }),
        };
        if let (Some(answer), Value::Object(more)) = (answer.as_object_mut(), more) {
            answer.extend(more);
        }
        answer
    }
}

/// The figures of each output by its name.
fn outputs(measured: &[Measured]) -> Map<String, Value> {
    let of = |m: &Measured| Some((m.output.clone()?, json!(m)));
    measured.iter().filter_map(of).collect()
}

/// The mean over the outputs, whose intervals are no wider than the mean of theirs.
fn mean(measured: &[Measured]) -> Measured {
    let count = measured.len() as f64;
    let number = |of: &dyn Fn(&Measured) -> Option<f64>| {
        let sum: Option<f64> = measured.iter().map(of).sum();
        sum.map(|sum| sum / count)
    };
    let numbers = |of: &dyn Fn(&Measured) -> Option<&Vec<f64>>| -> Option<Vec<f64>> {
        let all: Vec<&Vec<f64>> = measured.iter().map(of).collect::<Option<_>>()?;
        let features = 0..all.first()?.len();
        Some(
            features
                .map(|j| all.iter().map(|v| v[j]).sum::<f64>() / count)
                .collect(),
        )
    };
    Measured {
        output: None,
        mean: number(&|m| Some(m.mean)).unwrap_or_default(),
        mean_ci: number(&|m| m.mean_ci),
        values: numbers(&|m| Some(&m.values)).unwrap_or_default(),
        random_sample_ci: numbers(&|m| m.random_sample_ci.as_ref()),
        fixed_sample_ci: numbers(&|m| m.fixed_sample_ci.as_ref()),
    }
}
