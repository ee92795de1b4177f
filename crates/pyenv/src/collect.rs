//! Removing environments that nobody uses, and then what the caches hold for none.
//!
//! An environment goes by one rename, so that it is whole or absent at any instant; what was
//! renamed is deleted then, or by the next sweep if that is interrupted. It is removed only under
//! its own lock, which whoever builds it or asks for it holds. The caches are touched only when no
//! environment is being built. There, what an environment uses has a second name in it, so a file
//! with one name is used by none.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use luthier_host::{
    FileLock, Staged,
    disk::{usage, walk},
    sweep,
};
use luthier_ports::{Collected, LogSink, normalised};
use luthier_types::{Digest, EnvId, Error, Result};

use crate::{UvEnvs, bytecode, disk, installed, lockfile, source, store, verify};

/// An environment that was asked for this shortly before the collection began stays: whoever asked
/// may not have been counted among its users yet.
const JUST_ASKED_FOR: Duration = Duration::from_secs(2);
/// A record or wheel younger than this may belong to an environment that is built next.
const YOUNG: Duration = Duration::from_secs(3600);

pub(crate) async fn collect(
    envs: &UvEnvs,
    keep: &BTreeSet<EnvId>,
    log: &LogSink,
) -> Result<Collected> {
    let began = SystemTime::now();
    let mut collected = Collected::default();
    sweep(&envs.layout().staging())?;
    for (id, place) in store::found(envs)? {
        if keep.contains(&id) {
            continue;
        }
        let short = id.0.short();
        let Some(_lock) = FileLock::try_acquire(&envs.lock_of(&id))? else {
            log.line(format!("environment {short} is being built; it stays"));
            continue;
        };
        if asked_for_since(&place, began) {
            log.line(format!("environment {short} was just asked for; it stays"));
            continue;
        }
        let bytes = remove(envs, place).await?;
        log.line(format!("removed environment {short}, {}", mebibytes(bytes)));
        collected.bytes += bytes;
        collected.environments.push(id);
    }
    let Some(_caches) = FileLock::try_acquire(&envs.caches_lock())? else {
        log.line("an environment is being built; the caches are left for the next time");
        return Ok(collected);
    };
    let used = Used::of(envs).await?;
    let mut freed = 0;
    for path in unused(envs, used).await? {
        freed += remove(envs, path).await?;
    }
    if freed > 0 {
        log.line(format!("removed {} from the caches", mebibytes(freed)));
    }
    collected.bytes += freed;
    Ok(collected)
}

/// Whether a build asked for the environment after `began`, or shortly before.
fn asked_for_since(place: &Path, began: SystemTime) -> bool {
    let asked = fs_err::metadata(place).and_then(|m| m.modified());
    asked.is_ok_and(|at| at + JUST_ASKED_FOR > began)
}

