//! Explanations as the stock client reads them.

use luthier_data::RecordBatch;
use luthier_explain::{Explanation, Method};
use luthier_types::{Code, Digest, Error, Result, RevisionId};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What reproduces an explanation.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Receipt {
    /// Decides everything that was drawn; made of the rest of the receipt, so that the same
    /// request gives the same numbers.
    pub(crate) seed: u64,
    /// The method.
    pub(crate) method: String,
    /// Its parameters.
    pub(crate) parameters: Value,
    /// The revision that answered.
    pub(crate) revision: Option<RevisionId>,
    /// Digest of the row.
    pub(crate) row: Digest,
    /// Digest of the reference rows.
    pub(crate) reference: Option<Digest>,
    /// Rows the model was asked about.
    pub(crate) model_rows: u64,
}

// === impl Receipt ===

impl Receipt {
    /// The digest of what was asked: everything but the seed.
    pub(crate) fn question(&self, outputs: &[String]) -> Digest {
        let revision = self.revision.map(|r| r.to_string()).unwrap_or_default();
        let reference = self.reference.as_ref().map_or("", Digest::as_str);
        Digest::of_fields([
            self.method.as_str(),
            &self.parameters.to_string(),
            &revision,
            self.row.as_str(),
            reference,
            &outputs.join("\n"),
        ])
    }
}

/// A method's parameters by name.
pub(crate) fn parameters(method: &Method) -> Result<Value> {
    let mut value = serde_json::to_value(method)
        .map_err(|e| Error::internal("writing an explanation's receipt", e))?;
    if let Some(fields) = value.as_object_mut() {
        fields.remove("explanation_type");
    }
    Ok(value)
}

/// The answer for one of our methods.
pub(crate) fn of_explanation(
    explanation: &Explanation,
    row: &RecordBatch,
    receipt: Receipt,
) -> Result<Value> {
    let values = luthier_data::batch_to_rows(row)
        .into_iter()
        .next()
        .unwrap_or_default();
    let mut explanations = Map::new();
    for output in &explanation.outputs {
        let uncertainties = output.uncertainties.as_deref();
        let contents: Vec<Value> = values
            .iter()
            .zip(&output.attributions)
            .enumerate()
            .map(|(at, ((name, value), attribution))| {
                let mut element = json!({
                    "type": "simple",
                    "feature-name": name,
                    "value": value,
                    "attribution": attribution,
                });
                if let Some(uncertainty) = uncertainties.and_then(|u| u.get(at)) {
                    element["attribution-uncertainty"] = json!(uncertainty);
                }
                element
            })
            .collect();
        explanations.insert(
            output.output.clone(),
            json!({
                "model_prediction": output.model_prediction,
                "baseline_prediction": output.baseline_prediction,
                "GEM": {
                    "type": "container",
                    "contents": contents,
                    "attribution": output.attributions.iter().sum::<f64>(),
                },
            }),
        );
    }
    Ok(json!({
        "explanation_type": explanation.method.name(),
        "num_permutations": explanation.num_permutations,
        "ci_level": explanation.ci_level,
        "explanation_ci_level": explanation.ci_level,
        "num_refs": explanation.num_refs,
        "stopped": explanation.stopped,
        "explanations": explanations,
        "receipt": receipt,
    }))
}

/// The answer for a method of the package, whose hook returns a pair: GEM by output, and the
/// predictions by output.
pub(crate) fn of_hook(name: &str, hook: Value, receipt: Receipt) -> Result<Value> {
    let wrong = || {
        Error::new(
            Code::InvalidPrediction,
            format!("explain_custom of the package did not return what `{name}` needs"),
        )
        .hint(
            "Let it return two dicts: output name to GEM, and output name to \
             {\"model_prediction\": …, \"baseline_prediction\": …}.",
        )
    };
    let Value::Object(mut pair) = hook else {
        return Err(wrong());
    };
    let (Some(Value::Object(gems)), Some(Value::Object(extras))) = (
        pair.remove("explanations_by_output"),
        pair.remove("extras_by_output"),
    ) else {
        return Err(wrong());
    };
    let explanations: Map<String, Value> = gems
        .into_iter()
        .map(|(output, gem)| {
            let mut fields = match extras.get(&output) {
                Some(Value::Object(fields)) => fields.clone(),
                _ => Map::new(),
            };
            fields.insert("GEM".to_owned(), gem);
            (output, Value::Object(fields))
        })
        .collect();
    Ok(json!({
        "explanation_type": name,
        "num_permutations": null,
        "ci_level": null,
        "explanation_ci_level": null,
        "num_refs": null,
        "explanations": explanations,
        "receipt": receipt,
    }))
}

#[cfg(test)]
mod tests;
