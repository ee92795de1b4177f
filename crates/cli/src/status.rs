//! `luthier ps`.

use luthier_types::{BatchingVerdict, Result};
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
            word(&deployment["failure"]["code"]),
        ]);
    }
    output::table(&rows);
    Ok(())
}

/// Whether requests are predicted together, and why not.
fn batched(verdict: &Value) -> String {
    serde_json::from_value::<BatchingVerdict>(verdict.clone())
        .map_or_else(|_| "-".to_owned(), |verdict| verdict.to_string())
}
