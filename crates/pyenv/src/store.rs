//! The environments of this machine as a store: what there is, and what is in each.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use jiff::Timestamp;
use luthier_host::disk::usage;
use luthier_ports::EnvInfo;
use luthier_types::{EnvId, Error, Result};
use serde_json::Value;

use crate::{UvEnvs, installed, sbom};

/// The lock an environment was built of, inside it; the last file that is written.
pub(crate) const LOCK: &str = "requirements.lock";

pub(crate) async fn list(envs: &UvEnvs) -> Result<Vec<EnvInfo>> {
    let found = found(envs)?;
    blocking("reading the environments", move || {
        let mut infos = vec![];
        for (id, place) in found {
            match info(id, &place) {
                Ok(info) => infos.push(info),
                // Collected in the meantime.
                Err(_) if !place.exists() => {}
                Err(e) => return Err(e),
            }
        }
        infos.sort_by(|a, b| (a.built, &a.id).cmp(&(b.built, &b.id)));
        Ok(infos)
    })
    .await
}

pub(crate) async fn sbom(envs: &UvEnvs, id: &EnvId) -> Result<Option<Value>> {
    let (place, id) = (envs.layout().env(id), id.clone());
    blocking("reading an environment", move || {
        if !place.is_dir() {
            return Ok(None);
        }
        sbom::document(&place, &id, built(&place)?).map(Some)
    })
    .await
}

/// The environments there are, whatever their age.
pub(crate) fn found(envs: &UvEnvs) -> Result<Vec<(EnvId, PathBuf)>> {
    let directory = envs.layout().root().join("envs");
    let failed = |e: io::Error| Error::internal("reading the environments", e);
    let entries = match fs_err::read_dir(&directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(failed)?,
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if let Some(digest) = entry.file_name().to_str().and_then(|n| n.parse().ok()) {
            found.push((EnvId(digest), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn info(id: EnvId, place: &Path) -> io::Result<EnvInfo> {
    let usage = usage(place)?;
    let version = python(place)?;
    let minor: Vec<&str> = version.split('.').take(2).collect();
    Ok(EnvInfo {
        id,
        built: built(place)?,
        python: minor.join("."),
        packages: installed::distributions(place)?.len(),
        bytes: usage.bytes,
        alone: usage.alone,
    })
}

/// The version of the environment's Python, for example `3.11.7`.
pub(crate) fn python(place: &Path) -> io::Result<String> {
    let settings = fs_err::read_to_string(place.join("pyvenv.cfg"))?;
    settings
        .lines()
        .find_map(|line| {
            Some(
                line.strip_prefix("version_info")?
                    .trim_start()
                    .strip_prefix('=')?
                    .trim(),
            )
        })
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("pyvenv.cfg tells no version"))
}

fn built(place: &Path) -> io::Result<Timestamp> {
    let at: SystemTime = fs_err::metadata(place.join(LOCK))?.modified()?;
    Timestamp::try_from(at).map_err(io::Error::other)
}

/// Runs work on files where it may wait for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(doing, e))?
        .map_err(|e| Error::internal(doing, e))
}
