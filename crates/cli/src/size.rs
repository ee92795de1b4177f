//! `luthier size`: what a model uses, and what to give it.

use luthier_types::{Mebibytes, Result, sizing::Sizing};

use crate::{
    client::{Client, text},
    models::{self, ModelName},
    output,
};

/// Show what memory and CPU a model uses, and what to set.
#[derive(clap::Args)]
pub(crate) struct Size {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `luthier size`.
pub(crate) async fn run(client: &Client, args: &Size) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let id = text(&model, "id")?;
    let deployment = client.get(&format!("/v3/models/{id}/deployment")).await?;
    if args.json {
        output::data(deployment["sizing"].to_string());
        return Ok(());
    }
    let Ok(sizing) = serde_json::from_value::<Sizing>(deployment["sizing"].clone()) else {
        output::note("Nothing was measured yet: no replica has loaded.");
        return Ok(());
    };
    let usage = &sizing.usage;
    let mib = |bytes: Option<u64>| match bytes {
        Some(bytes) => Mebibytes::from_bytes_ceil(bytes).to_string(),
        None => "-".to_owned(),
    };
    let millis = |time: Option<f64>| match time {
        Some(time) => format!("{time:.2} ms"),
        None => "-".to_owned(),
    };
    let set = |setting: Option<u32>| setting.map_or_else(|| "-".to_owned(), |s| s.to_string());
    let rows = [
        ("peak while loading", mib(usage.load_peak)),
        ("peak while serving", mib(usage.serve_peak)),
        ("most rows in a call", usage.most_rows.to_string()),
        ("requests seen", usage.requests.to_string()),
        ("rows seen", usage.rows.to_string()),
        ("CPU per request", millis(sizing.cpu_ms_per_request)),
        ("CPU per row", millis(sizing.cpu_ms_per_row)),
        ("proposed memory", set(sizing.memory.setting.map(|m| m.0))),
        ("proposed cpu", set(sizing.cpu.setting.map(|c| c.0))),
    ];
    let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
    output::table(&rows);
    output::prose(format!("memory: {}.", sizing.memory.reason), 2);
    output::prose(format!("cpu: {}.", sizing.cpu.reason), 2);
    Ok(())
}
