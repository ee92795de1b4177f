//! The runner's files, carried inside the binary, as a content-addressed layer.

use std::{path::PathBuf, sync::LazyLock};

use std::os::unix::fs::PermissionsExt as _;

use luthier_host::Staged;
use luthier_types::{Digest, Error, Result, layout::CacheLayout};

struct File {
    name: &'static str,
    mode: u32,
    bytes: &'static [u8],
}

macro_rules! python {
    ($name:literal) => {
        File {
            name: $name,
            mode: 0o644,
            bytes: include_bytes!(concat!("../../runner/python/", $name)),
        }
    };
}

/// Every file of the layer.
static FILES: [File; 5] = [
    python!("main.py"),
    python!("luthier_frames.py"),
    python!("luthier_host.py"),
    python!("luthier_results.py"),
    File {
        name: "luthier_runner.abi3.so",
        mode: 0o755,
        bytes: include_bytes!(env!("LUTHIER_RUNNER_LIBRARY")),
    },
];

/// The digest of the layer: of the names and contents of its files.
pub fn digest() -> &'static Digest {
    static DIGEST: LazyLock<Digest> = LazyLock::new(|| {
        Digest::of_fields(
            FILES
                .iter()
                .flat_map(|file| [file.name.as_bytes(), file.bytes]),
        )
    });
    &DIGEST
}

/// Writes the layer to its place in the cache, unless it is there, and gives the place. May be
/// called by several processes at once.
///
/// # Errors
/// `Internal` when the cache cannot be written.
pub fn materialise(layout: &CacheLayout) -> Result<PathBuf> {
    let place = layout.runner(digest());
    if place.is_dir() {
        return Ok(place);
    }
    let staged = Staged::new(&layout.staging(), "runner")?;
    let tree = staged.path();
    let write = || {
        let mode = std::fs::Permissions::from_mode;
        fs_err::create_dir(tree)?;
        for file in &FILES {
            let path = tree.join(file.name);
            fs_err::write(&path, file.bytes)?;
            fs_err::set_permissions(&path, mode(file.mode))?;
        }
        fs_err::set_permissions(tree, mode(0o755))
    };
    write().map_err(|e| Error::internal(format!("writing {}", tree.display()), e))?;
    staged.publish(&place)?;
    Ok(place)
}

#[cfg(test)]
mod tests;
