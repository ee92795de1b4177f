//! `luthier explain`: which inputs moved a prediction, and by how much.

use luthier_types::Result;
use serde_json::{Value, json};

use crate::{
    client::{Client, text},
    jobs::word,
    models::{self, ModelName},
    output,
    predict::read_row,
};

/// Explain the prediction of one row.
#[derive(clap::Args)]
pub(crate) struct Explain {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// The row, as a JSON object.
    #[arg(long)]
    row: String,
    /// SHAP, FIDDLER_SHAP, PERMUTE, ZERO_RESET, MEAN_RESET or a method of the package's own.
    #[arg(long, default_value = "FIDDLER_SHAP")]
    method: String,
    /// Name of the dataset to compare against; the model's first when left out.
    #[arg(long)]
    reference: Option<String>,
    /// Seconds after which the answer tells what is known by then, with intervals.
    #[arg(long, value_name = "SECONDS")]
    max_seconds: Option<f64>,
    /// Most rows that the model is asked about.
    #[arg(long, value_name = "ROWS")]
    max_rows: Option<u64>,
    /// Print the server's whole answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `luthier explain`.
pub(crate) async fn run(client: &Client, args: &Explain) -> Result<()> {
    let row = read_row(&args.row)?;
    let model = models::model(client, &args.model).await?;
    let id = text(&model, "id")?;
    let mut body = json!({
        "model_id": id,
        "input_data_source": {"source_type": "ROW", "row": row},
        "explanation_type": args.method,
        "max_seconds": args.max_seconds,
        "max_model_rows": args.max_rows,
    });
    if let Some(reference) = &args.reference {
        let dataset = models::dataset(client, &id, reference).await?;
        body["ref_data_source"] =
            json!({"source_type": "ENVIRONMENT", "env_type": "PRE_PRODUCTION", "env_id": dataset});
    }
    let answer = client.post("/v3/explain", &body).await?;
    if args.json {
        output::data(answer.to_string());
        return Ok(());
    }
    for (name, explanation) in answer["explanations"].as_object().into_iter().flatten() {
        print(name, explanation);
    }
    if let Some(stopped) = answer["stopped"].as_object() {
        output::note(format!(
            "stopped at {} of {}, after {} rows of the model; ± is the 95 % interval of what all of \
             them would give",
            stopped["done"], stopped["of"], answer["receipt"]["model_rows"],
        ));
    }
    Ok(())
}

/// A table of one output's attributions, largest first.
fn print(name: &str, explanation: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    output::data(format!(
        "{name}: {:.6} = baseline {:.6} {:+.6}",
        number(&explanation["model_prediction"]),
        number(&explanation["baseline_prediction"]),
        number(&explanation["GEM"]["attribution"]),
    ));
    let contents = explanation["GEM"]["contents"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let mut features: Vec<&Value> = contents.iter().collect();
    let size = |feature: &&Value| number(&feature["attribution"]).abs();
    features.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let largest = features.first().map_or(0.0, size);
    let mut rows = vec![];
    for feature in features {
        let attribution = number(&feature["attribution"]);
        let share = if largest > 0.0 {
            attribution.abs() / largest * 20.0
        } else {
            0.0
        };
        let sign = if attribution < 0.0 { "-" } else { "+" };
        let uncertainty = feature["attribution-uncertainty"].as_f64();
        rows.push(vec![
            format!("  {}", word(&feature["feature-name"])),
            word(&feature["value"]),
            format!("{attribution:+.6}"),
            uncertainty.map_or_else(String::new, |u| format!("± {u:.6}")),
            sign.repeat(share.round() as usize),
        ]);
    }
    output::table(&rows);
}
