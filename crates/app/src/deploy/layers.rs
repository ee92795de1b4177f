//! The package layer: unpacked once, by digest, whole or absent.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use fs_err as fs;
use luthier_store::artifacts::{self, Artifact};
use luthier_types::{Code, Digest, Error, JobId, Result};
use serde_json::{Value, json};
use tokio_util::{io::SyncIoBridge, sync::CancellationToken};

use crate::{App, predict::heavy};

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
    /// staging directory of its own, so that what a crash leaves there is known to be its.
    pub(crate) async fn unpack(
        &self,
        archive: &Artifact,
        stage: Stage,
        job: JobId,
        cancelled: &CancellationToken,
    ) -> Result<Digest> {
        let staging = self.staging(stage, job);
        let reader = self.deps.blobs.get(&archive.digest).await?;
        let reader = SyncIoBridge::new(reader);
        let layout = self.deps.layout.clone();
        let cancelled = cancelled.clone();
        let limits = luthier_inspect::Limits {
            bytes: self.deps.settings.max_package_bytes,
            ..luthier_inspect::Limits::default()
        };
        heavy(move || {
            remove_tree(&staging)?;
            let parent = layout.staging();
            fs::create_dir_all(&parent).map_err(|e| Error::internal("unpacking a package", e))?;
            let unpacked = luthier_inspect::unpack(reader, &staging, &limits)?;
            if cancelled.is_cancelled() {
                // Nobody waits for this any more, and what was there to undo is undone already.
                remove_tree(&staging)?;
                return Err(Error::new(Code::Cancelled, "the job was cancelled"));
            }
            let layer = layout.package(&unpacked.digest);
            place(&staging, &layer).map_err(|e| Error::internal("storing a package", e))?;
            Ok(unpacked.digest)
        })
        .await
    }

    fn staging(&self, stage: Stage, job: JobId) -> PathBuf {
        let stage = match stage {
            Stage::Do => "unpack",
            Stage::Undo => "undo",
        };
        self.deps.layout.staging().join(format!("{stage}-{job}"))
    }

    /// Removes the job's staging directories and, unless a revision or another job is made of it,
    /// the package layer.
    pub(crate) async fn discard_layer(&self, job: JobId, package: Option<&Digest>) -> Result<()> {
        let _layers = self.layers.lock().await;
        let mut paths = vec![self.staging(Stage::Do, job), self.staging(Stage::Undo, job)];
        if let Some(package) = package {
            let mut db = self.deps.store.read().await?;
            if !artifacts::package_in_use(&mut db, package, job).await? {
                paths.push(self.deps.layout.package(package));
            }
        }
        heavy(move || paths.iter().try_for_each(|path| remove_tree(path))).await
    }

    /// The files of a package as clients are shown them.
    pub(crate) async fn package_files(&self, package: &Digest) -> Result<Vec<Value>> {
        let root = self.deps.layout.package(package);
        heavy(move || {
            let mut files = vec![];
            list(&root, &root, &mut files)
                .map_err(|e| Error::internal("listing a package's files", e))?;
            files.sort_by(|a, b| a.0.cmp(&b.0));
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
    match fs::rename(staging, layer) {
        // Another job with the same package was faster.
        Err(_) if layer.exists() => fs::remove_dir_all(staging),
        renamed => renamed,
    }
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

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::internal("removing a layer", e))
        }
        _ => Ok(()),
    }
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
