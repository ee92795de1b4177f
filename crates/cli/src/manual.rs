//! `luthier runner-address`: where the runner of a MANUAL deployment listens that an operator keeps.

use luthier_types::Result;
use serde_json::json;

use crate::{
    client::{Client, text},
    jobs,
    models::{self, ModelName},
    output,
};

/// Set where the runner of a MANUAL deployment listens that you keep yourself.
///
/// It is tried before traffic reaches it, at once if the deployment is active, else when it is made
/// active; if it is not good, the old one serves on.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["address", "none"])))]
pub(crate) struct RunnerAddress {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// http://HOST:PORT or unix:/PATH.
    #[arg(value_name = "URL")]
    address: Option<String>,
    /// Let the server start containers instead.
    #[arg(long)]
    none: bool,
}

/// Runs `luthier runner-address`.
pub(crate) async fn run(client: &Client, args: &RunnerAddress) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let id = text(&model, "id")?;
    set(client, &id, args.address.as_deref()).await?;
    output::data(args.address.as_deref().unwrap_or("containers"));
    Ok(())
}

/// Sets the address and waits until it has taken effect.
pub(crate) async fn set(client: &Client, model: &str, address: Option<&str>) -> Result<()> {
    let path = format!("/v1/models/{model}/runner-address");
    let answer = client.put(&path, &json!({ "address": address })).await?;
    jobs::wait(client, &text(&answer["job"], "id")?).await
}
