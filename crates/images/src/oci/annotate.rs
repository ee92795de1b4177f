//! What is said of an image: its configuration and its manifest.

use std::collections::HashMap;

use luthier_types::{
    Error, Result,
    layout::container,
    runner::{COMMAND, ENVIRONMENT},
};
use oci_spec::{
    OciSpecError,
    image::{
        Arch, ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfiguration,
        ImageConfigurationBuilder, ImageManifestBuilder, MediaType, Os, RootFsBuilder,
        SCHEMA_VERSION, Sha256Digest,
    },
};
use serde::Serialize;

use super::{Blob, Kind, PORT, Revision};

/// User and group of the process. Not root, and not one that the image names.
const USER: &str = "1000:1000";

const TITLE: &str = "org.opencontainers.image.title";
const CREATED: &str = "org.opencontainers.image.created";
const BASE: &str = "org.opencontainers.image.base.name";
const VERSION: &str = "org.opencontainers.image.version";

/// The configuration's text.
pub(super) fn config(revision: &Revision, layers: &[(Kind, Blob)]) -> Result<Vec<u8>> {
    build_config(revision, layers)
        .map_err(unfit)
        .and_then(|config| ordered(&config))
}

/// The manifest's text.
pub(super) fn manifest(
    revision: &Revision,
    layers: &[(Kind, Blob)],
    config: &Blob,
) -> Result<Vec<u8>> {
    let build = || {
        let layers = layers
            .iter()
            .map(|(kind, blob)| {
                descriptor(blob, MediaType::ImageLayerGzip)?
                    .annotations(HashMap::from([(TITLE.to_owned(), kind.to_string())]))
                    .build()
            })
            .collect::<Result<Vec<Descriptor>, _>>()?;
        ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(descriptor(config, MediaType::ImageConfig)?.build()?)
            .layers(layers)
            .annotations(labels(revision))
            .build()
    };
    build()
        .map_err(unfit)
        .and_then(|manifest| ordered(&manifest))
}

/// The descriptor of a blob.
pub(super) fn descriptor(
    blob: &Blob,
    media_type: MediaType,
) -> Result<DescriptorBuilder, OciSpecError> {
    let digest: Sha256Digest = blob.digest.as_str().parse()?;
    Ok(DescriptorBuilder::default()
        .media_type(media_type)
        .digest(digest)
        .size(blob.size))
}

fn build_config(
    revision: &Revision,
    layers: &[(Kind, Blob)],
) -> Result<ImageConfiguration, OciSpecError> {
    let created = revision.created_at.to_string();
    let mut history = vec![];
    for (kind, _) in layers {
        history.push(
            HistoryBuilder::default()
                .created(&created)
                .created_by(format!("luthier: {kind}"))
                .comment(origin(*kind, revision))
                .build()?,
        );
    }
    let diffs: Vec<String> = layers
        .iter()
        .map(|(_, blob)| format!("sha256:{}", blob.diff))
        .collect();
    let mut env = revision.variables.clone();
    for (name, value) in ENVIRONMENT {
        env.entry(name.to_owned()).or_insert(value.to_owned());
    }
    let env: Vec<String> = env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    ImageConfigurationBuilder::default()
        .created(&created)
        .architecture(Arch::default())
        .os(Os::Linux)
        .config(
            ConfigBuilder::default()
                .user(USER)
                .exposed_ports(vec![format!("{PORT}/tcp")])
                .env(env)
                .entrypoint(COMMAND.map(str::to_owned).to_vec())
                .working_dir(container::PACKAGE)
                .labels(labels(revision))
                .stop_signal("SIGTERM")
                .build()?,
        )
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(diffs)
                .build()?,
        )
        .history(history)
        .build()
}

/// Where a layer comes from.
fn origin(kind: Kind, revision: &Revision) -> String {
    match kind {
        Kind::Rootfs => format!("{} {}", revision.image_uri, revision.rootfs),
        Kind::Interpreter => revision.interpreter.to_string(),
        Kind::Environment => revision.env.to_string(),
        Kind::Runner => revision.runner.to_string(),
        Kind::Package => revision.package.to_string(),
        Kind::Configuration => container::CONFIG.to_owned(),
    }
}

/// What tools show, and what tells which revision an image is.
fn labels(revision: &Revision) -> HashMap<String, String> {
    let (title, version) = match revision.model.rsplit_once(':') {
        Some((title, version)) => (title, version),
        None => (revision.model.as_str(), ""),
    };
    [
        (TITLE, title.to_owned()),
        (VERSION, version.to_owned()),
        (CREATED, revision.created_at.to_string()),
        (BASE, revision.image_uri.clone()),
        ("luthier.revision", revision.id.to_string()),
        ("luthier.environment", revision.env.to_string()),
        ("luthier.package", revision.package.to_string()),
        ("luthier.runner", revision.runner.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// JSON with its keys in order, so that the same content is always the same bytes.
pub(super) fn ordered(value: &impl Serialize) -> Result<Vec<u8>> {
    let write = || {
        let mut value = serde_json::to_value(value)?;
        value.sort_all_objects();
        serde_json::to_vec(&value)
    };
    write().map_err(|e| Error::internal("describing an image", e))
}

pub(super) fn unfit(error: OciSpecError) -> Error {
    Error::internal("describing an image", error)
}
