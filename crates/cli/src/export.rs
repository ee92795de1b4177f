//! `luthier export` and `luthier push`: a model's revision as an OCI image.
//!
//! The server says of what a revision consists; the layers are read from the machine's own cache,
//! so both run where the server runs. Gigabytes then need not pass through the API, and the
//! registry's passwords stay with whoever pushes.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::ProgressBar;
use luthier_server::{
    machine::layout_of,
    oci::{self, Access, Credentials, Revision, Target},
};
use luthier_types::{Code, Error, Result, RevisionId, layout::CacheLayout};

use crate::{
    client::{Client, text},
    models::{self, ModelName},
    output,
};

/// Which revision, and where its layers lie.
#[derive(clap::Args)]
struct Source {
    /// PROJECT/MODEL or PROJECT/MODEL:VERSION.
    model: ModelName,
    /// Another revision of it than the one that serves.
    #[arg(long)]
    revision: Option<RevisionId>,
    /// The server's directory of all state.
    #[arg(long, default_value = "luthier-data", env = "LUTHIER_DATA")]
    data: PathBuf,
    /// The server's directory of layers; below the data directory when left out.
    #[arg(long, env = "LUTHIER_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
}

/// Write a model's revision as an OCI image, for Docker, Podman and Kubernetes; on the server's
/// machine.
///
/// The container answers on port 8080 as replicas do: POST /predict, GET /v2/health/ready.
#[derive(clap::Args)]
pub(crate) struct Export {
    #[command(flatten)]
    source: Source,
    /// A directory (an image layout; other images in it stay), or a file ending in .tar.
    #[arg(long)]
    to: PathBuf,
    /// Name of the image in the layout; project/model:version when left out.
    #[arg(long)]
    name: Option<String>,
}

/// Push a model's revision to a registry as an OCI image; on the server's machine.
///
/// Only the layers that the registry lacks are sent. Prints the name by digest.
#[derive(clap::Args)]
pub(crate) struct Push {
    #[command(flatten)]
    source: Source,
    /// HOST[:PORT]/REPOSITORY:TAG.
    to: String,
    /// Reach the registry by HTTP, without TLS.
    #[arg(long)]
    plain_http: bool,
    /// File of registry logins, as `docker login` writes it; that of the user when left out.
    #[arg(long, env = "LUTHIER_REGISTRY_AUTH")]
    registry_auth: Option<PathBuf>,
}

impl Source {
    fn layout(&self) -> CacheLayout {
        layout_of(&self.data, self.cache_dir.as_deref())
    }

    /// Asks the server what the revision is made of.
    async fn revision(&self, client: &Client) -> Result<Revision> {
        let model = text(&models::model(client, &self.model).await?, "id")?;
        let path = format!("/v1/models/{model}/revision");
        let answer = match self.revision {
            None => client.get(&path).await?,
            Some(id) => client.get_with(&path, &[("id", &id.to_string())]).await?,
        };
        serde_json::from_value(answer).map_err(|e| {
            Error::new(
                Code::Internal,
                "the server describes the revision in a way this program does not know",
            )
            .hint("Use the `luthier` of the same version as the server.")
            .source(e)
        })
    }
}

/// Runs `luthier export`.
pub(crate) async fn export(client: &Client, args: &Export) -> Result<()> {
    let revision = args.source.revision(client).await?;
    let target = target(&args.to);
    let exported = watched(async |note| {
        let layout = args.source.layout();
        oci::export(&layout, &revision, &target, args.name.as_deref(), note).await
    })
    .await?;
    output::note(format!(
        "{} in {}: {} MiB",
        exported.name,
        args.to.display(),
        exported.size.div_ceil(1 << 20)
    ));
    output::data(exported.manifest.name());
    Ok(())
}

/// Runs `luthier push`.
pub(crate) async fn push(client: &Client, args: &Push) -> Result<()> {
    let revision = args.source.revision(client).await?;
    let credentials = match &args.registry_auth {
        Some(path) => Credentials::read(path)?,
        None => Credentials::of_user()?,
    };
    let access = Access {
        plain_http: args.plain_http,
        credentials,
    };
    let pushed = watched(async |note| {
        let layout = args.source.layout();
        oci::push(&layout, &revision, &args.to, &access, note).await
    })
    .await?;
    output::note(format!(
        "sent {} of {} blobs, {} KiB",
        pushed.sent.0,
        pushed.sent.0 + pushed.there,
        pushed.sent.1.div_ceil(1024)
    ));
    output::data(pushed.reference);
    Ok(())
}

fn target(to: &Path) -> Target {
    if to.extension().is_some_and(|e| e == "tar") {
        Target::Archive(to.to_owned())
    } else {
        Target::Directory(to.to_owned())
    }
}

/// Does the work, showing who watches what it does, and others a line for each thing.
async fn watched<T>(work: impl AsyncFnOnce(&(dyn Fn(String) + Sync)) -> Result<T>) -> Result<T> {
    let bar = ProgressBar::new_spinner();
    let watched = output::is_watched();
    if watched {
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    let shown = bar.clone();
    let done = work(&move |line| {
        if watched {
            shown.set_message(line);
        } else {
            output::note(line);
        }
    })
    .await;
    bar.finish_and_clear();
    done
}
