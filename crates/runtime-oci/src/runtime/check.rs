//! Checks before anything is made.

use std::{
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use luthier_ports::{ContainerId, ContainerSpec};
use luthier_types::{Code, Error, Result};

use crate::dir::Dir;

/// Prefixes of directories that are being made or removed.
pub(super) const HIDDEN: [&str; 2] = [".new-", ".gone-"];

/// Makes the state directory if need be, and removes from it what an interrupted server left.
pub(super) fn prepare_state(dir: &Path) -> Result<PathBuf> {
    let failed = |e: std::io::Error| {
        Error::new(
            Code::ContainerFailed,
            format!(
                "the containers' state directory {} is not usable",
                dir.display()
            ),
        )
        .hint("See that its parent exists and that the server may write there.")
        .source(e)
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(failed)?;
    let dir = fs_err::canonicalize(dir).map_err(failed)?;
    fs_err::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    for entry in fs_err::read_dir(&dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let hidden = HIDDEN.iter().any(|p| name.to_string_lossy().starts_with(p));
        // A crash of the machine may leave a directory without a readable description.
        if hidden || Dir::new(entry.path()).stored().map_err(failed)?.is_none() {
            fs_err::remove_dir_all(entry.path()).map_err(failed)?;
        }
    }
    Ok(dir)
}

/// Whether an id is one: it becomes the name of a directory and of a cgroup.
pub(super) fn is_valid(id: &ContainerId) -> bool {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&id.0.len()) && id.0.bytes().all(allowed)
}

/// Checks what `start` is asked for.
pub(super) fn spec(spec: &ContainerSpec) -> Result<()> {
    let wrong = |cause: String, hint: &str| {
        Err(Error::new(
            Code::ContainerFailed,
            format!("the container {} cannot be started: {cause}", spec.id),
        )
        .hint(hint))
    };
    if !is_valid(&spec.id) {
        return wrong(
            "its id is not 1 to 63 lower-case letters, digits and hyphens".to_owned(),
            "Give it another id.",
        );
    }
    if !spec.rootfs.is_dir() {
        return wrong(
            format!("its root file system {} is missing", spec.rootfs.display()),
            "Prepare the image again; its directory was removed.",
        );
    }
    for mount in &spec.mounts {
        if !mount.source.is_dir() {
            return wrong(
                format!(
                    "the directory {} to mount is missing",
                    mount.source.display()
                ),
                "Build the revision again; a part of it was removed.",
            );
        }
        let open =
            fs_err::metadata(&mount.source).is_ok_and(|m| m.permissions().mode() & 0o005 == 0o005);
        if mount.read_only && !open {
            return wrong(
                format!(
                    "its user may not read the directory {}",
                    mount.source.display()
                ),
                "Make the directory readable for all (mode 0755); its parents may stay closed.",
            );
        }
    }
    if spec.args.is_empty() {
        return wrong(
            "no program is given".to_owned(),
            "Give it a program to run.",
        );
    }
    let nul = |text: &String| text.contains('\0');
    if spec.args.iter().any(nul) || spec.env.iter().any(|(k, v)| nul(k) || nul(v)) {
        return wrong(
            "an argument or variable holds a NUL character".to_owned(),
            "Remove it.",
        );
    }
    if spec
        .env
        .keys()
        .any(|name| name.is_empty() || name.contains('='))
    {
        return wrong(
            "a variable's name is empty or holds `=`".to_owned(),
            "Give the variable another name.",
        );
    }
    if !spec.cwd.is_absolute() {
        return wrong(
            format!(
                "its working directory {} is not absolute",
                spec.cwd.display()
            ),
            "Give an absolute path.",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_cannot_be_paths() {
        for id in ["", ".", "..", "a/b", "A", "a_b", &"x".repeat(64), "a\0"] {
            assert!(!is_valid(&ContainerId(id.to_owned())), "{id:?}");
        }
        for id in ["a", "r-01", &"x".repeat(63)] {
            assert!(is_valid(&ContainerId(id.to_owned())), "{id:?}");
        }
    }
}
