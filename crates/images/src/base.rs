//! Images of registries as bases: a user's own image, pulled and used as it is.
//!
//! Its layers become one root file system. Its CPython and its libraries stay where they are in it:
//! the interpreter layer is a link, and the environment looks into the image's directories after its
//! own. What a tag names is looked up when it is named; from then on the digest counts.
//!
//! The image is a stranger's. Nothing of it runs but in containers, as everything else; on the host
//! an interpreter of ours of the same minor version stands in for its own.

mod probe;
mod pull;
mod unpack;

use std::{
    fs::Permissions,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use luthier_host::{FileLock, Staged};
use luthier_ports::{Base, ImageInfo, ImageStatus, LogSink, ResolvedImage};
use luthier_types::{Code, Digest, Error, Result, layout::CacheLayout};
use oci_client::{Reference, RegistryOperation};

use crate::{
    Options, interpreter,
    oci::{
        Access,
        registry::{Registry, reference},
    },
    rootfs, runner_layer,
};
use pull::unfit;

/// Goes up when the same image would give something else.
const RECIPE: &str = "1";

/// The image that `uri` names in a registry, pulled if it is not here.
///
/// # Errors
/// See [`luthier_ports::Images::ensure`].
pub(crate) async fn ensure(options: &Options, uri: &str, log: &LogSink) -> Result<ResolvedImage> {
    let named = reference(uri)?;
    let registries = &options.registries;
    let plain_http = registries.plain_http(named.registry(), named.repository())?;
    let layout = &options.layout;
    if let Some(image) = named.digest().and_then(|d| known(layout, &named, d)) {
        return Ok(image);
    }
    let access = Access {
        plain_http,
        credentials: options.credentials.clone(),
    };
    let registry = Registry::open(&named, &access, RegistryOperation::Pull).await?;
    let digest = match named.digest() {
        Some(digest) => digest.to_owned(),
        None => registry
            .client
            .fetch_manifest_digest(&named, &registry.auth)
            .await
            .map_err(|e| registry.failed(e))?,
    };
    let pinned = pinned(&named, &digest);
    log.line(format!("{uri} is {digest}"));
    if let Some(image) = known(layout, &pinned, &digest) {
        return Ok(image);
    }
    let guard = Digest::of(&digest);
    let lock = layout.root().join(format!("locks/base-{guard}.lock"));
    let _lock = FileLock::acquire(&lock).await?;
    if let Some(image) = known(layout, &pinned, &digest) {
        return Ok(image);
    }
    luthier_host::sweep(&layout.staging())?;
    let image = make(options, &registry, &pinned, &digest, log).await?;
    remember(layout, &digest, &image)?;
    Ok(image)
}

/// The bytes on disk of an image that was pulled; `None` when it was not.
pub(crate) fn layers(layout: &CacheLayout, uri: &str) -> Option<PathBuf> {
    let named = reference(uri).ok()?;
    let image = known(layout, &named, named.digest()?)?;
    Some(layout.rootfs(&image.rootfs))
}

/// The name by digest. A tag stays in it, for people.
fn pinned(named: &Reference, digest: &str) -> Reference {
    let (host, repository) = (named.registry(), named.repository());
    match named.tag() {
        Some(tag) => Reference::with_tag_and_digest(
            host.to_owned(),
            repository.to_owned(),
            tag.to_owned(),
            digest.to_owned(),
        ),
        None => Reference::with_digest(host.to_owned(), repository.to_owned(), digest.to_owned()),
    }
}

async fn make(
    options: &Options,
    registry: &Registry,
    pinned: &Reference,
    digest: &str,
    log: &LogSink,
) -> Result<ResolvedImage> {
    let layout = &options.layout;
    let runtime = options.runtime.as_ref().ok_or_else(|| {
        Error::new(
            Code::NotSupported,
            "images of registries need a container runtime to be looked at",
        )
    })?;
    let staged = Staged::new(&layout.staging(), "base")?;
    let pulled = pull::pull(layout, registry, pinned, &staged, log).await?;
    let tree = staged.path().to_owned();
    tokio::task::spawn_blocking(move || rootfs::prepare(&tree))
        .await
        .map_err(|e| Error::internal("preparing an image", e))?
        .map_err(|e| Error::internal("preparing an image", e))?;
    let variables = probe::variables(&pulled.variables);
    let program = probe::find(staged.path(), &variables).ok_or_else(|| {
        unfit(pinned, "there is no Python in it".to_owned())
            .hint("A base needs CPython from 3.9 on, found by its PATH as python3 or python.")
    })?;
    let runner = runner_layer::materialise(layout)?;
    let found = probe::ask(runtime, &staged, &runner, &program, &variables, pinned).await?;
    let (major, minor, patch) = found.version;
    let python = format!("{major}.{minor}");
    log.line(format!(
        "CPython {major}.{minor}.{patch} in {}, glibc 2.{}, {} libraries",
        found.program.display(),
        found.glibc,
        found.provided.len()
    ));
    let stand_in = interpreter::ensure(layout, &python, log).await?;
    let interpreter = link(layout, &found.program)?;
    let rootfs = Digest::of_fields(["base", RECIPE, digest]);
    staged.publish(&layout.rootfs(&rootfs))?;
    Ok(ResolvedImage {
        info: ImageInfo {
            uri: pinned.whole(),
            python,
            summary: format!("of a registry, with CPython {major}.{minor}.{patch}"),
            libraries: found.provided.iter().map(|p| p.pin()).collect(),
            debian: vec![],
            released: String::new(),
            status: ImageStatus::Current,
            single_version: false,
        },
        digest: Digest::of_fields([rootfs.as_str(), interpreter.as_str(), stand_in.as_str()]),
        rootfs,
        interpreter,
        lock: String::new(),
        base: Some(Base {
            stand_in,
            home: found.program.parent().unwrap_or(Path::new("/")).to_owned(),
            glibc: found.glibc,
            paths: found.paths,
            provided: found.provided,
            variables: probe::without_ours(variables),
        }),
    })
}

/// The interpreter layer that leads to a program of the image.
fn link(layout: &CacheLayout, program: &Path) -> Result<Digest> {
    let digest = Digest::of_fields(["link", RECIPE, &program.to_string_lossy()]);
    let place = layout.interpreter(&digest);
    if place.is_dir() {
        return Ok(digest);
    }
    let staged = Staged::new(&layout.staging(), "python")?;
    let bin = staged.path().join("bin");
    fs_err::create_dir_all(&bin)
        .and_then(|()| fs_err::set_permissions(&bin, Permissions::from_mode(0o755)))
        .and_then(|()| fs_err::set_permissions(staged.path(), Permissions::from_mode(0o755)))
        .and_then(|()| symlink(program, bin.join("python3")))
        .map_err(|e| Error::internal("making an interpreter layer", e))?;
    staged.publish(&place)?;
    Ok(digest)
}

fn record(layout: &CacheLayout, digest: &str) -> PathBuf {
    let name = Digest::of_fields([RECIPE, digest]);
    layout.root().join(format!("records/base-{name}.json"))
}

/// The image on record under this digest, as `named` names it, if its layers are there.
fn known(layout: &CacheLayout, named: &Reference, digest: &str) -> Option<ResolvedImage> {
    let text = fs_err::read(record(layout, digest)).ok()?;
    let mut image: ResolvedImage = serde_json::from_slice(&text).ok()?;
    let there = layout.rootfs(&image.rootfs).is_dir()
        && layout.interpreter(&image.interpreter).is_dir()
        && layout.interpreter(image.host_interpreter()).is_dir();
    image.info.uri = named.whole();
    there.then_some(image)
}

fn remember(layout: &CacheLayout, digest: &str, image: &ResolvedImage) -> Result<()> {
    let record = record(layout, digest);
    let failed = |e| Error::internal(format!("writing {}", record.display()), e);
    let text = serde_json::to_vec(image).map_err(|e| Error::internal("writing a record", e))?;
    let staged = Staged::new(&layout.staging(), "record")?;
    let new = staged.scratch().join("record");
    let parent = record.parent().unwrap_or(layout.root());
    fs_err::create_dir_all(parent)
        .and_then(|()| fs_err::write(&new, text))
        .and_then(|()| fs_err::rename(&new, &record))
        .map_err(failed)
}
