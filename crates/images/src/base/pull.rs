//! Fetching an image of a registry: its manifest, its configuration, and its layers into one tree.

use std::{
    io::{self, Read},
    path::Path,
    time::Duration,
};

use flate2::read::MultiGzDecoder;
use futures::{StreamExt as _, TryStreamExt as _};
use luthier_host::Staged;
use luthier_ports::LogSink;
use luthier_types::{Code, Digest, Error, Result, layout::CacheLayout};
use oci_client::{Reference, errors::OciDistributionError, manifest::OciDescriptor};
use oci_spec::image::ImageConfiguration;

use super::unpack::{Limits, Tree};
use crate::oci::{
    Blob,
    blob::{self, Hashing},
    registry::Registry,
};

/// Layers that are fetched at once.
const AT_ONCE: usize = 3;
/// Most layers of an image, which is what Docker allows.
const MOST_LAYERS: usize = 127;
/// How often a layer is asked for, and the pause after the first time, which doubles.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(500);

/// What was pulled.
pub(super) struct Pulled {
    /// Variables that the image sets.
    pub(super) variables: Vec<String>,
}

/// Fetches the image `reference`, which names a digest, and lays its layers into `staged`.
///
/// **Guarantees:** every layer is compared with its digests, compressed and not. What was fetched
/// before a failure or a crash is not fetched again.
pub(super) async fn pull(
    layout: &CacheLayout,
    registry: &Registry,
    reference: &Reference,
    staged: &Staged,
    log: &LogSink,
) -> Result<Pulled> {
    let (manifest, _, config) = registry
        .client
        .pull_manifest_and_config(reference, &registry.auth)
        .await
        .map_err(|e| match e {
            OciDistributionError::ImageManifestNotFoundError(_) => no_platform(reference),
            e => registry.failed(e),
        })?;
    let config = ImageConfiguration::from_reader(config.as_bytes()).map_err(|e| {
        unfit(
            reference,
            format!("its configuration is not understood: {e}"),
        )
    })?;
    let diffs = config.rootfs().diff_ids();
    let layers = &manifest.layers;
    if layers.is_empty() || layers.len() > MOST_LAYERS || layers.len() != diffs.len() {
        let (layers, diffs) = (layers.len(), diffs.len());
        return Err(unfit(
            reference,
            format!("it has {layers} layers and names {diffs}"),
        ));
    }
    let mut blobs = vec![];
    for (layer, diff) in layers.iter().zip(diffs) {
        let digest = |text: &str| text.strip_prefix("sha256:")?.parse::<Digest>().ok();
        let (Some(name), Some(diff)) = (digest(&layer.digest), digest(diff)) else {
            return Err(unfit(
                reference,
                "a layer is not named by SHA-256".to_owned(),
            ));
        };
        blobs.push(Blob {
            digest: name,
            size: u64::try_from(layer.size).unwrap_or(0),
            diff,
        });
    }
    fetch(layout, registry, reference, layers, &blobs, log).await?;
    log.line("unpacking the image");
    let (tree, layout, parts) = (staged.path().to_owned(), layout.clone(), blobs);
    let names = layers.iter().map(|l| l.media_type.clone()).collect();
    let laid = tokio::task::spawn_blocking(move || lay(&tree, &layout, &parts, names))
        .await
        .map_err(|e| Error::internal("unpacking an image", e))?;
    laid.map_err(|e| {
        if e.kind() == io::ErrorKind::StorageFull {
            full(e)
        } else {
            unfit(reference, format!("it cannot be unpacked: {e}")).source(e)
        }
    })?;
    let variables = config.config().as_ref().and_then(|c| c.env().clone());
    Ok(Pulled {
        variables: variables.unwrap_or_default(),
    })
}

