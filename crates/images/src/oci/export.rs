//! Image layouts: a directory or one archive that `skopeo`, `podman` and `docker` read.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use luthier_host::Staged;
use luthier_types::{Code, Error, Result, layout::CacheLayout};
use oci_spec::image::{
    Arch, Descriptor, ImageIndex, ImageIndexBuilder, MediaType, OciLayoutBuilder, Os,
    PlatformBuilder, SCHEMA_VERSION,
};
use tar::{Builder, EntryType, Header};

use super::{Blob, Image, Revision, annotate, image};

/// The annotation that names an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Where a layout goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A directory; other images in it stay.
    Directory(PathBuf),
    /// An archive.
    Archive(PathBuf),
}

/// What was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The name of the image in the layout.
    pub name: String,
    /// The manifest.
    pub manifest: Blob,
    /// Bytes of all blobs.
    pub size: u64,
}

/// Writes the revision's image as a layout under `name`, or the model's own.
///
/// **Guarantees:** an image is in a directory's index only when all its blobs are; an archive is
/// whole or absent.
///
/// # Errors
/// `NotFound` when a part of the revision is not in this cache; `BadRequest` when the target
/// cannot be written.
pub async fn export(
    layout: &CacheLayout,
    revision: &Revision,
    target: &Target,
    name: Option<&str>,
    note: &(dyn Fn(String) + Sync),
) -> Result<Exported> {
    let image = image(layout, revision, note).await?;
    let name = name.map_or_else(|| revision.model.to_lowercase(), str::to_owned);
    let exported = Exported {
        size: image.blobs().map(|(blob, _)| blob.size).sum(),
        manifest: image.manifest.0.clone(),
        name: name.clone(),
    };
    let (layout, target) = (layout.clone(), target.clone());
    let written = tokio::task::spawn_blocking(move || match &target {
        Target::Directory(path) => {
            directory(&layout, &image, path, &name).map_err(|e| cannot_write(path, e))
        }
        Target::Archive(path) => {
            archive(&layout, &image, path, &name).map_err(|e| cannot_write(path, e))
        }
    });
    written
        .await
        .map_err(|e| Error::internal("writing a layout", e))??;
    Ok(exported)
}

impl Image {
    /// Every blob, and its bytes when it is not in the cache.
    fn blobs(&self) -> impl Iterator<Item = (&Blob, Option<&[u8]>)> {
        let texts = [&self.config, &self.manifest];
        self.layers
            .iter()
            .map(|(_, blob)| (blob, None))
            .chain(texts.map(|(blob, text)| (blob, Some(text.as_slice()))))
    }

    fn descriptor(&self, name: &str) -> Result<Descriptor> {
        let platform = || {
            PlatformBuilder::default()
                .architecture(Arch::default())
                .os(Os::Linux)
                .build()
        };
        annotate::descriptor(&self.manifest.0, MediaType::ImageManifest)
            .and_then(|d| {
                d.annotations(HashMap::from([(REF_NAME.to_owned(), name.to_owned())]))
                    .platform(platform()?)
                    .build()
            })
            .map_err(annotate::unfit)
    }
}

fn cannot_write(path: &Path, error: Failure) -> Error {
    match error {
        Failure::Io(error) => Error::new(
            Code::BadRequest,
            format!("cannot write the image to {}: {error}", path.display()),
        )
        .hint("Give --to a directory, or a file ending in .tar, on a file system with room for it.")
        .source(error),
        Failure::Other(error) => error,
    }
}

enum Failure {
    Io(io::Error),
    Other(Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

fn directory(layout: &CacheLayout, image: &Image, path: &Path, name: &str) -> Result<(), Failure> {
    let index = path.join("index.json");
    let mut manifests = match fs_err::read(&index) {
        Ok(text) => known(&text, path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if fs_err::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(io::Error::other("it is not empty and no image layout").into());
            }
            vec![]
        }
        Err(e) => return Err(e.into()),
    };
    let blobs = path.join("blobs/sha256");
    fs_err::create_dir_all(&blobs)?;
    for (blob, text) in image.blobs() {
        let place = blobs.join(blob.digest.as_str());
        if fs_err::metadata(&place).is_ok_and(|m| m.len() == blob.size) {
            continue;
        }
        match text {
            Some(text) => fs_err::write(&place, text)?,
            // Its own file rather than a link: what is exported may be changed or moved.
            None => {
                fs_err::copy(blob.path(layout), &place)?;
            }
        }
    }
    fs_err::write(path.join("oci-layout"), marker()?)?;
    manifests.retain(|d| ref_name(d) != Some(name));
    manifests.push(image.descriptor(name)?);
    // Into place at once, so that a reader finds the old index or the new.
    let new = path.join(".index.json");
    fs_err::write(&new, index_of(manifests)?)?;
    fs_err::rename(new, index)?;
    Ok(())
}

fn known(text: &[u8], path: &Path) -> Result<Vec<Descriptor>> {
    let index: ImageIndex = serde_json::from_slice(text).map_err(|e| {
        Error::new(
            Code::BadRequest,
            format!(
                "{} holds an index.json that is no image index",
                path.display()
            ),
        )
        .hint("Give --to a new directory.")
        .source(e)
    })?;
    Ok(index.manifests().clone())
}

fn ref_name(descriptor: &Descriptor) -> Option<&str> {
    descriptor
        .annotations()
        .as_ref()?
        .get(REF_NAME)
        .map(String::as_str)
}

fn marker() -> Result<Vec<u8>> {
    let marker = OciLayoutBuilder::default()
        .image_layout_version("1.0.0")
        .build()
        .map_err(annotate::unfit)?;
    annotate::ordered(&marker)
}

fn index_of(manifests: Vec<Descriptor>) -> Result<Vec<u8>> {
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()
        .map_err(annotate::unfit)?;
    annotate::ordered(&index)
}

fn archive(layout: &CacheLayout, image: &Image, path: &Path, name: &str) -> Result<(), Failure> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let staged = Staged::new(parent, "export")?;
    let new = staged.scratch().join("archive");
    let mut tar = Builder::new(io::BufWriter::new(fs_err::File::create(&new)?));
    for (name, text) in [
        ("oci-layout", marker()?),
        ("index.json", index_of(vec![image.descriptor(name)?])?),
    ] {
        tar.append_data(&mut header(text.len() as u64), name, text.as_slice())?;
    }
    for (blob, text) in image.blobs() {
        let name = format!("blobs/sha256/{}", blob.digest);
        match text {
            Some(text) => tar.append_data(&mut header(blob.size), name, text)?,
            None => {
                let file = fs_err::File::open(blob.path(layout))?;
                tar.append_data(&mut header(blob.size), name, file)?;
            }
        }
    }
    tar.into_inner()?.flush()?;
    fs_err::rename(new, path)?;
    Ok(())
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}
