//! The root of a container, put together in the shim's private mount namespace.
//!
//! Root file systems are shared by containers, so nothing may be made in them, not even a mount
//! point. Instead a small tmpfs holds the top directory; what the image has there is bound into it,
//! and only directories on the way to a mount point that the image lacks are made anew. Everything
//! is read-only but the mounts asked to be writable, and the container cannot undo it: in its user
//! namespace these mounts are locked.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Component, Path, PathBuf},
};

use luthier_ports::Network;
use nix::mount::{MsFlags, mount};

use crate::dir::Stored;

/// Where the root may be put together. Any directory does that all may enter and that hides
/// nothing still needed: the mount is seen by nobody else. The state directory itself will not do,
/// for the container's user may not enter it.
const PLACES: [&str; 8] = [
    "/mnt", "/media", "/srv", "/opt", "/home", "/tmp", "/var/tmp", "/boot",
];

/// Directories that are always the container's own.
const OWN: [&str; 4] = ["proc", "dev", "sys", "tmp"];

/// What a host's resolver needs in a container that shares its network.
const RESOLVER: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// A thing of the host bound into the container.
#[derive(Debug)]
struct Bind {
    source: PathBuf,
    /// Relative to the root.
    target: PathBuf,
    read_only: bool,
}

/// Puts the root together and returns its path, which only this mount namespace sees.
///
/// # Errors
/// A sentence with the cause.
pub(crate) fn assemble(stored: &Stored, state: &Path) -> Result<PathBuf, String> {
    let binds = binds(stored)?;
    let rootfs = &stored.container.rootfs;
    let used: Vec<&Path> = binds
        .iter()
        .map(|bind| bind.source.as_path())
        .chain([rootfs.as_path(), state])
        .collect();
    let root = place(&used).ok_or_else(|| {
        format!(
            "none of {} is a directory that can hold the container's root",
            PLACES.join(", ")
        )
    })?;
    let failed = |e: io::Error| format!("cannot put together the container's root: {e}");

    let nosuid = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        &root,
        Some("tmpfs"),
        nosuid,
        Some("mode=755,size=1m"),
    )
    .map_err(|e| failed(e.into()))?;
    let skeleton = Skeleton::plan(rootfs, &binds)?;
    skeleton.make(&root).map_err(failed)?;
    for bind in &binds {
        if !bind.read_only {
            let uid = Some(stored.host_uid());
            chown(&bind.source, uid, uid).map_err(failed)?;
        }
        bind_mount(&bind.source, &root.join(&bind.target), bind.read_only).map_err(failed)?;
    }
    remount(&root, true).map_err(failed)?;
    Ok(root)
}

fn binds(stored: &Stored) -> Result<Vec<Bind>, String> {
    let mut binds = vec![];
    for mount in &stored.container.mounts {
        binds.push(Bind {
            source: mount.source.clone(),
            target: relative(&mount.target)?,
            read_only: mount.read_only,
        });
    }
    if stored.container.network == Network::Host {
        for file in RESOLVER {
            if let Ok(source) = fs_err::canonicalize(file) {
                binds.push(Bind {
                    source,
                    target: relative(Path::new(file))?,
                    read_only: true,
                });
            }
        }
    }
    // Outer targets first, so that inner ones are not hidden.
    binds.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(binds)
}

/// A target as a path below the root.
fn relative(target: &Path) -> Result<PathBuf, String> {
    let wrong = |why: &str| Err(format!("the mount point {} {why}", target.display()));
    let Ok(below) = target.strip_prefix("/") else {
        return wrong("is not absolute");
    };
    let Some(Component::Normal(first)) = below.components().next() else {
        return wrong("is the root itself");
    };
    if !below
        .components()
        .all(|c| matches!(c, Component::Normal(_)))
    {
        return wrong("has a `.` or `..` in it");
    }
    if OWN.iter().any(|own| first == *own) {
        return wrong("lies where the container has a file system of its own");
    }
    Ok(below.to_owned())
}

fn place(used: &[&Path]) -> Option<PathBuf> {
    PLACES.iter().map(PathBuf::from).find(|place| {
        let hides = used.iter().any(|path| path.starts_with(place));
        !hides
            && place.ancestors().all(|dir| {
                fs_err::symlink_metadata(dir)
                    .is_ok_and(|m| m.is_dir() && m.permissions().mode() & 0o001 != 0)
            })
    })
}

