//! `luthier images outdated|lock|build|verify`: making a new tag of an image from an old one, on the
//! machine whose data directory is named. Only `outdated` asks a server, for who uses the image.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use indicatif::ProgressBar;
use luthier_server::machine::{Change, LocalImages, LogSink, Machine, MachineOptions};
use luthier_types::{
    Code, Error, Evidence, Mebibytes, Millicpu, RequirementFiles, Result, layout::container,
};
use serde_json::{Value, json};

use crate::{
    client::{Client, Connection},
    output,
};

/// Where things lie on this machine.
#[derive(clap::Args)]
struct Place {
    /// Directory of all state.
    #[arg(long, default_value = "luthier-data", env = "LUTHIER_DATA")]
    data: PathBuf,
    /// Directory of layers; below the data directory when left out.
    #[arg(long, env = "LUTHIER_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
}

/// Show what of an image is not the newest: Debian's packages, and libraries inside their bounds.
#[derive(clap::Args)]
pub(crate) struct Outdated {
    /// Image; every current one when left out.
    image: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    connection: Connection,
}

/// Make a new tag of an image: today's Debian updates, and libraries as new as their bounds let them be.
///
/// The tag and its lock are written into DATA/images, where the server reads them at once.
#[derive(clap::Args)]
pub(crate) struct Lock {
    /// The image to start from.
    image: String,
    /// The new tag, for example 1.0.1.
    #[arg(long)]
    tag: String,
    /// Another directory to write into.
    #[arg(long)]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Make an image's file system, interpreter and environment on this machine, so that the first deployment need not.
#[derive(clap::Args)]
pub(crate) struct Build {
    /// Image.
    image: String,
    #[command(flatten)]
    place: Place,
}

/// Build an image and import everything it promises, in a container of it.
#[derive(clap::Args)]
pub(crate) struct Verify {
    /// Image.
    image: String,
    /// Memory limit, in MiB.
    #[arg(long, default_value_t = 4096)]
    memory: u32,
    #[command(flatten)]
    place: Place,
}

/// Runs `luthier images outdated`.
///
/// # Errors
/// Those of resolving and of Debian's archive.
pub(crate) async fn outdated(args: &Outdated) -> Result<()> {
    let opened = Opened::new(&args.place)?;
    let today = LocalImages::today();
    let images = match &args.image {
        Some(image) => vec![image.clone()],
        None => opened.machine.current_images(),
    };
    // Without a token there is no server to ask.
    let users = match Client::new(&args.connection) {
        Ok(client) => client.get("/v1/images").await,
        Err(e) => Err(e),
    };
    let mut all = vec![];
    for image in &images {
        let log = opened.log(image);
        let found = opened.machine.images.outdated(image, &today, &log).await?;
        opened.bar.set_message("");
        let using = users.as_ref().ok().map(|answer| users_of(answer, image));
        if args.json {
            all.push(json!({
                "image": image,
                "debian": found.debian.as_deref().map(changes_json),
                "libraries": changes_json(&found.libraries),
                "deployments": using,
            }));
            continue;
        }
        output::data(image);
        match &found.debian {
            None => output::data("  Debian packages: not made on this machine, nothing to compare"),
            Some(debian) => changes("Debian packages", debian),
        }
        changes("libraries", &found.libraries);
        if let Some(using) = using.filter(|using| !using.is_empty()) {
            output::data(format!("  used by {}", using.join(", ")));
        }
    }
    opened.bar.finish_and_clear();
    if args.json {
        output::data(json!({ "items": all }).to_string());
    } else if let Err(e) = &users {
        output::note(format!("which deployments use them is not known: {e}"));
    }
    Ok(())
}

/// Runs `luthier images lock`.
///
/// # Errors
/// Those of resolving, and `Conflict` when the tag is there.
pub(crate) async fn lock(args: &Lock) -> Result<()> {
    let opened = Opened::new(&args.place)?;
    let directory = match &args.catalogue {
        Some(directory) => directory.clone(),
        None => opened.machine.own_images(),
    };
    let log = opened.log(&args.image);
    let today = LocalImages::today();
    let images = &opened.machine.images;
    let locked = images
        .lock(&args.image, &args.tag, &directory, &today, &log)
        .await;
    opened.bar.finish_and_clear();
    let (made, found) = locked?;
    output::data(&made);
    changes("libraries", &found);
    output::data("  Debian packages: as of the day it is made");
    output::note(format!(
        "Try it with `luthier images verify {made}`; then move a model to it with `luthier images \
         move PROJECT/MODEL --image {made}`.",
    ));
    Ok(())
}

/// Runs `luthier images build`.
///
/// # Errors
/// Those of making an image and its environment.
pub(crate) async fn build(args: &Build) -> Result<()> {
    let opened = Opened::new(&args.place)?;
    let log = opened.log(&args.image);
    let none = RequirementFiles::default();
    let built = opened.machine.environment(&args.image, none, &log).await;
    opened.bar.finish_and_clear();
    built?;
    output::data(&args.image);
    Ok(())
}

/// Runs `luthier images verify`.
///
/// # Errors
/// `ImageUnavailable` when something the image promises is not there.
pub(crate) async fn verify(args: &Verify) -> Result<()> {
    let opened = Opened::new(&args.place)?;
    let log = opened.log(&args.image);
    let script = opened.machine.images.check_script(&args.image)?;
    let none = RequirementFiles::default();
    let built = opened.machine.environment(&args.image, none, &log).await;
    opened.bar.finish_and_clear();
    let env = [("HOME", "/tmp"), ("LANG", "C.UTF-8")];
    let env: BTreeMap<String, String> = env.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    let command = [container::ENV_PYTHON, "-I", "-c", &script].map(str::to_owned);
    let memory = Mebibytes(args.memory);
    let exit = opened
        .machine
        .run_to_end(
            &built?,
            vec![],
            command.to_vec(),
            env,
            memory,
            Millicpu(1000),
            |line| output::data(line),
        )
        .await?;
    if exit.code == Some(0) {
        return Ok(());
    }
    Err(Error::new(
        Code::ImageUnavailable,
        format!("the image `{}` does not hold what it promises", args.image),
    )
    .hint("The lines above tell what failed; mend its file or its lock, under another tag.")
    .evidence(Evidence {
        exit_code: exit.code,
        signal: exit.signal,
        out_of_memory: Some(exit.out_of_memory),
        memory_peak: exit.memory_peak,
        memory_limit: Some(memory.bytes()),
        ..Evidence::default()
    }))
}

/// This machine, with containers that are remembered only while the command runs.
struct Opened {
    machine: Machine,
    bar: ProgressBar,
    _scratch: tempfile::TempDir,
}

impl Opened {
    fn new(place: &Place) -> Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("luthier-images-")
            .tempdir()
            .map_err(|e| Error::internal("making a scratch directory", e))?;
        let machine = Machine::open(&MachineOptions {
            data: place.data.clone(),
            cache: place.cache_dir.clone(),
            containers: Some(scratch.path().join("containers")),
        })?;
        let bar = ProgressBar::new_spinner();
        if output::is_watched() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Ok(Self {
            machine,
            bar,
            _scratch: scratch,
        })
    }

