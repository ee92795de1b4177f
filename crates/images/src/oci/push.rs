//! Pushing a revision's image to a registry: only what the registry lacks is sent.

use futures::TryStreamExt as _;
use http::HeaderValue;
use luthier_types::{Code, Error, Result, layout::CacheLayout};
use oci_client::{
    Reference, RegistryOperation, errors::OciDistributionError, manifest::OCI_IMAGE_MEDIA_TYPE,
};
use tokio_util::io::ReaderStream;

use super::{
    Access, Blob, Image, Revision, image,
    registry::{Registry, reference},
};

/// What was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// `HOST/REPOSITORY@sha256:…`, which names exactly this image for ever.
    pub reference: String,
    /// Blobs that were sent, and the number of their bytes.
    pub sent: (usize, u64),
    /// Blobs that the registry had.
    pub there: usize,
}

/// How much of a blob is read at once.
const CHUNK: usize = 256 << 10;

/// Pushes the revision's image as `to`.
///
/// **Guarantees:** the tag moves last, when every blob is there; a push that was cut off is taken
/// up where it was by pushing again.
///
/// # Errors
/// `BadRequest` when `to` names no image; `NotFound` when a part of the revision is not in this
/// cache; `ImageUnavailable` and `Unauthorized` of the registry.
pub async fn push(
    layout: &CacheLayout,
    revision: &Revision,
    to: &str,
    access: &Access,
    note: &(dyn Fn(String) + Sync),
) -> Result<Pushed> {
    let to = reference(to)?;
    if to.digest().is_some() {
        return Err(Error::new(
            Code::BadRequest,
            "an image is pushed under a tag, not under a digest",
        )
        .hint("Leave the part from `@` away; the digest is printed when it is pushed."));
    }
    // First, since making layers takes longer than learning that nobody answers.
    let registry = Registry::open(&to, access, RegistryOperation::Push).await?;
    let image = image(layout, revision, note).await?;
    let mut pushed = Pushed {
        reference: format!(
            "{}/{}@{}",
            to.resolve_registry(),
            to.repository(),
            image.manifest.0.name()
        ),
        sent: (0, 0),
        there: 0,
    };
    for (what, blob, text) in parts(&image) {
        let name = blob.name();
        let exists = registry.client.blob_exists(&to, &name).await;
        if exists.map_err(|e| registry.failed(e))? {
            pushed.there += 1;
            note(format!("{what}: there already"));
            continue;
        }
        note(format!("{what}: sending {} KiB", blob.size.div_ceil(1024)));
        send(&registry, &to, layout, blob, text).await?;
        pushed.sent.0 += 1;
        pushed.sent.1 += blob.size;
    }
    let (_, text) = &image.manifest;
    let media_type = HeaderValue::from_static(OCI_IMAGE_MEDIA_TYPE);
    registry
        .client
        .push_manifest_raw(&to, text.clone(), media_type)
        .await
        .map_err(|e| registry.failed(e))?;
    Ok(pushed)
}

/// Every blob but the manifest: what it is, and its bytes when it is not in the cache.
fn parts(image: &Image) -> impl Iterator<Item = (String, &Blob, Option<&[u8]>)> {
    let (config, text) = &image.config;
    image
        .layers
        .iter()
        .map(|(kind, blob)| (kind.to_string(), blob, None))
        .chain([(
            "image configuration".to_owned(),
            config,
            Some(text.as_slice()),
        )])
}

async fn send(
    registry: &Registry,
    to: &Reference,
    layout: &CacheLayout,
    blob: &Blob,
    text: Option<&[u8]>,
) -> Result<()> {
    let (name, size) = (blob.name(), Some(blob.size));
    let sent = match text {
        Some(text) => {
            let text = text.to_vec();
            let stream = futures::stream::once(async move { Ok(text.into()) });
            registry
                .client
                .push_blob_stream(to, stream, &name, size)
                .await
        }
        None => {
            let file = tokio::fs::File::open(blob.path(layout))
                .await
                .map_err(|e| Error::internal("reading a layer blob", e))?;
            let stream =
                ReaderStream::with_capacity(file, CHUNK).map_err(OciDistributionError::from);
            registry
                .client
                .push_blob_stream(to, stream, &name, size)
                .await
        }
    };
    sent.map(drop).map_err(|e| registry.failed(e))
}