/// Which parts of the image are bound whole, and which are made anew.
#[derive(Debug)]
struct Skeleton<'a> {
    rootfs: &'a Path,
    /// Directories that the image's are not bound for, but made anew with the same content.
    split: BTreeSet<PathBuf>,
    /// Mount points that the image lacks; whether each is a directory.
    points: Vec<(PathBuf, bool)>,
}

impl<'a> Skeleton<'a> {
    fn plan(rootfs: &'a Path, binds: &[Bind]) -> Result<Self, String> {
        let mut skeleton = Self {
            rootfs,
            split: BTreeSet::from([PathBuf::new()]),
            points: vec![],
        };
        for bind in binds {
            let target = &bind.target;
            let inside =
                |other: &Bind| target != &other.target && target.starts_with(&other.target);
            // A mount point within another mount must exist in that mount's source.
            if !binds.iter().any(inside) {
                let is_dir = bind.source.is_dir();
                if !skeleton.has(target, is_dir)? {
                    let ancestors = target.ancestors().skip(1);
                    skeleton.split.extend(ancestors.map(Path::to_owned));
                    skeleton.points.push((target.clone(), is_dir));
                }
            }
        }
        Ok(skeleton)
    }

    /// Whether the image has the mount point `target`.
    fn has(&self, target: &Path, is_dir: bool) -> Result<bool, String> {
        let mut path = self.rootfs.to_owned();
        for part in target.components() {
            path.push(part);
            match fs_err::symlink_metadata(&path) {
                Ok(m) if m.is_symlink() && path == self.rootfs.join(target) && !is_dir => {
                    return Ok(false);
                }
                Ok(m) if m.is_symlink() => {
                    return Err(format!(
                        "the mount point /{} goes through a symbolic link of the image",
                        target.display()
                    ));
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(format!("cannot look up a mount point: {e}")),
            }
        }
        Ok(path.is_dir() == is_dir)
    }

    fn make(&self, root: &Path) -> io::Result<()> {
        self.fill(root, Path::new(""))?;
        for own in OWN {
            fs_err::create_dir_all(root.join(own))?;
        }
        for (point, is_dir) in &self.points {
            let path = root.join(point);
            if *is_dir {
                fs_err::create_dir_all(path)?;
            } else {
                if let Some(parent) = path.parent() {
                    fs_err::create_dir_all(parent)?;
                }
                fs_err::File::create(path)?;
            }
        }
        Ok(())
    }

    /// Fills the directory `dir` of the root with what the image has there.
    fn fill(&self, root: &Path, dir: &Path) -> io::Result<()> {
        for entry in fs_err::read_dir(self.rootfs.join(dir))? {
            let entry = entry?;
            let name = dir.join(entry.file_name());
            let path = root.join(&name);
            let own = OWN.iter().any(|own| name == Path::new(own));
            if own || self.points.iter().any(|(point, _)| *point == name) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_symlink() {
                symlink(fs_err::read_link(entry.path())?, &path)?;
            } else if kind.is_dir() {
                fs_err::create_dir(&path)?;
                if self.split.contains(&name) {
                    let metadata = entry.metadata()?;
                    fs_err::set_permissions(&path, metadata.permissions())?;
                    chown(&path, Some(metadata.uid()), Some(metadata.gid()))?;
                    self.fill(root, &name)?;
                } else {
                    bind_mount(&entry.path(), &path, true)?;
                }
            } else if kind.is_file() {
                fs_err::File::create(&path)?;
                bind_mount(&entry.path(), &path, true)?;
            }
        }
        Ok(())
    }
}

fn bind_mount(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none).map_err(|e| {
        io::Error::other(format!(
            "cannot mount {} at {}: {e}",
            source.display(),
            target.display()
        ))
    })?;
    remount(target, read_only)
}

/// Changes the flags of one mount; a bind mount takes them only in this second step.
fn remount(target: &Path, read_only: bool) -> io::Result<()> {
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, read_only);
    let none = None::<&str>;
    mount(none, target, none, flags, none).map_err(io::Error::from)
}

#[cfg(test)]
mod tests;
