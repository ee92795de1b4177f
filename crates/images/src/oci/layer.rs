//! Layer blobs: a directory of the cache as a compressed archive, always of the same bytes.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    fs::Metadata,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use luthier_host::{FileLock, Staged, disk::walk};
use luthier_types::{
    Code, Digest, Error, Result,
    layout::{CacheLayout, container},
};
use tar::{Builder, EntryType, Header};

use super::blob::{self, Blob, Hashing};

/// Goes up when the same content would make other bytes.
const RECIPE: &str = "1";

/// The time of every file: 1980-01-01, the oldest that ZIP archives can hold, since Python code
/// that makes one of its own files fails on older ones.
const TIME: u64 = 315_532_800;

/// Which part of a revision a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The root file system.
    Rootfs,
    /// The interpreter.
    Interpreter,
    /// The environment.
    Environment,
    /// The runner.
    Runner,
    /// The package.
    Package,
    /// The runner's configuration.
    Configuration,
}

impl Kind {
    /// Its place in the image, relative to the root.
    fn place(self) -> &'static Path {
        let place = match self {
            Self::Rootfs => "/",
            Self::Interpreter => container::PYTHON,
            Self::Environment => container::ENV,
            Self::Runner => container::RUNNER,
            Self::Package => container::PACKAGE,
            Self::Configuration => container::CONFIG_DIR,
        };
        Path::new(place.trim_start_matches('/'))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rootfs => "root file system",
            Self::Interpreter => "interpreter",
            Self::Environment => "environment",
            Self::Runner => "runner",
            Self::Package => "package",
            Self::Configuration => "configuration",
        })
    }
}

/// What a layer is made of.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A directory of the cache and its digest.
    Tree(PathBuf, Digest),
    /// One file: its path in the image and its bytes.
    File(PathBuf, Vec<u8>),
}

impl Content {
    /// What names the layer in the cache.
    fn key(&self, kind: Kind) -> Digest {
        match self {
            Self::Tree(_, digest) => {
                Digest::of_fields([RECIPE.as_bytes(), &[kind as u8], digest.as_str().as_bytes()])
            }
            Self::File(_, bytes) => Digest::of_fields([RECIPE.as_bytes(), &[kind as u8], bytes]),
        }
    }
}

/// The blob of a layer: the one in the cache if it is whole, or a new one.
pub(crate) async fn ensure(
    layout: &CacheLayout,
    kind: Kind,
    content: &Content,
    note: &(dyn Fn(String) + Sync),
) -> Result<Blob> {
    let key = content.key(kind);
    let _lock = FileLock::acquire(&layout.root().join(format!("locks/oci-{key}.lock"))).await?;
    let record = blob::directory(layout).join(format!("layers/{key}.json"));
    let (layout, content) = (layout.clone(), content.clone());
    let known = blocking({
        let (layout, record) = (layout.clone(), record.clone());
        move || known(&layout, &record)
    })
    .await?;
    if let Some(blob) = known {
        return Ok(blob);
    }
    note(format!("making the {kind} layer"));
    blocking(move || make(&layout, kind, &content, &record)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("making a layer", e))?
}

/// The blob on record, unless something is wrong with it.
fn known(layout: &CacheLayout, record: &Path) -> Result<Option<Blob>> {
    let Ok(text) = fs_err::read(record) else {
        return Ok(None);
    };
    let Ok(blob) = serde_json::from_slice::<Blob>(&text) else {
        return Ok(None);
    };
    let whole = blob::is_whole(&blob.path(layout), &blob)
        .map_err(|e| Error::internal("reading a layer blob", e))?;
    Ok(whole.then_some(blob))
}

