//! `luthier envs`: the environments that replicas run in, who uses them and what is in them.

use luthier_types::{Code, Error, Result};
use serde_json::{Value, json};

use crate::{
    Remote,
    client::{Client, text},
    images::model_name,
    jobs::{self, word},
    models::{self, ModelName},
    output,
};

/// List the environments: size, alone and shared, and who uses them.
#[derive(clap::Args)]
pub(crate) struct Envs {
    #[command(subcommand)]
    command: Option<EnvsCommand>,
    #[command(flatten)]
    list: Remote<List>,
}

#[derive(clap::Subcommand)]
enum EnvsCommand {
    Gc(Remote<Gc>),
    Sbom(Remote<Sbom>),
}

#[derive(clap::Args)]
pub(crate) struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Remove the environments that no revision, no unfinished job and no container uses, and what else
/// nobody needs.
#[derive(clap::Args)]
pub(crate) struct Gc {
    /// Only list what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// Print what is in an environment, as a CycloneDX document.
#[derive(clap::Args)]
pub(crate) struct Sbom {
    /// The beginning of an environment's id, or PROJECT/MODEL[:VERSION] for the one it runs in.
    which: String,
}

/// Runs `luthier envs`.
pub(crate) async fn run(args: &Envs) -> Result<()> {
    match &args.command {
        None => list(&args.list.client()?, &args.list.args).await,
        Some(EnvsCommand::Gc(c)) => collect(&c.client()?, &c.args).await,
        Some(EnvsCommand::Sbom(c)) => sbom(&c.client()?, &c.args).await,
    }
}

async fn list(client: &Client, args: &List) -> Result<()> {
    let answer = client.get("/v1/environments").await?;
    if args.json {
        output::data(answer.to_string());
        return Ok(());
    }
    table(&answer, |env| {
        let models = env["models"].as_array().into_iter().flatten();
        let mut users: Vec<String> = models
            .map(|model| match model["current"].as_bool() {
                Some(true) => model_name(model),
                _ => format!("{} (earlier)", model_name(model)),
            })
            .collect();
        let jobs = env["jobs"].as_array().into_iter().flatten();
        users.extend(jobs.map(|job| format!("job {}", word(job))));
        if users.is_empty() {
            let containers = env["containers"].as_array().into_iter().flatten();
            users.extend(containers.map(|id| format!("container {}", word(id))));
        }
        users.join(", ")
    });
    Ok(())
}

fn table(answer: &Value, users: impl Fn(&Value) -> String) {
    let heading = [
        "ENVIRONMENT",
        "PYTHON",
        "PACKAGES",
        "DISK",
        "ALONE",
        "BUILT",
        "USED BY",
    ];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for env in answer["items"].as_array().into_iter().flatten() {
        rows.push(vec![
            word(&env["id"]).chars().take(12).collect(),
            word(&env["python"]),
            word(&env["packages"]),
            output::bytes(&env["bytes"]),
            output::bytes(&env["alone"]),
            word(&env["built"]).chars().take(16).collect(),
            users(env),
        ]);
    }
    output::table(&rows);
}

async fn collect(client: &Client, args: &Gc) -> Result<()> {
    let body = json!({ "dry_run": args.dry_run });
    let answer = client.post("/v1/environments/collect", &body).await?;
    if args.dry_run {
        table(&answer, |_| "-".to_owned());
        return Ok(());
    }
    let id = text(&answer["job"], "id")?;
    jobs::wait(client, &id).await?;
    let job = client.get(&format!("/v1/jobs/{id}")).await?;
    let (envs, rest) = (&job["steps"][0]["result"], &job["steps"][1]["result"]);
    for env in envs["environments"].as_array().into_iter().flatten() {
        output::data(word(env));
    }
    output::note(format!(
        "free again: {} of environments, {} of what else nobody needs ({} uploads, {} files, {} \
         packages)",
        output::bytes(&envs["bytes"]),
        output::bytes(&rest["bytes"]),
        word(&rest["uploads"]),
        word(&rest["blobs"]),
        rest["packages"].as_array().map_or(0, Vec::len),
    ));
    Ok(())
}

async fn sbom(client: &Client, args: &Sbom) -> Result<()> {
    let id = match args.which.parse::<ModelName>() {
        Ok(name) => environment_of(client, &name).await?,
        Err(_) => args.which.clone(),
    };
    let answer = client
        .get(&format!(
            "/v1/environments/{}/sbom",
            crate::client::escape(&id)
        ))
        .await?;
    let pretty = serde_json::to_string_pretty(&answer)
        .map_err(|e| Error::internal("writing the document", e))?;
    output::data(pretty);
    Ok(())
}

/// The environment of the revision that a model's deployment wants.
async fn environment_of(client: &Client, name: &ModelName) -> Result<String> {
    let model = models::model(client, name).await?;
    let answer = client.get("/v1/deployments").await?;
    let mut deployments = answer["items"].as_array().into_iter().flatten();
    let found = deployments.find(|deployment| deployment["model_id"] == model["id"]);
    found
        .and_then(|deployment| deployment["environment"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| {
            Error::new(
                Code::NotFound,
                format!("{}/{} has no environment", name.project, name.model),
            )
            .hint("Deploy it first; `luthier ps` lists the deployments.")
        })
}
