//! `luthier audit`.

use luthier_types::Result;
use serde_json::Value;

use crate::{
    client::{Client, escape, text},
    jobs::word,
    models::{self, ModelName},
    output,
};

/// Show who changed what, newest first.
#[derive(clap::Args)]
pub(crate) struct Audit {
    /// Only what concerns PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: Option<ModelName>,
    /// Only since this time, such as 2024-10-01T12:00:00Z.
    #[arg(long)]
    since: Option<String>,
    /// Only before this time.
    #[arg(long)]
    until: Option<String>,
    /// How many entries at most.
    #[arg(short = 'n', long, default_value_t = 50)]
    limit: usize,
    /// Print JSON, one entry per line.
    #[arg(long)]
    json: bool,
}

/// Entries asked for at once.
const PAGE: usize = 1000;

/// Runs `luthier audit`.
pub(crate) async fn run(client: &Client, args: &Audit) -> Result<()> {
    let mut query = String::new();
    if let Some(name) = &args.model {
        let model = models::model(client, name).await?;
        query.push_str(&format!("&model_id={}", text(&model, "id")?));
    }
    for (key, value) in [("since", &args.since), ("until", &args.until)] {
        if let Some(value) = value {
            query.push_str(&format!("&{key}={}", escape(value)));
        }
    }
    let mut entries: Vec<Value> = vec![];
    let mut before = String::new();
    while entries.len() < args.limit {
        let limit = PAGE.min(args.limit - entries.len());
        let answer = client
            .get(&format!("/v1/audit?limit={limit}{query}{before}"))
            .await?;
        entries.extend(answer["items"].as_array().into_iter().flatten().cloned());
        let Some(next) = answer["next"].as_i64() else {
            break;
        };
        before = format!("&before={next}");
    }
    if args.json {
        for entry in entries {
            output::data(entry.to_string());
        }
        return Ok(());
    }
    let heading = ["TIME", "WHO", "FROM", "WHAT", "ON", "CHANGES"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        vec![
            word(&entry["at"]),
            word(&entry["actor"]),
            word(&entry["address"]),
            word(&entry["action"]),
            on(entry),
            changes(&entry["changes"]),
        ]
    }));
    output::table(&rows);
    Ok(())
}

fn on(entry: &Value) -> String {
    match &entry["name"] {
        Value::Null => word(&entry["target"]),
        name => word(name),
    }
}

/// Short values as they were and are, of others that they changed.
fn changes(changes: &Value) -> String {
    let shown = |value: &Value| match word(value) {
        text if text.is_empty() => "-".to_owned(),
        text if text.len() > 40 => "…".to_owned(),
        text => text,
    };
    let fields = changes.as_object().into_iter().flatten();
    let fields: Vec<String> = fields
        .map(|(field, change)| match &change["before"] {
            Value::Null if change.is_object() => format!("{field}={}", shown(&change["after"])),
            Value::Null => format!("{field}={}", shown(change)),
            before => format!("{field}={}→{}", shown(before), shown(&change["after"])),
        })
        .collect();
    fields.join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_short() {
        let change = json!({
            "replicas": { "before": 1, "after": 2 },
            "image_uri": { "before": null, "after": "x" },
            "schema": { "before": "y".repeat(50), "after": "z".repeat(50) },
            "error": "ModelServeError",
        });
        assert_eq!(
            changes(&change),
            "replicas=1→2 image_uri=x schema=…→… error=ModelServeError"
        );
    }
}
