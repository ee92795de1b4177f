//! `luthier ps`.

use luthier_types::{BatchingVerdict, Result, sizing::Sizing};
use serde_json::Value;

use crate::{client::Client, jobs::word, output, scale};

/// List deployments and their replicas.
#[derive(clap::Args)]
pub(crate) struct Ps {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `luthier ps`.
pub(crate) async fn ps(client: &Client, args: &Ps) -> Result<()> {
    let answer = client.get("/v1/deployments").await?;
    if args.json {
        output::data(answer.to_string());
        return Ok(());
    }
    let heading = [
        "MODEL",
        "PHASE",
        "READY",
        "REPLICAS",
        "CPU",
        "MEMORY",
        "BATCHED",
        "PYTHON",
        "IMAGE",
        "BETTER SIZE",
        "LAST FAILURE",
    ];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for deployment in answer["items"].as_array().into_iter().flatten() {
        let replicas = deployment["running"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let used: Vec<String> = replicas
            .iter()
            .filter_map(|replica| replica["memory"].as_u64())
            .map(|bytes| format!("{}", bytes.div_ceil(1 << 20)))
            .collect();
        let used = if used.is_empty() {
            "-".to_owned()
        } else {
            used.join("+")
        };
        rows.push(vec![
            format!(
                "{}/{}:{}",
                word(&deployment["project"]),
                word(&deployment["model"]),
                word(&deployment["version"])
            ),
            word(&deployment["phase"]),
            scale::ready(deployment),
            scale::replicas(deployment),
            word(&deployment["cpu"]),
            format!("{used} of {} MiB", word(&deployment["memory"])),
            batched(&deployment["batching"]["verdict"]),
            replicas
                .first()
                .map_or_else(String::new, |r: &Value| word(&r["python"])),
            match &deployment["image_replaced_by"] {
                Value::Null => word(&deployment["image_uri"]),
                _ => format!("{} (deprecated)", word(&deployment["image_uri"])),
            },
            better_size(&deployment["sizing"]),
            last_failure(&deployment["last_failure"]),
        ]);
    }
    output::table(&rows);
    Ok(())
}

/// The settings to change, if what it uses says so.
fn better_size(sizing: &Value) -> String {
    serde_json::from_value::<Sizing>(sizing.clone())
        .ok()
        .and_then(|sizing| sizing.advice())
        .unwrap_or_else(|| "-".to_owned())
}

/// The code, and when, to the minute.
fn last_failure(failure: &Value) -> String {
    match failure["at"].as_str().and_then(|at| at.get(..16)) {
        Some(at) => format!("{} {at}Z", word(&failure["error"]["code"])),
        None => "-".to_owned(),
    }
}

/// Whether requests are predicted together, and why not.
fn batched(verdict: &Value) -> String {
    serde_json::from_value::<BatchingVerdict>(verdict.clone())
        .map_or_else(|_| "-".to_owned(), |verdict| verdict.to_string())
}
