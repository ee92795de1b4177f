//! What nobody needs any more goes: when a server starts, once a day, and when a model is deleted.
//!
//! - An upload is forgotten a [day](KEPT) after its last byte, or with the model that it was deployed
//!   to. What was made of it (an artifact, a dataset) is kept for its own sake.
//! - A revision goes when [`KEPT_REVISIONS`] newer ones of its model can be gone back to.
//! - A blob goes when no upload, artifact, dataset, revision or unfinished job mentions it.
//! - The logs of past replicas go with their model, and entries of the audit log when they are old.
//! - A package goes when no revision and no unfinished job has it, once the containers of revisions
//!   that are gone have ended.
//!
//! Two locks make that safe beside all other work: whoever stores a blob, or looks one up to
//! mention it, reads `blobs_in_use` until the mention is stored; whoever places a package holds
//! `layers`, and its job is unfinished until the package is recorded. Killed at any instant, a blob
//! and a package are whole or absent, and what is half-removed goes at the next start.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use luthier_store::{audit, files, models, rollouts, uses};
use luthier_types::{Digest, Error, JobId, Result, RevisionId};
use serde::Serialize;
use tokio::sync::RwLockWriteGuard;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    App,
    deploy::{Unpacked, list_files, remove_tree},
    spool::heavy,
    status::REVISION_LABEL,
};

/// How long an upload may be named to make something of it.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// How many revisions of a model can be gone back to.
pub const KEPT_REVISIONS: u32 = 10;
/// How many a model's history tells of.
const TOLD_REVISIONS: u32 = 100;
/// How often everything is looked at.
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// How soon again, at first and at most, while something is in use by who is about to end.
const SOON: Duration = Duration::from_secs(1);
const LESS_SOON: Duration = Duration::from_secs(60);
/// How long new uploads may be held up for those underway to end.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Uploads that were forgotten.
    pub uploads: u64,
    /// Revisions that were too old to be kept.
    pub revisions: usize,
    /// Blobs that nothing mentioned.
    pub blobs: usize,
    /// Packages that nothing was made of.
    pub packages: Vec<Digest>,
    /// Bytes of the blobs and packages.
    pub bytes: u64,
    /// Whether something is left that will soon be in nobody's use.
    pub is_left: bool,
}

impl Swept {
    fn log(&self) {
        let removed = (self.uploads, self.blobs, self.packages.len());
        if removed != (0, 0, 0) || self.revisions > 0 {
            tracing::info!(
                uploads = self.uploads,
                revisions = self.revisions,
                blobs = self.blobs,
                packages = self.packages.len(),
                bytes = self.bytes,
                "removed what nobody needs"
            );
        }
    }
}

