//! `luthier images`: the catalogue with who uses it, and moving a deployment to another image.

use luthier_types::Result;
use serde_json::{Value, json};

use crate::{
    Remote,
    client::{Client, text},
    jobs::{self, word},
    models::{self, ModelName},
    output, upkeep,
};

/// List the images: their Python, whether they are still to be chosen, disk, and who uses them.
#[derive(clap::Args)]
pub(crate) struct Images {
    #[command(subcommand)]
    command: Option<ImagesCommand>,
    #[command(flatten)]
    list: Remote<List>,
}

#[derive(clap::Subcommand)]
enum ImagesCommand {
    Move(Remote<Move>),
    Outdated(upkeep::Outdated),
    Lock(upkeep::Lock),
    Build(upkeep::Build),
    Verify(upkeep::Verify),
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Show also what is in each image.
    #[arg(long)]
    contents: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Move a model's deployment to another image, or back to the one it was on before.
///
/// The package stays. Its requirements are resolved on the other image, and the new revision must
/// prove itself beside the old one, which serves on if it does not.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("where").required(true).args(["image", "back"])))]
pub(crate) struct Move {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// The image to move to.
    #[arg(long)]
    image: Option<String>,
    /// Move back to the image before, with the versions it had there.
    #[arg(long)]
    back: bool,
}

/// Runs `luthier images`.
pub(crate) async fn run(args: &Images) -> Result<()> {
    match &args.command {
        None => list(&args.list.client()?, &args.list.args).await,
        Some(ImagesCommand::Move(c)) => move_to(&c.client()?, &c.args).await,
        Some(ImagesCommand::Outdated(args)) => upkeep::outdated(args).await,
        Some(ImagesCommand::Lock(args)) => upkeep::lock(args).await,
        Some(ImagesCommand::Build(args)) => upkeep::build(args).await,
        Some(ImagesCommand::Verify(args)) => upkeep::verify(args).await,
    }
}

async fn list(client: &Client, args: &List) -> Result<()> {
    let answer = client.get("/v1/images").await?;
    if args.json {
        output::data(answer.to_string());
        return Ok(());
    }
    let heading = ["IMAGE", "PYTHON", "STATUS", "DISK", "ALONE", "USED BY"];
    let mut rows = vec![heading.map(String::from).to_vec()];
    let images = answer["items"].as_array().cloned().unwrap_or_default();
    for image in &images {
        let users = image["deployments"].as_array().into_iter().flatten();
        rows.push(vec![
            word(&image["uri"]),
            word(&image["python"]),
            status(image),
            output::bytes(&image["disk"]["bytes"]),
            output::bytes(&image["disk"]["alone"]),
            users.map(model_name).collect::<Vec<_>>().join(", "),
        ]);
    }
    output::table(&rows);
    if args.contents {
        for image in &images {
            output::data(format!(
                "\n{}: {}",
                word(&image["uri"]),
                word(&image["summary"])
            ));
            for (what, field) in [("libraries", "libraries"), ("Debian packages", "debian")] {
                let items = image[field].as_array().into_iter().flatten();
                let items: Vec<String> = items.map(word).collect();
                if !items.is_empty() {
                    output::data(format!("  {what}: {}", items.join(", ")));
                }
            }
        }
    }
    Ok(())
}

fn status(image: &Value) -> String {
    let single = match image["single_version"].as_bool() {
        Some(true) => ", single versions",
        _ => "",
    };
    match (image["status"].as_str(), image["default"].as_bool()) {
        (Some("deprecated"), _) => {
            format!("deprecated, use {}{single}", word(&image["replaced_by"]))
        }
        (Some("current"), Some(true)) => format!("default{single}"),
        (Some("of_a_registry"), _) => "of a registry".to_owned(),
        (Some("not_in_catalogue"), _) => "not in the catalogue".to_owned(),
        (status, _) => format!("{}{single}", status.unwrap_or_default()),
    }
}

/// PROJECT/MODEL:VERSION of an item that has these.
pub(crate) fn model_name(item: &Value) -> String {
    format!(
        "{}/{}:{}",
        word(&item["project"]),
        word(&item["model"]),
        word(&item["version"])
    )
}

async fn move_to(client: &Client, args: &Move) -> Result<()> {
    let model = models::model(client, &args.model).await?;
    let id = text(&model, "id")?;
    let body = match &args.image {
        Some(image) => json!({ "image_uri": image }),
        None => json!({ "back": args.back }),
    };
    let answer = client.post(&format!("/v1/models/{id}/move"), &body).await?;
    jobs::wait(client, &text(&answer["job"], "id")?).await?;
    let deployment = client.get(&format!("/v3/models/{id}/deployment")).await?;
    output::data(word(&deployment["image_uri"]));
    Ok(())
}
