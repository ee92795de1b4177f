//! `luthier deploy`: from a directory to a serving model.

use std::path::{Path, PathBuf};

use luthier_types::{Code, Error, Result};
use serde_json::{Value, json};

use crate::{
    client::{Client, text},
    history::Limits,
    jobs, manual,
    models::{ModelName, find_model, find_project},
    output,
};

/// Deploy the package in a directory as a model.
#[derive(clap::Args)]
pub(crate) struct Deploy {
    /// Directory with package.py.
    dir: PathBuf,
    /// Project; made when there is none of this name.
    #[arg(long)]
    project: String,
    /// Model; made from --sample when there is none of this name.
    #[arg(long)]
    model: String,
    /// Version of the model.
    #[arg(long, default_value = "v1")]
    version: String,
    /// CSV or Parquet file with the model's columns: its schema is inferred from it, and its rows
    /// become the dataset that explanations compare against.
    #[arg(long)]
    sample: Option<PathBuf>,
    /// Output columns, in order.
    #[arg(long, value_delimiter = ',')]
    outputs: Vec<String>,
    /// Target column.
    #[arg(long)]
    target: Option<String>,
    /// Task; told from the outputs when left out.
    #[arg(long)]
    task: Option<String>,
    /// Catalogue image.
    #[arg(long)]
    image: Option<String>,
    /// CPU reservation of each replica, in millicpu.
    #[arg(long)]
    cpu: Option<u32>,
    /// Memory limit of each replica, in MiB.
    #[arg(long)]
    memory: Option<u32>,
    /// Number of replicas.
    #[arg(long)]
    replicas: Option<u32>,
    /// Store the package without starting it: the deployment's type is MANUAL, and it is tried when it
    /// is made active.
    #[arg(long)]
    manual: bool,
    /// Where its runner listens that you keep yourself: http://HOST:PORT or unix:/PATH.
    #[arg(long, value_name = "URL", requires = "manual")]
    runner_address: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

/// Runs `luthier deploy`.
pub(crate) async fn run(client: &Client, args: &Deploy) -> Result<()> {
    if !args.dir.join("package.py").is_file() {
        let cause = format!("there is no package.py in {}", args.dir.display());
        return Err(Error::new(Code::InvalidPackage, cause)
            .hint("Give the directory that holds package.py."));
    }
    let name = ModelName {
        project: args.project.clone(),
        model: args.model.clone(),
        version: Some(args.version.clone()),
    };
    let model = match find_model(client, &name).await? {
        Some(model) => model,
        None => create(client, args).await?,
    };
    let id = text(&model, "id")?;

    let archive = pack(&args.dir)?;
    let file_id = client.upload(archive.path(), "files.tar.gz").await?;
    let mut params = json!({});
    let settings = [
        ("cpu", args.cpu),
        ("memory", args.memory),
        ("replicas", args.replicas),
    ];
    for (key, value) in settings {
        if let Some(value) = value {
            params[key] = value.into();
        }
    }
    if let Some(image) = &args.image {
        params["image_uri"] = image.as_str().into();
    }
    if args.manual {
        params["deployment_type"] = "MANUAL".into();
    }
    let mut body = json!({"file_id": file_id, "deployment_params": params});
    if let Some(limits) = args.limits.given() {
        body["limits"] = limits;
    }
    let path = format!("/v3/models/{id}/deploy-artifact");
    let answer = match model["artifact_status"].as_str() {
        Some("no_model") | None => client.post(&path, &body).await?,
        Some(_) => client.put(&path, &body).await?,
    };
    jobs::wait(client, &text(&answer["job"], "id")?).await?;
    if let Some(address) = &args.runner_address {
        manual::set(client, &id, Some(address)).await?;
    }
    output::data(format!("{}/{}:{}", args.project, args.model, args.version));
    Ok(())
}

/// Makes project, model and reference dataset from the sample.
async fn create(client: &Client, args: &Deploy) -> Result<Value> {
    let (Some(sample), false) = (&args.sample, args.outputs.is_empty()) else {
        let cause = format!("there is no model {}/{} yet", args.project, args.model);
        return Err(Error::new(Code::NotFound, cause).hint(
            "Give --sample FILE and --outputs COLUMN[,COLUMN], and --target COLUMN if the file has \
             one, to make it.",
        ));
    };
    let project = match find_project(client, &args.project).await? {
        Some(id) => id,
        None => {
            let made = client
                .post("/v3/projects", &json!({"name": args.project}))
                .await?;
            text(&made, "id")?
        }
    };

    let sample_name = sample
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or("sample.csv");
    let file_id = client.upload(sample, sample_name).await?;
    let inferred = client
        .post("/v3/model-factory", &json!({"file_id": file_id}))
        .await?;
    let columns = inferred["schema"]["columns"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let names: Vec<&str> = columns.iter().filter_map(|c| c["name"].as_str()).collect();
    for wanted in args.outputs.iter().chain(&args.target) {
        if !names.contains(&wanted.as_str()) {
            let cause = format!("{} has no column `{wanted}`", sample.display());
            return Err(Error::new(Code::BadRequest, cause)
                .hint(format!("Its columns are: {}.", names.join(", "))));
        }
    }
    let apart = |name: &&&str| {
        !args.outputs.iter().any(|o| o == **name) && args.target.as_deref() != Some(**name)
    };
    let inputs: Vec<&str> = names.iter().filter(apart).copied().collect();
    let task = args
        .task
        .clone()
        .unwrap_or_else(|| guess_task(&args.outputs, &columns).to_owned());

    let model = client
        .post(
            "/v3/models",
            &json!({
                "name": args.model,
                "project_id": project,
                "version": args.version,
                "schema": inferred["schema"],
                "spec": {
                    "inputs": inputs,
                    "outputs": args.outputs,
                    "targets": args.target.iter().collect::<Vec<_>>(),
                },
                "input_type": "structured",
                "task": task,
            }),
        )
        .await?;
    let publish = client
        .post(
            "/v3/events",
            &json!({
                "source": {"type": "FILE", "file_id": file_id},
                "model_id": model["id"],
                "env_type": "PRE_PRODUCTION",
                "env_name": "sample",
            }),
        )
        .await?;
    jobs::wait(client, &text(&publish["job"], "id")?).await?;
    output::note(format!(
        "made {}/{} as {task} with {} inputs",
        args.project,
        args.model,
        inputs.len()
    ));
    Ok(model)
}

/// Several outputs are classes; one within 0 and 1 is a probability; any other a number.
fn guess_task(outputs: &[String], columns: &[Value]) -> &'static str {
    if outputs.len() > 1 {
        return "multiclass_classification";
    }
    let column = columns
        .iter()
        .find(|c| c["name"].as_str() == outputs.first().map(String::as_str));
    let bound = |key: &str| column.and_then(|c| c[key].as_f64());
    match (bound("min"), bound("max")) {
        (Some(min), Some(max)) if min >= 0.0 && max <= 1.0 => "binary_classification",
        _ => "regression",
    }
}

/// Packs a directory the way the stock client does: a gzip tar with root `.`.
pub(crate) fn pack(dir: &Path) -> Result<tempfile::NamedTempFile> {
    let failed = |e: std::io::Error| {
        Error::new(Code::BadRequest, format!("cannot pack {}", dir.display())).source(e)
    };
    let file = tempfile::NamedTempFile::new().map_err(failed)?;
    let gzip = flate2::write::GzEncoder::new(file.as_file(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    tar.follow_symlinks(false);
    tar.append_dir_all(".", dir).map_err(failed)?;
    tar.into_inner()
        .and_then(|gzip| gzip.finish())
        .map_err(failed)?;
    Ok(file)
}
