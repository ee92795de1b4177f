//! What people are shown of a deploy job's steps.

use serde_json::{Map, Value, json};

use super::{await_ready::Awaited, check::Checked, image::notice, lock::Locked};

/// What became of a step, by what it recorded: the image and why it was taken, the findings of the
/// check, how it differs from what served before.
pub(crate) fn outcome(step: &str, result: &Value) -> Map<String, Value> {
    let shown = match step {
        "lock" => serde_json::from_value(result.clone()).ok().map(locked),
        "check" => serde_json::from_value(result.clone()).ok().map(checked),
        "await_ready" => serde_json::from_value(result.clone()).ok().map(awaited),
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

fn awaited(awaited: Awaited) -> Value {
    json!({ "comparison": awaited.comparison, "sizing": awaited.sizing })
}