impl App {
    /// Removes what nobody needs. May run at any time.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        match self.alone_with_blobs().await {
            Some(alone) => {
                let mut db = self.deps.store.write().await?;
                swept.uploads = files::expire(&mut db, Timestamp::now() - KEPT).await?;
                swept.revisions = rollouts::trim(&mut db, KEPT_REVISIONS, TOLD_REVISIONS)
                    .await?
                    .len();
                self.commit(db).await?;
                for blob in self.deps.blobs.list().await? {
                    if self.release_blob(&blob.digest, &alone).await? {
                        swept.blobs += 1;
                        swept.bytes += blob.size;
                    }
                }
            }
            None => swept.is_left = true,
        }
        self.release_logs().await?;
        let packages = self.release_packages(None, None).await?;
        swept.bytes += packages.bytes;
        swept.is_left |= packages.is_left;
        swept.packages = packages.packages;
        Ok(swept)
    }

    /// Sweeps at once, daily, and after models were deleted, until `cancel`.
    pub async fn upkeep(self: Arc<Self>, cancel: CancellationToken) {
        let mut soon = SOON;
        loop {
            let is_left = match self.sweep().await {
                Ok(swept) => {
                    swept.log();
                    swept.is_left
                }
                Err(error) => {
                    tracing::error!(error = %error.chain(), "could not remove what nobody needs");
                    false
                }
            };
            let pause = if is_left { soon } else { DAILY };
            soon = if is_left {
                LESS_SOON.min(soon * 2)
            } else {
                SOON
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.upkeep.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Empties the directory of what was being made or removed. For the start of a server, before
    /// jobs run.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn clear_scratch(&self) -> Result<()> {
        let scratch = self.deps.layout.scratch();
        heavy(move || remove_tree(&scratch)).await
    }

    /// Removes those of the blobs that nothing mentions, and gives how many. While uploads are
    /// underway they are left to the next sweep.
    pub(crate) async fn release_blobs(&self, digests: Vec<Digest>) -> Result<usize> {
        let Some(alone) = self.alone_with_blobs().await else {
            self.upkeep.notify_one();
            return Ok(0);
        };
        let mut removed = 0;
        for digest in digests {
            removed += usize::from(self.release_blob(&digest, &alone).await?);
        }
        Ok(removed)
    }

    /// Waits until no blob is between its storing and its first mention. An upload may take as long
    /// as its sender likes, and new ones are not to wait for it.
    async fn alone_with_blobs(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        let alone = self.blobs_in_use.write();
        tokio::time::timeout(PATIENCE, alone).await.ok()
    }

    async fn release_blob(&self, digest: &Digest, _: &RwLockWriteGuard<'_, ()>) -> Result<bool> {
        let mut db = self.deps.store.read().await?;
        if files::blob_in_use(&mut db, digest).await? {
            return Ok(false);
        }
        self.deps.blobs.delete(digest).await?;
        Ok(true)
    }

    /// Removes the logs of models that are gone, and old entries of the audit log.
    async fn release_logs(&self) -> Result<()> {
        let mut db = self.deps.store.write().await?;
        audit::expire(&mut db, Timestamp::now() - self.deps.settings.audit_kept).await?;
        let models = models::names(&mut db).await?;
        let models: HashMap<_, _> = models.into_iter().collect();
        self.commit(db).await?;
        let logs = self.deps.replica_logs.clone();
        let removed = heavy(move || logs.sweep(|model| models.contains_key(&model))).await?;
        if removed > 0 {
            tracing::info!(models = removed, "removed the logs of models that are gone");
        }
        Ok(())
    }

    /// Removes the package layers that nothing has, or of these only `only`. What the job `except`
    /// has does not count: it is being undone.
    pub(crate) async fn release_packages(
        &self,
        only: Option<&Digest>,
        except: Option<JobId>,
    ) -> Result<Swept> {
        let layers = Arc::clone(&self.layers).lock_owned().await;
        let mut swept = Swept::default();
        // Containers first: one that starts after this look is of a revision that is seen below.
        let containers = self.deps.runtime_logs.list().await?;
        let mut db = self.deps.store.read().await?;
        let (revisions, mut used): (BTreeSet<_>, BTreeSet<_>) =
            uses::packages(&mut db).await?.into_iter().unzip();
        let mut of_revisions = containers
            .iter()
            .filter_map(|c| c.labels.get(REVISION_LABEL)?.parse().ok());
        if of_revisions.any(|id: RevisionId| !revisions.contains(&id)) {
            // The revision is gone and the container about to end; it may have any package.
            swept.is_left = true;
            return Ok(swept);
        }
        let failing = uses::underway(&mut db, luthier_jobs::COMPENSATE).await?;
        for (job, result) in uses::unfinished(&mut db, "unpack").await? {
            let unpacked: Unpacked = serde_json::from_value(result)
                .map_err(|e| Error::internal("reading an unfinished job's package", e))?;
            if Some(job) != except {
                let is_new = used.insert(unpacked.package);
                // It may have asked for this very look, when a container was still about to end.
                swept.is_left |= is_new && failing.contains(&job);
            }
        }
        let underway = uses::underway(&mut db, "unpack").await?;
        drop(db);
        if underway.iter().any(|job| Some(*job) != except) {
            // It may have placed any.
            swept.is_left = true;
            return Ok(swept);
        }
        let layout = self.deps.layout.clone();
        let only = only.cloned();
        heavy(move || {
            let failed = |e| Error::internal("removing packages", e);
            let gone = layout.scratch().join(format!("gone-{}", Uuid::now_v7()));
            fs_err::create_dir_all(&gone).map_err(failed)?;
            for package in packages(&layout.packages()).map_err(failed)? {
                if used.contains(&package) || only.as_ref().is_some_and(|only| *only != package) {
                    continue;
                }
                // In one rename, for whoever finds a package takes it to be whole.
                let place = gone.join(package.as_str());
                fs_err::rename(layout.package(&package), &place).map_err(failed)?;
                let files = list_files(&place).map_err(failed)?;
                swept.bytes += files.iter().map(|(_, size)| size).sum::<u64>();
                swept.packages.push(package);
            }
            drop(layers);
            remove_tree(&gone)?;
            Ok(swept)
        })
        .await
    }
}

/// The packages that are there.
fn packages(directory: &std::path::Path) -> std::io::Result<Vec<Digest>> {
    let entries = match fs_err::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries?,
    };
    let mut found = vec![];
    for entry in entries {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    found.sort();
    Ok(found)
}
