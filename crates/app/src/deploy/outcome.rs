//! What people are shown of a deploy job's steps.

use serde_json::{Map, Value, json};

use super::{check::Checked, image::notice, lock::Locked};

/// What became of a step, by what it recorded: the image and why it was taken, the findings of the
/// check.
pub(crate) fn outcome(step: &str, result: &Value) -> Map<String, Value> {
    let shown = match step {
        "lock" => serde_json::from_value(result.clone()).ok().map(locked),
        "check" => serde_json::from_value(result.clone()).ok().map(checked),
        _ => None,
    };
    match shown {
        Some(Value::Object(shown)) => shown,
        _ => Map::new(),
    }
}

fn locked(locked: Locked) -> Value {
    let image = locked.image.info;
    json!({
        "image_uri": image.uri,
        "python": image.python,
        "chosen": locked.chosen,
        "warnings": notice(&image).into_iter().collect::<Vec<_>>(),
        "environment": locked.lock.id,
    })
}

fn checked(checked: Checked) -> Value {
    json!({ "findings": checked.findings })
}