/// Takes a file or directory away in one instant, then deletes it. Returns the bytes it freed.
async fn remove(envs: &UvEnvs, path: PathBuf) -> Result<u64> {
    let staging = envs.layout().staging();
    tokio::task::spawn_blocking(move || {
        let failed = |e: io::Error| Error::internal(format!("removing {}", path.display()), e);
        let staged = Staged::new(&staging, "gone")?;
        let bytes = usage(&path).map_err(failed)?.alone;
        match fs_err::rename(&path, staged.path()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            renamed => renamed.map_err(failed).map(|()| bytes),
        }
    })
    .await
    .map_err(|e| Error::internal("removing what is not used", e))?
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// What the environments that are left use of the caches.
#[derive(Default)]
struct Used {
    /// Their locks, which the records of resolutions repeat.
    locks: BTreeSet<String>,
    /// Names of their distributions.
    names: BTreeSet<String>,
    /// Names of the directories of wheels that were built for them.
    wheels: BTreeSet<String>,
    /// Digests of their distributions' records.
    records: BTreeSet<Digest>,
}

impl Used {
    async fn of(envs: &UvEnvs) -> Result<Self> {
        let found = store::found(envs)?;
        store::blocking("reading the environments", move || {
            let mut used = Self::default();
            for (_, place) in found {
                let lock = fs_err::read_to_string(place.join(store::LOCK))?;
                used.names
                    .extend(lockfile::pins(&lock).into_iter().map(|(name, _)| name));
                used.wheels.extend(source::used(&lock));
                used.locks.insert(lock);
                let distributions = installed::distributions(&place)?;
                used.records
                    .extend(distributions.iter().map(|d| d.record()));
            }
            Ok(used)
        })
        .await
    }

    /// Whether an environment uses what lies in `directory` of the built wheels.
    fn has_wheel(&self, directory: &Path) -> bool {
        directory
            .file_name()
            .is_some_and(|name| self.wheels.contains(&*name.to_string_lossy()))
    }
}

/// The paths in the caches that no environment uses.
async fn unused(envs: &UvEnvs, used: Used) -> Result<Vec<PathBuf>> {
    let root = envs.layout().root().to_owned();
    let installer = envs.layout().installer_cache();
    store::blocking("reading the caches", move || {
        let mut paths = vec![];
        for interpreter in entries(&root.join(bytecode::STORE))? {
            for kept in entries(&interpreter)? {
                if !disk::is_shared(&kept)? {
                    paths.push(kept);
                }
            }
        }
        for note in entries(&root.join(verify::NOTES))? {
            let record = note
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            if !record.is_some_and(|record: Digest| used.records.contains(&record)) {
                paths.push(note);
            }
        }
        for record in entries(&root.join("requirements"))? {
            if is_old(&record)? && !used.locks.contains(&fs_err::read_to_string(&record)?) {
                paths.push(record);
            }
        }
        for wheel in entries(&root.join("wheels"))? {
            if is_old(&wheel)? && wheel.is_dir() && !used.has_wheel(&wheel) {
                paths.push(wheel);
            }
        }
        paths.extend(installers(&installer, &used)?);
        Ok(paths)
    })
    .await
}

/// What is not used of the installer's cache: unpacked wheels without a file in an environment,
/// what points at them, and the index's pages of distributions that no environment has. Should a
/// later installer lay its cache out differently, this finds nothing, or it fetches again.
fn installers(cache: &Path, used: &Used) -> io::Result<Vec<PathBuf>> {
    let mut archives = BTreeSet::new();
    let mut paths = vec![];
    for bucket in entries(cache)? {
        let name = bucket.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("archive-") {
            for archive in entries(&bucket)? {
                if !disk::is_shared(&archive)? {
                    archives.insert(archive);
                }
            }
        } else if name.starts_with("simple-") {
            walk(&bucket, |path, metadata| {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                if metadata.is_file()
                    && path.extension().is_some_and(|e| e == "rkyv")
                    && !used.names.contains(&normalised(&stem))
                {
                    paths.push(path.to_owned());
                }
                Ok(())
            })?;
        }
    }
    // What points at a wheel goes before the wheel.
    for bucket in entries(cache)? {
        let name = bucket.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("wheels-") {
            walk(&bucket, |path, metadata| {
                if metadata.is_symlink() && leads_into(path, &archives)? {
                    paths.extend(pointers(path)?);
                }
                Ok(())
            })?;
        }
    }
    paths.extend(archives);
    Ok(paths)
}

/// Whether the link leads to one of `archives`, or to nothing.
fn leads_into(link: &Path, archives: &BTreeSet<PathBuf>) -> io::Result<bool> {
    let target = fs_err::read_link(link)?;
    let place = link.parent().unwrap_or(link).join(target);
    Ok(match fs_err::canonicalize(&place) {
        Ok(place) => archives.iter().any(|a| {
            a.file_name() == place.file_name() && fs_err::canonicalize(a).is_ok_and(|a| a == place)
        }),
        Err(_) => true,
    })
}

/// The link to a wheel and the files of its name beside it.
fn pointers(link: &Path) -> io::Result<Vec<PathBuf>> {
    let name = link.file_name().unwrap_or_default().to_string_lossy();
    let mut paths = vec![];
    for path in entries(link.parent().unwrap_or(link))? {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = file.strip_prefix(name.as_ref());
        if rest.is_some_and(|rest| ["", ".http", ".msgpack", ".rev"].contains(&rest)) {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The entries of a directory, sorted; none if there is no directory.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![];
    match fs_err::read_dir(directory) {
        Ok(entries) => {
            for entry in entries {
                paths.push(entry?.path());
            }
        }
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) => {}
        Err(e) => return Err(e),
    }
    paths.sort();
    Ok(paths)
}

fn is_old(path: &Path) -> io::Result<bool> {
    let at = fs_err::metadata(path)?.modified()?;
    Ok(at.elapsed().is_ok_and(|age| age > YOUNG))
}
