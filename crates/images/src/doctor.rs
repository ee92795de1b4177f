//! What this machine has of what making images needs; for `luthier doctor`.

use std::{path::Path, path::PathBuf};

use luthier_host::{Program, find_program, find_uv};
use luthier_ports::LogSink;

use crate::{catalogue::Catalogue, installed};

/// What was found.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `mmdebstrap`, which makes the base file system.
    pub mmdebstrap: Option<PathBuf>,
    /// `uv` and what it says of its version.
    pub uv: Option<(PathBuf, String)>,
    /// For each Python of the catalogue (`3.9`), an installed CPython that can be copied: its
    /// prefix and full version.
    pub interpreters: Vec<(String, Option<(PathBuf, String)>)>,
    /// Free bytes under the data directory.
    pub free_disk: Option<u64>,
}

/// Looks around. Makes nothing and uses no network.
pub async fn probe(data: &Path) -> Probe {
    let uv = match find_uv() {
        Some(path) => {
            let said = Program::new(&path)
                .arg("--version")
                .run(&LogSink::none())
                .await;
            said.ok()
                .filter(|s| s.success())
                .map(|s| (path, s.output.trim().to_owned()))
        }
        None => None,
    };
    let entries = Catalogue::read(None).map_or(vec![], |c| c.entries);
    let mut pythons: Vec<String> = vec![];
    for entry in entries {
        if !pythons.contains(&entry.info.python) {
            pythons.push(entry.info.python);
        }
    }
    let mut interpreters = vec![];
    for python in pythons {
        let found = installed::find(&python, &LogSink::none())
            .await
            .ok()
            .flatten();
        interpreters.push((python, found));
    }
    Probe {
        mmdebstrap: find_program("mmdebstrap", &["/usr/bin".into()]),
        uv,
        interpreters,
        free_disk: free_disk(data),
    }
}

/// Free bytes on the file system of the nearest existing ancestor of `path`.
fn free_disk(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|p| p.exists())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    Some(stat.blocks_available() * stat.fragment_size())
}
