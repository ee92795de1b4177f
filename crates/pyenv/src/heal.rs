//! A damaged file of the cache has other names in the environments that were made of it; they get
//! the good one.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use luthier_host::Staged;
use luthier_types::{Error, Result};

use crate::{UvEnvs, store};

/// A damaged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Its path in an environment.
    pub(crate) path: PathBuf,
    /// Device and inode.
    pub(crate) inode: (u64, u64),
}

/// Those of `paths` in the environment at `tree` that exist, as damaged files.
pub(crate) fn bad(tree: &Path, paths: &[PathBuf]) -> Vec<Bad> {
    let inode = |path: &PathBuf| inode(&tree.join(path)).ok();
    paths
        .iter()
        .filter_map(|path| {
            Some(Bad {
                inode: inode(path)?,
                path: path.clone(),
            })
        })
        .collect()
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs_err::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Replaces damaged files in all environments by those of the environment at `good`. Each is
/// replaced in one instant; who reads the old one goes on reading it. Returns how many.
pub(crate) async fn heal(envs: &UvEnvs, bad: Vec<Bad>, good: PathBuf) -> Result<usize> {
    if bad.is_empty() {
        return Ok(0);
    }
    let staging = envs.layout().staging();
    let found = store::found(envs)?;
    tokio::task::spawn_blocking(move || {
        let failed = |e: io::Error| Error::internal("replacing damaged files", e);
        let staged = Staged::new(&staging, "heal")?;
        let new = staged.scratch().join("new");
        let mut healed = 0;
        for (_, place) in found {
            for bad in &bad {
                let path = place.join(&bad.path);
                if inode(&path).ok() == Some(bad.inode) {
                    fs_err::hard_link(good.join(&bad.path), &new).map_err(failed)?;
                    fs_err::rename(&new, &path).map_err(failed)?;
                    healed += 1;
                }
            }
        }
        Ok(healed)
    })
    .await
    .map_err(|e| Error::internal("replacing damaged files", e))?
}