fn make(layout: &CacheLayout, kind: Kind, content: &Content, record: &Path) -> Result<Blob> {
    if let Content::Tree(tree, _) = content
        && !tree.is_dir()
    {
        return Err(Error::new(
            Code::NotFound,
            format!("the revision's {kind} is not in {}", layout.root().display()),
        )
        .hint("Run this on the server's machine and give its --data (and --cache-dir, if it has one)."));
    }
    let staged = Staged::new(&layout.staging(), "oci")?;
    let file = staged.scratch().join("blob");
    let write = || {
        let out = Hashing::new(io::BufWriter::new(fs_err::File::create(&file)?));
        let out = Hashing::new(GzEncoder::new(out, Compression::default()));
        let (encoder, diff, _) = archive(out, kind, content)?.finish();
        let (mut out, digest, size) = encoder.finish()?.finish();
        out.flush()?;
        Ok::<_, io::Error>(Blob { digest, size, diff })
    };
    let failed = |e: io::Error| {
        Error::new(
            Code::ImageUnavailable,
            format!("the {kind} layer could not be written: {e}"),
        )
        .hint("Check the free space under the data directory, then try again.")
        .source(e)
    };
    let blob = write().map_err(failed)?;
    let place = blob.path(layout);
    publish(&file, &place).map_err(failed)?;
    let text = staged.scratch().join("record");
    let json = serde_json::to_vec(&blob).map_err(|e| Error::internal("writing a record", e))?;
    fs_err::write(&text, json)
        .and_then(|()| publish(&text, record))
        .map_err(failed)?;
    Ok(blob)
}

/// Renames a finished file to its place.
pub(crate) fn publish(file: &Path, place: &Path) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs_err::create_dir_all(parent)?;
    }
    fs_err::rename(file, place)
}

/// Writes the archive of a layer.
fn archive<W: Write>(out: W, kind: Kind, content: &Content) -> io::Result<W> {
    let mut tar = Builder::new(out);
    match content {
        Content::Tree(tree, _) => {
            // By their names, so that each directory comes before what is in it.
            let mut entries = BTreeMap::new();
            walk(tree, |path, metadata| {
                let below = path.strip_prefix(tree).unwrap_or(path);
                entries.insert(below.to_owned(), metadata.clone());
                Ok(())
            })?;
            for (below, metadata) in entries {
                let name: PathBuf = kind
                    .place()
                    .components()
                    .chain(below.components())
                    .collect();
                if !name.as_os_str().is_empty() {
                    append(&mut tar, kind, &name, &tree.join(below), &metadata)?;
                }
            }
        }
        Content::File(name, bytes) => {
            let mut directory = header(EntryType::Directory, 0o755, 0);
            tar.append_data(&mut directory, kind.place(), io::empty())?;
            let mut file = header(EntryType::Regular, 0o644, bytes.len() as u64);
            tar.append_data(&mut file, name, bytes.as_slice())?;
        }
    }
    tar.into_inner()
}

fn append<W: Write>(
    tar: &mut Builder<W>,
    kind: Kind,
    name: &Path,
    path: &Path,
    metadata: &Metadata,
) -> io::Result<()> {
    let mode = mode(kind, metadata);
    if metadata.is_dir() {
        // With the slash at its end that old readers tell directories by.
        let mut name = OsString::from(name);
        name.push("/");
        tar.append_data(
            &mut header(EntryType::Directory, mode, 0),
            name,
            io::empty(),
        )
    } else if metadata.is_symlink() {
        let target = fs_err::read_link(path)?;
        tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), name, target)
    } else if metadata.is_file() {
        let size = metadata.len();
        let file = fs_err::File::open(path)?;
        // One that grows meanwhile would spoil the archive; one that shrinks is an error.
        tar.append_data(
            &mut header(EntryType::Regular, mode, size),
            name,
            file.take(size),
        )
    } else {
        // Sockets and the like have no use in an image.
        Ok(())
    }
}

/// Permissions: of the root file system as they are, less set-id bits; else what depends on nobody's umask.
fn mode(kind: Kind, metadata: &Metadata) -> u32 {
    let mode = metadata.permissions().mode();
    if kind == Kind::Rootfs {
        mode & 0o1777
    } else if metadata.is_dir() || mode & 0o111 != 0 {
        0o755
    } else {
        0o644
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(TIME);
    header
}
