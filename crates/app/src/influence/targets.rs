//! What was true of a row, as a model's task has it.

use luthier_explain::Loss;
use luthier_types::{Code, Column, Error, Result, Task};
use serde_json::Value;

use crate::{explain::bad, serving::Serving};

/// The column of the targets.
pub(super) fn column(serving: &Serving) -> Result<Column> {
    let card = &serving.card;
    let [name] = &card.spec.targets[..] else {
        return Err(bad(
            &format!(
                "the model has {} targets, and importance needs one",
                card.spec.targets.len()
            ),
            "Name the column of what was true as the only target in the model's spec.",
        ));
    };
    let column = card.schema.column(name).cloned();
    column.ok_or_else(|| {
        bad(
            &format!("the target `{name}` is not in the model's schema"),
            "Add it to the schema.",
        )
    })
}

/// The loss of a model's predictions for rows of which `truths` are true, leaving out those that
/// say nothing, and which rows are left in.
pub(super) fn loss(serving: &Serving, truths: &[Value]) -> Result<(Loss, Vec<bool>)> {
    let card = &serving.card;
    let order = card.task_params["target_class_order"].as_array();
    let classes = order.map(|order| order.iter().map(word).collect::<Vec<_>>());
    let place = |truth: &Value, classes: &[String]| {
        let truth = word(truth);
        classes.iter().position(|class| *class == truth)
    };
    let (loss, usable): (Loss, Vec<bool>) = match card.task {
        Task::BinaryClassification => {
            let positive = |truth: &Value| match &classes {
                // The negative class comes first.
                Some(classes) => place(truth, classes).map(|at| at + 1 == classes.len()),
                None => match truth {
                    Value::Bool(truth) => Some(*truth),
                    truth => match truth.as_f64() {
                        Some(1.0) => Some(true),
                        Some(0.0) => Some(false),
                        _ => None,
                    },
                },
            };
            let (found, usable) = split(truths, positive);
            (Loss::BinaryLog(found), usable)
        }
        Task::MulticlassClassification => {
            let classes = classes.unwrap_or_else(|| card.spec.outputs.clone());
            let (found, usable) = split(truths, |truth| place(truth, &classes));
            (Loss::ClassLog(found), usable)
        }
        Task::Regression => {
            let (found, usable) = split(truths, |truth| truth.as_f64().filter(|v| v.is_finite()));
            (Loss::Squared(found), usable)
        }
        Task::Ranking | Task::Llm | Task::NotSet => {
            return Err(Error::new(
                Code::NotSupported,
                "importance is not measured for models of this task",
            )
            .hint("Ask for feature impact, which needs no targets."));
        }
    };
    if usable.contains(&true) {
        return Ok((loss, usable));
    }
    Err(bad(
        &format!(
            "none of {} rows has a target that can be used",
            truths.len()
        ),
        "Set target_class_order in the model's task parameters to the classes in the order of the \
         outputs, for a binary model the positive one last; and publish rows with targets.",
    ))
}

/// What is found in the values, and in which something is found.
fn split<T>(truths: &[Value], of: impl Fn(&Value) -> Option<T>) -> (Vec<T>, Vec<bool>) {
    let found: Vec<Option<T>> = truths.iter().map(of).collect();
    let usable = found.iter().map(Option::is_some).collect();
    (found.into_iter().flatten().collect(), usable)
}

/// A value as classes are compared: 1, 1.0 and "1" are the same.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => format!("{whole:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_and_their_words_are_the_same_class() {
        for value in [json!(1), json!(1.0), json!("1")] {
            assert_eq!(word(&value), "1");
        }
        assert_eq!(word(&json!(0.5)), "0.5");
        assert_eq!(word(&json!(true)), "true");
        assert_eq!(word(&json!(null)), "null");
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let truths = [json!(1.5), json!(null), json!("x"), json!(2)];
        let (found, usable) = split(&truths, Value::as_f64);
        assert_eq!(found, [1.5, 2.0]);
        assert_eq!(usable, [true, false, false, true]);
    }
}