async fn fetch(
    layout: &CacheLayout,
    registry: &Registry,
    reference: &Reference,
    layers: &[OciDescriptor],
    blobs: &[Blob],
    log: &LogSink,
) -> Result<()> {
    let all: u64 = blobs.iter().map(|b| b.size).sum();
    log.line(format!(
        "pulling {} layers, {} MiB",
        blobs.len(),
        all.div_ceil(1 << 20)
    ));
    let each: Vec<_> = layers
        .iter()
        .zip(blobs)
        .enumerate()
        .map(|(i, (layer, blob))| async move {
            let what = format!("layer {} of {}", i + 1, blobs.len());
            fetch_one(layout, registry, reference, layer, blob, &what, log).await
        })
        .collect();
    futures::stream::iter(each)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Fetches a layer unless it is there already, and asks again for one that fails to come.
async fn fetch_one(
    layout: &CacheLayout,
    registry: &Registry,
    reference: &Reference,
    layer: &OciDescriptor,
    blob: &Blob,
    what: &str,
    log: &LogSink,
) -> Result<()> {
    let place = blob.path(layout);
    let whole = {
        let (place, blob) = (place.clone(), blob.clone());
        tokio::task::spawn_blocking(move || blob::is_whole(&place, &blob)).await
    };
    if matches!(whole, Ok(Ok(true))) {
        return Ok(());
    }
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match one(layout, registry, reference, layer, &place).await {
            Err(e) if e.code().retryable() => {
                log.line(format!("{what}: {e}; asking again"));
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            fetched => {
                log.line(format!("{what}: {} MiB", blob.size.div_ceil(1 << 20)));
                return fetched;
            }
        }
    }
    one(layout, registry, reference, layer, &place).await
}

/// Fetches a layer to its place, whole or not at all; the client compares it with its digest.
async fn one(
    layout: &CacheLayout,
    registry: &Registry,
    reference: &Reference,
    layer: &OciDescriptor,
    place: &Path,
) -> Result<()> {
    let staged = Staged::new(&layout.staging(), "layer")?;
    let path = staged.scratch().join("blob");
    let file = tokio::fs::File::create(&path)
        .await
        .map_err(|e| Error::internal("writing a layer", e))?;
    let pulled = registry.client.pull_blob(reference, layer, file).await;
    pulled.map_err(|e| match e {
        OciDistributionError::IoError(e) if e.kind() == io::ErrorKind::StorageFull => full(e),
        e => registry.failed(e),
    })?;
    crate::oci::layer::publish(&path, place).map_err(|e| Error::internal("keeping a layer", e))
}

/// Lays the layers over each other, then removes their archives: the tree is all that is needed.
fn lay(
    tree: &Path,
    layout: &CacheLayout,
    blobs: &[Blob],
    media_types: Vec<String>,
) -> io::Result<()> {
    let mut tree = Tree::new(tree, Limits::default())?;
    for (blob, media_type) in blobs.iter().zip(&media_types) {
        let file = io::BufReader::new(fs_err::File::open(blob.path(layout))?);
        let plain: Box<dyn Read> = if media_type.ends_with("gzip") {
            Box::new(MultiGzDecoder::new(file))
        } else if media_type.ends_with("zstd") {
            Box::new(zstd::stream::read::Decoder::new(file)?)
        } else if media_type.ends_with("tar") {
            Box::new(file)
        } else {
            return Err(io::Error::other(format!(
                "a layer is of the type {media_type}"
            )));
        };
        let mut read = HashingReader::new(plain);
        tree.lay(&mut read)?;
        if read.digest()? != blob.diff {
            return Err(io::Error::other(format!(
                "layer {} does not hold what the image's configuration says",
                blob.digest.short()
            )));
        }
    }
    for blob in blobs {
        fs_err::remove_file(blob.path(layout))?;
    }
    Ok(())
}

/// Reads on, hashing what it reads.
struct HashingReader<R> {
    inner: R,
    hashing: Hashing<io::Sink>,
}

impl<R: Read> HashingReader<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hashing: Hashing::new(io::sink()),
        }
    }

    /// The digest of everything, also of what follows the archive's end.
    fn digest(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(self.hashing.finish().1)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        io::Write::write_all(&mut self.hashing, &buffer[..n])?;
        Ok(n)
    }
}

/// The refusal of an image that is no base.
pub(super) fn unfit(reference: &Reference, why: String) -> Error {
    Error::new(
        Code::UnknownImage,
        format!("the image {} cannot be a base: {why}", reference.whole()),
    )
    .hint("`luthier images` lists the images there are; docs/oci.md says what a base must have.")
}

fn no_platform(reference: &Reference) -> Error {
    let arch = std::env::consts::ARCH;
    unfit(reference, format!("it has no variant for linux/{arch}"))
}

fn full(e: io::Error) -> Error {
    Error::new(
        Code::CapacityExceeded,
        "there is no room on the disk for the image",
    )
    .hint("Make room below the data directory, then deploy again.")
    .source(e)
}
