//! `luthier failures`: how a model's replicas failed.

use luthier_types::{Code, Error, Result};
use serde_json::Value;

use crate::{
    client::{Client, text},
    jobs::word,
    models::{self, ModelName},
    output,
};

/// Show how a model's replicas failed, also those that are gone: the newest in full.
#[derive(clap::Args)]
pub(crate) struct Failures {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// Show this one of the list in full; 1 is the newest.
    number: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `luthier failures`.
pub(crate) async fn run(client: &Client, args: &Failures) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let id = text(&model, "id")?;
    let answer = client.get(&format!("/v1/models/{id}/failures")).await?;
    if args.json {
        output::data(answer.to_string());
        return Ok(());
    }
    let failures = answer["items"].as_array().cloned().unwrap_or_default();
    if failures.is_empty() {
        output::note("No replica of the model has failed.");
        return Ok(());
    }
    if let Some(number) = args.number {
        let failure = number.checked_sub(1).and_then(|at| failures.get(at));
        let failure = failure.ok_or_else(|| {
            Error::new(
                Code::NotFound,
                format!(
                    "there are {} failures, and no number {number}",
                    failures.len()
                ),
            )
            .hint("`luthier failures PROJECT/MODEL` lists them.")
        })?;
        full(failure);
        return Ok(());
    }
    let mut rows = vec![
        ["", "AT", "WHILE", "CODE", "CAUSE"]
            .map(String::from)
            .to_vec(),
    ];
    for (at, failure) in failures.iter().enumerate() {
        rows.push(vec![
            (at + 1).to_string(),
            word(&failure["at"]),
            word(&failure["phase"]),
            word(&failure["error"]["code"]),
            word(&failure["error"]["message"])
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned(),
        ]);
    }
    output::table(&rows);
    if let Some(newest) = failures.first() {
        output::data("");
        full(newest);
    }
    Ok(())
}

fn full(failure: &Value) {
    output::data(format!(
        "replica {} of revision {} at {}",
        word(&failure["replica"]),
        word(&failure["revision"]),
        word(&failure["at"])
    ));
    match serde_json::from_value::<Error>(failure["error"].clone()) {
        Ok(error) => output::prose(format!("{}: {}", error.code(), error.public_text()), 0),
        // Of a newer server.
        Err(_) => output::data(failure["error"].to_string()),
    }
}
