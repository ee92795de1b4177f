//! The root file systems: a minimal Debian bookworm, with an image's own packages, shared by every
//! image that has the same.
//!
//! Its digest is that of the recipe, not of the bytes: what Debian's security archive holds on the
//! day it is made goes in. Made once, it stays.

use std::{
    collections::BTreeSet, fs::Permissions, io, os::unix::fs::PermissionsExt as _, path::Path,
    time::Duration,
};

use luthier_host::{FileLock, Program, Staged, disk::walk, find_program};
use luthier_ports::LogSink;
use luthier_types::{
    Code, Digest, Error, Result,
    layout::{CacheLayout, container},
};

use safe_path::scoped_join;

use crate::catalogue::Tag;

const SUITE: &str = "bookworm";
/// What CPython, its standard library and common wheels link to, and certificates.
const PACKAGES: &[&str] = &[
    "ca-certificates",
    "libbz2-1.0",
    "libffi8",
    "libgomp1",
    "liblzma5",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "tzdata",
    "zlib1g",
];
/// What building from source needs beyond an image's own; Python's headers come with the
/// interpreter.
const TOOLCHAIN: &[&str] = &["build-essential", "gfortran", "pkg-config"];
/// With this package, [`R_TOOLCHAIN`] as well.
const R: &str = "r-base-core";
const R_TOOLCHAIN: &str = "r-base-dev";
/// Goes up when [`finish`] changes what it makes.
const RECIPE: &str = "4";
/// What is left out, as patterns of dpkg.
const LEFT_OUT: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    // The directories themselves are kept: the Java runtime's installation links into them.
    "path-exclude=/usr/share/man/*/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
];
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What goes into a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// Debian packages beyond [`PACKAGES`], sorted.
    packages: BTreeSet<String>,
    /// A day; see [`Tag::debian_state`].
    state: String,
}

impl Recipe {
    /// The recipe of a tag.
    pub(crate) fn of(tag: &Tag) -> Self {
        Self {
            packages: tag.debian.iter().cloned().collect(),
            state: tag.debian_state.clone(),
        }
    }

    /// The recipe of an image that is in no catalogue, as far as it is known.
    pub(crate) fn of_packages(debian: &[String]) -> Self {
        Self {
            packages: debian.iter().cloned().collect(),
            state: String::new(),
        }
    }

    /// The same with what building from source needs.
    pub(crate) fn with_toolchain(mut self) -> Self {
        let with_r = self.packages.contains(R);
        self.packages
            .extend(TOOLCHAIN.iter().map(|p| (*p).to_owned()));
        if with_r {
            self.packages.insert(R_TOOLCHAIN.to_owned());
        }
        self
    }

    /// Its digest, which names the layer.
    pub(crate) fn digest(&self) -> Digest {
        let mut fields = vec![RECIPE, SUITE, std::env::consts::ARCH, &self.state];
        fields.extend(PACKAGES);
        fields.extend(self.packages.iter().map(String::as_str));
        fields.extend(LEFT_OUT);
        Digest::of_fields(fields)
    }

    /// What it has beyond every other: ` with r-base-core`, or nothing.
    fn with(&self) -> String {
        if self.packages.is_empty() {
            return String::new();
        }
        let names: Vec<&str> = self.packages.iter().map(String::as_str).collect();
        format!(" with {}", names.join(", "))
    }

    fn include(&self) -> String {
        let all: Vec<&str> = PACKAGES
            .iter()
            .copied()
            .chain(self.packages.iter().map(String::as_str))
            .collect();
        all.join(",")
    }
}

