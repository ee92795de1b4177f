//! The package layer: unpacked once, by digest, whole or absent.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use fs_err as fs;
use luthier_store::artifacts::Artifact;
use luthier_types::{Code, Digest, Error, JobId, Result};
use serde_json::{Value, json};
use tokio_util::{io::SyncIoBridge, sync::CancellationToken};

use crate::{App, spool::heavy};

/// What a package is unpacked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To be run.
    Do,
    /// To learn which layer a job that failed may have left.
    Undo,
}

impl App {
    /// Unpacks an archive into its layer and gives the layer's digest. Every `stage` of a job has a
    /// directory of its own to do it in, so that what a crash leaves there is known to be its.
    pub(crate) async fn unpack(
        &self,
        archive: &Artifact,
        stage: Stage,
        job: JobId,
        cancelled: &CancellationToken,
    ) -> Result<Digest> {
        let unpacking = self.unpacking(stage, job);
        let reader = self.deps.blobs.get(&archive.digest).await?;
        let reader = SyncIoBridge::new(reader);
        let scratch = self.deps.layout.scratch();
        let limits = luthier_inspect::Limits {
            bytes: self.deps.settings.max_package_bytes,
            ..luthier_inspect::Limits::default()
        };
        let tree = unpacking.clone();
        let digest = heavy(move || {
            remove_tree(&tree)?;
            fs::create_dir_all(&scratch).map_err(|e| Error::internal("unpacking a package", e))?;
            Ok(luthier_inspect::unpack(reader, &tree, &limits)?.digest)
        })
        .await?;
        let layer = self.deps.layout.package(&digest);
        let cancelled = cancelled.clone();
        let layers = Arc::clone(&self.layers).lock_owned().await;
        heavy(move || {
            let _layers = layers;
            if cancelled.is_cancelled() {
                // Nobody waits for this any more, and what was there to undo is undone already.
                remove_tree(&unpacking)?;
                return Err(Error::new(Code::Cancelled, "the job was cancelled"));
            }
            place(&unpacking, &layer).map_err(|e| Error::internal("storing a package", e))
        })
        .await?;
        Ok(digest)
    }

    fn unpacking(&self, stage: Stage, job: JobId) -> PathBuf {
        let stage = match stage {
            Stage::Do => "unpack",
            Stage::Undo => "undo",
        };
        self.deps.layout.scratch().join(format!("{stage}-{job}"))
    }

    /// Removes what the job was unpacking and, unless something else has it, its package.
    pub(crate) async fn discard_layer(&self, job: JobId, package: Option<&Digest>) -> Result<()> {
        let paths = [
            self.unpacking(Stage::Do, job),
            self.unpacking(Stage::Undo, job),
        ];
        heavy(move || paths.iter().try_for_each(|path| remove_tree(path))).await?;
        if let Some(package) = package
            && self
                .release_packages(Some(package), Some(job))
                .await?
                .is_left
        {
            self.upkeep.notify_one();
        }
        Ok(())
    }

    /// The files of a package as clients are shown them.
    pub(crate) async fn package_files(&self, package: &Digest) -> Result<Vec<Value>> {
        let root = self.deps.layout.package(package);
        heavy(move || {
            let files =
                list_files(&root).map_err(|e| Error::internal("listing a package's files", e))?;
            let at = jiff::Timestamp::now();
            Ok(files
                .into_iter()
                .map(|(name, size)| json!({ "name": name, "size": size, "modified": at }))
                .collect())
        })
        .await
    }
}

/// Moves a finished tree to its place, read-only and readable by all; one that is there already is
/// the same and stays.
fn place(staging: &Path, layer: &Path) -> std::io::Result<()> {
    if layer.exists() {
        return fs::remove_dir_all(staging);
    }
    if let Some(parent) = layer.parent() {
        fs::create_dir_all(parent)?;
    }
    close(staging)?;
    // On the disk before it has its name, and the name before the step is recorded: after a loss of
    // power there would else be a layer of empty files, which nobody would make again.
    nix::unistd::syncfs(fs::File::open(staging)?)?;
    match fs::rename(staging, layer) {
        // Another job with the same package was faster.
        Err(_) if layer.exists() => return fs::remove_dir_all(staging),
        renamed => renamed?,
    }
    layer
        .parent()
        .map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}

/// Takes away the right to write every file below `dir`. Directories stay writable for their
/// owner: they could not be renamed or removed otherwise.
fn close(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            close(&entry.path())?;
        } else if kind.is_file() {
            let mode = entry.metadata()?.permissions().mode();
            let mode = if mode & 0o100 == 0 { 0o444 } else { 0o555 };
            fs::set_permissions(entry.path(), PermissionsExt::from_mode(mode))?;
        }
    }
    fs::set_permissions(dir, PermissionsExt::from_mode(0o755))
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal("removing a layer", e))
        }
        _ => Ok(()),
    }
}

/// The files and links below `root` with their sizes, in order of their paths.
pub(crate) fn list_files(root: &Path) -> std::io::Result<Vec<(String, u64)>> {
    let mut files = vec![];
    list(root, root, &mut files)?;
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

fn list(root: &Path, dir: &Path, files: &mut Vec<(String, u64)>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(root, &entry.path(), files)?;
        } else {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap_or(&path);
            files.push((name.to_string_lossy().into_owned(), entry.metadata()?.len()));
        }
    }
    Ok(())
}