    /// Shows each line beside the spinner.
    fn log(&self, image: &str) -> LogSink {
        let (bar, image) = (self.bar.clone(), image.to_owned());
        LogSink::new(move |line| {
            let line: String = line.chars().take(100).collect();
            bar.set_message(format!("{image}: {line}"));
        })
    }
}

fn changes(what: &str, changes: &[Change]) {
    if changes.is_empty() {
        output::data(format!("  {what}: nothing newer"));
        return;
    }
    output::data(format!("  {what}:"));
    for change in changes {
        output::data(match (change.from.as_str(), change.to.as_str()) {
            ("", to) => format!("    + {} {to}", change.name),
            (from, "") => format!("    - {} {from}", change.name),
            (from, to) => format!("    {} {from} → {to}", change.name),
        });
    }
}

fn changes_json(changes: &[Change]) -> Vec<Value> {
    let row = |c: &Change| json!({ "name": c.name, "from": c.from, "to": c.to });
    changes.iter().map(row).collect()
}

/// The deployments on an image, in the answer of `/v1/images`.
fn users_of(answer: &Value, image: &str) -> Vec<String> {
    let items = answer["items"].as_array().into_iter().flatten();
    items
        .filter(|item| item["uri"] == image)
        .flat_map(|item| item["deployments"].as_array().cloned().unwrap_or_default())
        .map(|user| {
            let part = |name: &str| user[name].as_str().unwrap_or_default().to_owned();
            format!("{}/{}:{}", part("project"), part("model"), part("version"))
        })
        .collect()
}
