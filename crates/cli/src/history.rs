//! `luthier history`, `rollback`, `approve` and `limits`.

use luthier_types::Result;
use serde_json::{Value, json};

use crate::{
    client::{Client, text},
    jobs::{self, word},
    models::{self, ModelName},
    output,
};

/// List a model's revisions, newest first, and what became of each.
#[derive(clap::Args)]
pub(crate) struct History {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Go back to an earlier revision of a model.
///
/// Its package, image and versions are taken as they were. They make a new revision, which must prove
/// itself beside the one that serves; that one serves on if it does not.
#[derive(clap::Args)]
pub(crate) struct Rollback {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// Number of the revision; without it the last one that served before.
    #[arg(long, value_name = "NUMBER")]
    to: Option<i64>,
}

/// Let through the newest revision of a model, which is held because it differs too much.
#[derive(clap::Args)]
pub(crate) struct Approve {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
}

/// Show or set how far new revisions of a model may differ from the one that serves.
///
/// What is not given has no limit; without any option the limits are shown.
#[derive(clap::Args)]
pub(crate) struct SetLimits {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    #[command(flatten)]
    limits: Limits,
    /// Set no limit.
    #[arg(long, conflicts_with_all = ["max_prediction_change", "max_decision_change",
        "max_latency_ratio", "hold"])]
    none: bool,
}

// How far a new revision may differ. (A doc comment here would stand in for that of each command.)
#[derive(clap::Args)]
pub(crate) struct Limits {
    /// Hold a new revision if an output differs by more than this on any row that it is compared on.
    #[arg(long, value_name = "DIFFERENCE")]
    max_prediction_change: Option<f64>,
    /// Hold it if the predicted class is another for more than this share of the rows, from 0 to 1.
    #[arg(long, value_name = "SHARE")]
    max_decision_change: Option<f64>,
    /// Hold it if one row takes more than this many times as long.
    #[arg(long, value_name = "RATIO")]
    max_latency_ratio: Option<f64>,
    /// Hold it whatever the figures are, until it is approved.
    #[arg(long)]
    hold: bool,
}

impl Limits {
    /// As the server takes them; `None` when none is given.
    pub(crate) fn given(&self) -> Option<Value> {
        let figures = [
            self.max_prediction_change,
            self.max_decision_change,
            self.max_latency_ratio,
        ];
        (self.hold || figures.iter().any(Option::is_some)).then(|| {
            json!({
                "max_prediction_change": self.max_prediction_change,
                "max_decision_change": self.max_decision_change,
                "max_latency_ratio": self.max_latency_ratio,
                "hold": self.hold,
            })
        })
    }
}

/// Runs `luthier history`.
pub(crate) async fn history(client: &Client, args: &History) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let answer = revisions(client, &text(&model, "id")?).await?;
    if args.json {
        output::data(answer.to_string());
        return Ok(());
    }
    let heading = [
        "REVISION", "OUTCOME", "CAUSE", "IMAGE", "VERSIONS", "PACKAGE", "MADE",
    ];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for revision in answer["items"].as_array().into_iter().flatten() {
        let outcome = word(&revision["outcome"]);
        rows.push(vec![
            word(&revision["number"]),
            match (&revision["failure"]["code"], revision["kept"].as_bool()) {
                (Value::String(code), _) => format!("{outcome}: {code}"),
                (_, Some(false)) => format!("{outcome}, gone"),
                _ => outcome,
            },
            word(&revision["cause"]),
            word(&revision["image_uri"]),
            short(&revision["environment"]),
            short(&revision["package"]),
            word(&revision["created_at"]).chars().take(19).collect(),
        ]);
    }
    output::table(&rows);
    Ok(())
}

/// Runs `luthier rollback`.
pub(crate) async fn roll_back(client: &Client, args: &Rollback) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let id = text(&model, "id")?;
    let path = format!("/v1/models/{id}/rollback");
    let answer = client.post(&path, &json!({ "to": args.to })).await?;
    deployed(client, &id, &answer).await
}

/// Runs `luthier approve`.
pub(crate) async fn approve(client: &Client, args: &Approve) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let id = text(&model, "id")?;
    let path = format!("/v1/models/{id}/approve");
    let answer = client.post(&path, &json!({})).await?;
    deployed(client, &id, &answer).await
}

/// Waits for the job that an answer names, and says what it has made.
async fn deployed(client: &Client, model: &str, answer: &Value) -> Result<()> {
    jobs::wait(client, &text(&answer["job"], "id")?).await?;
    let now = revisions(client, model).await?;
    let newest = &now["items"][0];
    output::data(format!(
        "revision {}: {}",
        word(&newest["number"]),
        word(&newest["cause"])
    ));
    Ok(())
}

/// Runs `luthier limits`.
pub(crate) async fn limits(client: &Client, args: &SetLimits) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let path = format!("/v1/models/{}/rollout-limits", text(&model, "id")?);
    let limits = match (args.limits.given(), args.none) {
        (Some(limits), _) => client.put(&path, &limits).await?,
        (None, true) => client.put(&path, &json!({})).await?,
        (None, false) => client.get(&path).await?,
    };
    for (name, limit) in limits.as_object().into_iter().flatten() {
        output::data(format!(
            "{name}: {}",
            match limit {
                Value::Null => "none".to_owned(),
                limit => limit.to_string(),
            }
        ));
    }
    Ok(())
}

async fn revisions(client: &Client, model: &str) -> Result<Value> {
    client.get(&format!("/v1/models/{model}/revisions")).await
}

/// The beginning of a digest.
fn short(digest: &Value) -> String {
    let digest = word(digest);
    let hex = digest.rsplit(':').next().unwrap_or_default();
    hex.chars().take(12).collect()
}
