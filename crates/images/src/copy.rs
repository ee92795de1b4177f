//! Copies an installation of CPython into a layer: what a program needs and no more, independent of
//! the place it came from.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use luthier_host::disk::walk;
use luthier_types::{Digest, layout::container};

use crate::elf::{self, Patch};

/// Directories of the standard library that no model needs.
const LEFT_OUT: &[&str] = &[
    "__pycache__",
    "site-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
];

/// Copies the installation of the minor version `python` at `prefix` to `tree`.
///
/// # Errors
/// When a file cannot be read or written, or a program of it cannot be made movable.
pub(crate) fn copy(prefix: &Path, tree: &Path, python: &str) -> io::Result<()> {
    let job = Job {
        prefix: prefix
            .to_str()
            .ok_or_else(|| io::Error::other("the installation's path is not UTF-8"))?,
        tree,
    };
    make_dir(tree)?;
    for directory in ["bin", "lib", "include"] {
        make_dir(&tree.join(directory))?;
    }
    let version = format!("python{python}");
    let real = Path::new("bin").join(&version);
    job.file(&fs_err::canonicalize(prefix.join(&real))?, &real)?;
    symlink(&version, tree.join("bin/python3"))?;
    symlink(&version, tree.join("bin/python"))?;
    for entry in fs_err::read_dir(prefix.join("lib"))? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("libpython") {
            job.entry(&entry.path(), &Path::new("lib").join(name))?;
        }
    }
    let library = Path::new("lib").join(&version);
    job.directory(&prefix.join(&library), &library)?;
    make_dir(&tree.join(&library).join("site-packages"))?;
    let headers = Path::new("include").join(&version);
    if prefix.join(&headers).is_dir() {
        job.directory(&prefix.join(&headers), &headers)?;
    }
    Ok(())
}

struct Job<'a> {
    prefix: &'a str,
    tree: &'a Path,
}

impl Job<'_> {
    fn directory(&self, from: &Path, to: &Path) -> io::Result<()> {
        make_dir(&self.tree.join(to))?;
        for entry in fs_err::read_dir(from)? {
            let entry = entry?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if LEFT_OUT.contains(&&*text) || text.starts_with("_tkinter.") || text.ends_with(".a") {
                continue;
            }
            self.entry(&entry.path(), &to.join(&name))?;
        }
        Ok(())
    }

    fn entry(&self, from: &Path, to: &Path) -> io::Result<()> {
        let kind = fs_err::symlink_metadata(from)?.file_type();
        if kind.is_symlink() {
            let target = fs_err::read_link(from)?;
            // Links out of the installation would lead nowhere in a container.
            if target.components().count() == 1 {
                symlink(target, self.tree.join(to))?;
            } else if from.is_file() {
                self.file(&fs_err::canonicalize(from)?, to)?;
            }
            Ok(())
        } else if kind.is_dir() {
            self.directory(from, to)
        } else if kind.is_file() {
            self.file(from, to)
        } else {
            Ok(())
        }
    }

    fn file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut bytes = fs_err::read(from)?;
        let metadata = fs_err::metadata(from)?;
        if bytes.starts_with(b"\x7fELF") {
            self.make_movable(&mut bytes, from, to)?;
        } else if names_its_place(to) {
            let text = String::from_utf8_lossy(&bytes);
            bytes = text.replace(self.prefix, container::PYTHON).into_bytes();
        }
        let place = self.tree.join(to);
        fs_err::write(&place, bytes)?;
        let executable = metadata.permissions().mode() & 0o111 != 0;
        let mode = if executable { 0o755 } else { 0o644 };
        fs_err::set_permissions(&place, Permissions::from_mode(mode))?;
        let file = fs_err::File::options().write(true).open(&place)?;
        file.set_modified(metadata.modified()?)
    }

    fn make_movable(&self, bytes: &mut [u8], from: &Path, to: &Path) -> io::Result<()> {
        let up = "/..".repeat(to.components().count().saturating_sub(1));
        let path = match up.as_str() {
            "/.." if to.starts_with("lib") => "$ORIGIN".to_owned(),
            "/.." => "$ORIGIN/../lib".to_owned(),
            up => format!("$ORIGIN{up}/lib"),
        };
        match elf::set_search_path(bytes, &path, |old| old.contains(self.prefix)) {
            Patch::Nothing | Patch::Done => Ok(()),
            Patch::TooShort => Err(io::Error::other(format!(
                "{} cannot be made movable: its library search path is too short",
                from.display()
            ))),
        }
    }
}

/// Whether a file of the standard library holds the path of the installation.
fn names_its_place(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("_sysconfigdata") || name == "Makefile" || name == "python-config.py"
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs_err::create_dir_all(path)?;
    fs_err::set_permissions(path, Permissions::from_mode(0o755))
}

/// The digest of the names, links and bytes below `tree`.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn digest(tree: &Path) -> io::Result<Digest> {
    let mut paths = vec![];
    walk(tree, |path, metadata| {
        paths.extend((!metadata.is_dir()).then(|| path.to_owned()));
        Ok(())
    })?;
    paths.sort();
    let mut fields = vec![];
    for path in paths {
        let name = path.strip_prefix(tree).unwrap_or(&path);
        fields.push(name.to_string_lossy().into_owned());
        if path.is_symlink() {
            fields.push(fs_err::read_link(&path)?.to_string_lossy().into_owned());
        } else {
            fields.push(Digest::of(fs_err::read(&path)?).as_str().to_owned());
        }
    }
    Ok(Digest::of_fields(fields))
}
