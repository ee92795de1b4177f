//! Revisions as OCI images: layouts in a directory or an archive, and pushes to a registry.
//!
//! Each part of a revision is a layer of its own: root file system, interpreter, environment,
//! runner, package, and last a small one that holds the runner's configuration. A layer's bytes
//! follow from its content alone: entries in order, one time for all, nobody's user ids. They are
//! made once and kept by the content's digest, so that a new version of a package makes and moves
//! only the package's layer.

mod annotate;
pub(crate) mod blob;
mod export;
pub(crate) mod layer;
mod push;
pub(crate) mod registry;

use std::collections::BTreeMap;

use jiff::Timestamp;
use luthier_types::{
    Digest, EnvId, Error, Result, RevisionId,
    layout::{CacheLayout, container},
    runner::{self, InputColumn, RunnerConfig},
};
use serde::{Deserialize, Serialize};

pub use blob::Blob;
pub use export::{Exported, Target, export};
pub use push::{Pushed, push};
pub use registry::{Access, Credentials};

pub use layer::Kind;

use layer::Content;

/// The TCP port on which the runner of an exported image listens.
pub const PORT: u16 = 8080;

/// A revision, as the server describes it: what an image is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Its id.
    pub id: RevisionId,
    /// The model version it belongs to, `project/model:version`.
    pub model: String,
    /// Name of the image.
    pub image_uri: String,
    /// Digest of the image.
    pub image: Digest,
    /// Root file system.
    pub rootfs: Digest,
    /// Interpreter.
    pub interpreter: Digest,
    /// Environment variables that the image sets.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Environment.
    pub env: EnvId,
    /// Runner.
    pub runner: Digest,
    /// Package.
    pub package: Digest,
    /// The model's inputs, in order.
    pub inputs: Vec<InputColumn>,
    /// The model's outputs, in order.
    pub outputs: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An image whose blobs are all in the cache.
#[derive(Clone, Debug)]
pub struct Image {
    /// The layers, lowest first: what each is, and its blob.
    pub layers: Vec<(Kind, Blob)>,
    /// The configuration and its text.
    pub config: (Blob, Vec<u8>),
    /// The manifest and its text.
    pub manifest: (Blob, Vec<u8>),
}

/// Makes the blobs of the revision's image that are not in the cache yet. Hands a sentence to
/// `note` for each layer it makes.
///
/// # Errors
/// `NotFound` when a part of the revision is not in this cache, `Internal` when the cache cannot
/// be written.
pub async fn image(
    layout: &CacheLayout,
    revision: &Revision,
    note: &(dyn Fn(String) + Sync),
) -> Result<Image> {
    let mut layers = vec![];
    for (kind, content) in contents(layout, revision)? {
        layers.push((kind, layer::ensure(layout, kind, &content, note).await?));
    }
    let config = annotate::config(revision, &layers)?;
    let config = (Blob::of(&config), config);
    let manifest = annotate::manifest(revision, &layers, &config.0)?;
    let manifest = (Blob::of(&manifest), manifest);
    Ok(Image {
        layers,
        config,
        manifest,
    })
}

/// The parts of a revision, lowest first.
fn contents(layout: &CacheLayout, revision: &Revision) -> Result<Vec<(Kind, Content)>> {
    let config = runner_config(revision)?;
    Ok([
        (
            Kind::Rootfs,
            layout.rootfs(&revision.rootfs),
            &revision.rootfs,
        ),
        (
            Kind::Interpreter,
            layout.interpreter(&revision.interpreter),
            &revision.interpreter,
        ),
        (
            Kind::Environment,
            layout.env(&revision.env),
            &revision.env.0,
        ),
        (
            Kind::Runner,
            layout.runner(&revision.runner),
            &revision.runner,
        ),
        (
            Kind::Package,
            layout.package(&revision.package),
            &revision.package,
        ),
    ]
    .into_iter()
    .map(|(kind, tree, digest)| (kind, Content::Tree(tree, digest.clone())))
    .chain([(
        Kind::Configuration,
        Content::File(container::CONFIG.trim_start_matches('/').into(), config),
    )])
    .collect())
}

/// What the runner of an exported image reads at start: as a local replica's, but for listening
/// on TCP.
fn runner_config(revision: &Revision) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(&RunnerConfig {
        package: container::PACKAGE.to_owned(),
        listen: format!("tcp:0.0.0.0:{PORT}"),
        inputs: revision.inputs.clone(),
        outputs: revision.outputs.clone(),
        threads: runner::HTTP_THREADS,
        max_body_bytes: runner::MAX_BODY_BYTES,
    })
    .map_err(|e| Error::internal("writing the runner's configuration", e))
}

#[cfg(test)]
mod tests;
