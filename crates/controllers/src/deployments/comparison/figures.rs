//! Figures of how two models' answers to the same rows differ.

use arrow_array::RecordBatch;
use luthier_store::models::Model;
use luthier_types::{OutputChange, Task};
use serde_json::{Map, Value};

/// What rounding may change, relative to the size of the numbers.
const ROUNDING: f64 = 1e-6;
/// The threshold of a binary classification that names none.
const THRESHOLD: f64 = 0.5;

/// How a class follows from a prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Decision {
    /// There are no classes.
    None,
    /// Whether the only output reaches this.
    Threshold(f64),
    /// The output with the largest value.
    Largest,
}

impl Decision {
    /// That of a model.
    pub(super) fn of(card: &Model) -> Self {
        match card.task {
            Task::BinaryClassification if card.spec.outputs.len() == 1 => Self::Threshold(
                card.task_params["binary_classification_threshold"]
                    .as_f64()
                    .unwrap_or(THRESHOLD),
            ),
            Task::BinaryClassification | Task::MulticlassClassification => Self::Largest,
            Task::Regression | Task::Ranking | Task::Llm | Task::NotSet => Self::None,
        }
    }

    /// The class of a row, as the number of an output or of the side of the threshold.
    fn of_row(self, row: &Map<String, Value>, outputs: &[String]) -> Option<usize> {
        let number = |name: &String| row.get(name).and_then(Value::as_f64);
        match self {
            Self::None => None,
            Self::Threshold(threshold) => {
                let value = number(outputs.first()?)?;
                Some(usize::from(value >= threshold))
            }
            Self::Largest => outputs
                .iter()
                .enumerate()
                .filter_map(|(n, name)| Some((n, number(name)?)))
                // The first of equals.
                .reduce(|best, next| if next.1 > best.1 { next } else { best })
                .map(|(n, _)| n),
        }
    }
}

/// The outputs' names and both models' rows.
fn rows(answers: &[[RecordBatch; 2]]) -> (Vec<String>, Vec<[Map<String, Value>; 2]>) {
    let mut names = vec![];
    let mut pairs = vec![];
    for [old, new] in answers {
        names = old
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().clone())
            .collect();
        let both = luthier_data::batch_to_rows(old).into_iter();
        pairs.extend(
            both.zip(luthier_data::batch_to_rows(new))
                .map(|(a, b)| [a, b]),
        );
    }
    (names, pairs)
}

/// Per output how the values differ, of the answers of the old and the new model to each table.
pub(super) fn outputs(answers: &[[RecordBatch; 2]]) -> Vec<OutputChange> {
    let (names, pairs) = rows(answers);
    names.iter().map(|name| output(name, &pairs)).collect()
}

fn output(name: &str, pairs: &[[Map<String, Value>; 2]]) -> OutputChange {
    let (mut old, mut new) = (vec![], vec![]);
    let (mut changed, mut missing, mut others) = (0_usize, 0_usize, false);
    for pair in pairs {
        let [a, b] = pair
            .each_ref()
            .map(|row| row.get(name).unwrap_or(&Value::Null));
        match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => {
                old.push(a);
                new.push(b);
                changed += usize::from((a - b).abs() > ROUNDING * a.abs().max(b.abs()));
            }
            _ if a == b => others |= !a.is_null(),
            _ => {
                changed += 1;
                missing += usize::from(a.is_null() != b.is_null());
                others |= !a.is_null() && !b.is_null();
            }
        }
    }
    let differences = || {
        old.iter()
            .zip(&new)
            .map(|(a, b): (&f64, &f64)| (a - b).abs())
    };
    let are_numbers = !old.is_empty() && !others;
    OutputChange {
        name: name.to_owned(),
        mean: are_numbers.then(|| differences().sum::<f64>() / old.len() as f64),
        max: are_numbers.then(|| differences().fold(0.0, f64::max)),
        correlation: correlation(&old, &new),
        changed: share(changed, pairs.len()),
        missing,
    }
}

/// The share of rows on which the class is another.
pub(super) fn decisions(answers: &[[RecordBatch; 2]], decision: Decision) -> Option<f64> {
    if decision == Decision::None {
        return None;
    }
    let (names, pairs) = rows(answers);
    let others = pairs
        .iter()
        .filter(|[a, b]| decision.of_row(a, &names) != decision.of_row(b, &names));
    Some(share(others.count(), pairs.len()))
}

/// The value that `p` of the sorted values do not exceed.
pub(super) fn percentile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let place = (p * last as f64).round() as usize;
    sorted.get(place.min(last)).copied().unwrap_or(0.0)
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}

/// Pearson's; `None` where one of the two does not vary.
fn correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len() as f64;
    let mean = |v: &[f64]| v.iter().sum::<f64>() / n;
    let (mx, my) = (mean(x), mean(y));
    let product = |a: &[f64], ma: f64, b: &[f64], mb: f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum()
    };
    let spread = (product(x, mx, x, mx) * product(y, my, y, my)).sqrt();
    (spread > 0.0).then(|| (product(x, mx, y, my) / spread).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests;