/// Makes the root file system when it is not there.
///
/// # Errors
/// `ImageUnavailable` when Debian's packages cannot be had, with the tool's output.
pub(crate) async fn ensure(
    layout: &CacheLayout,
    recipe: &Recipe,
    mirror: Option<&str>,
    log: &LogSink,
) -> Result<Digest> {
    let digest = recipe.digest();
    let place = layout.rootfs(&digest);
    if place.is_dir() {
        return Ok(digest);
    }
    let _lock = FileLock::acquire(&layout.root().join("locks/rootfs.lock")).await?;
    if place.is_dir() {
        return Ok(digest);
    }
    let staged = Staged::new(&layout.staging(), "rootfs")?;
    let archive = staged.scratch().join("rootfs.tar");
    log.line(format!(
        "making a file system of Debian bookworm{}, once on this machine; a minute or two",
        recipe.with()
    ));
    let mmdebstrap = find_program("mmdebstrap", &["/usr/bin".into()]).ok_or_else(|| {
        Error::new(
            Code::ImageUnavailable,
            "mmdebstrap, which makes the base file system, is not installed",
        )
        .hint("Install it: `apt install mmdebstrap debian-archive-keyring`.")
    })?;
    let unshare = find_program("unshare", &["/usr/bin".into()]).ok_or_else(|| {
        Error::new(
            Code::ImageUnavailable,
            "unshare, in which the base file system is made, is not installed",
        )
        .hint("Install it: `apt install util-linux`.")
    })?;
    // Its mounts are nobody else's: no other process can keep them busy, and they end with it.
    let mut program = Program::new(unshare)
        .args(["--mount", "--"])
        .arg(mmdebstrap)
        .inherit(|name| {
            matches!(
                name.to_ascii_lowercase().as_str(),
                "path" | "http_proxy" | "https_proxy" | "no_proxy"
            )
        })
        .env("LANG", "C.UTF-8")
        .env("HOME", staged.scratch())
        .env("TMPDIR", staged.scratch())
        .cwd(staged.scratch())
        .limit(LIMIT)
        .args(["--variant=minbase", "--format=tar"])
        .arg(format!("--include={}", recipe.include()));
    for pattern in LEFT_OUT {
        program = program.arg(format!("--dpkgopt={pattern}"));
    }
    program = program.arg(SUITE).arg(&archive);
    if let Some(mirror) = mirror {
        program = program.arg(mirror);
    }
    let ended = program.run(log).await?;
    if !ended.success() {
        return Err(Error::new(
            Code::ImageUnavailable,
            "the base file system could not be made: mmdebstrap failed",
        )
        .hint(
            "The output tells why; usually Debian's mirror cannot be reached or \
             debian-archive-keyring is not installed. Then try again.",
        )
        .evidence(ended.evidence()));
    }
    let tree = staged.path().to_owned();
    let made = tokio::task::spawn_blocking(move || {
        unpack(&archive, &tree)?;
        finish(&tree)
    })
    .await
    .map_err(|e| Error::internal("making the base file system", e))?;
    made.map_err(|e| {
        Error::new(
            Code::ImageUnavailable,
            format!("the base file system could not be written: {e}"),
        )
        .hint("Check the free space under the data directory, then try again.")
        .source(e)
    })?;
    staged.publish(&place)?;
    log.line("the file system is ready");
    Ok(digest)
}

/// Unpacks everything but device nodes, owned by the current user, without set-id bits.
fn unpack(archive: &Path, tree: &Path) -> io::Result<()> {
    fs_err::create_dir(tree)?;
    fs_err::set_permissions(tree, Permissions::from_mode(0o755))?;
    let mut archive = tar::Archive::new(io::BufReader::new(fs_err::File::open(archive)?));
    archive.set_preserve_permissions(true);
    archive.set_mask(0o6000);
    for entry in archive.entries()? {
        let mut entry = entry?;
        use tar::EntryType as T;
        match entry.header().entry_type() {
            T::Regular | T::Continuous | T::Link | T::Symlink | T::Directory | T::GNUSparse => {
                entry.unpack_in(tree)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Adds what a container needs and takes away what Debian's tools left.
fn finish(tree: &Path) -> io::Result<()> {
    prepare(tree)?;
    for gone in [
        "var/cache/apt",
        "var/lib/apt/lists",
        "var/log",
        "var/cache/debconf",
    ] {
        empty(&tree.join(gone))?;
    }
    Ok(())
}

/// Adds the mount points and the few files a container needs, takes away what is of the host, and
/// makes every directory and file readable to all, since a container's root may be nobody here.
/// Links in the tree are followed within it alone.
pub(crate) fn prepare(tree: &Path) -> io::Result<()> {
    for directory in [
        container::PYTHON,
        container::ENV,
        container::RUNNER,
        container::PACKAGE,
        container::CONFIG_DIR,
        container::SOCKET_DIR,
        "/opt/luthier/build",
        "/opt/luthier/work",
        "/proc",
        "/sys",
        "/dev",
        "/tmp",
    ] {
        fs_err::create_dir_all(scoped_join(tree, directory)?)?;
    }
    let etc = scoped_join(tree, "etc")?;
    fs_err::create_dir_all(&etc)?;
    for (name, text) in [
        ("hostname", Some("localhost\n")),
        (
            "hosts",
            Some("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
        ),
        // A container that shares the host's network has the host's mounted over it.
        ("resolv.conf", Some("")),
        ("machine-id", None),
    ] {
        // A link is removed, not followed.
        match fs_err::remove_file(etc.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        if let Some(text) = text {
            fs_err::write(etc.join(name), text)?;
        }
    }
    readable(tree)
}

/// Removes what is in a directory, if there is one.
fn empty(directory: &Path) -> io::Result<()> {
    let entries = match fs_err::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs_err::remove_dir_all(entry.path())?;
        } else {
            fs_err::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Lets everyone read files and enter directories.
fn readable(directory: &Path) -> io::Result<()> {
    walk(directory, |path, metadata| {
        if metadata.is_symlink() {
            return Ok(());
        }
        let mode = metadata.permissions().mode() & 0o7777;
        let wanted = mode | if metadata.is_dir() { 0o755 } else { 0o444 };
        if wanted == mode {
            return Ok(());
        }
        fs_err::set_permissions(path, Permissions::from_mode(wanted))
    })
}

#[cfg(test)]
mod tests;
