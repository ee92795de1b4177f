//! `luthier purge`: remove a data directory with the containers that run from it.

use std::path::PathBuf;

use luthier_server::machine::{Machine, MachineOptions};
use luthier_types::{Code, Error, Result};

use crate::output;

/// Stop every container of a data directory and remove its state; layers are kept.
#[derive(clap::Args)]
pub(crate) struct Purge {
    /// Directory of all state.
    #[arg(long)]
    data: PathBuf,
    /// Remove the layers below it as well.
    #[arg(long)]
    all: bool,
}

/// What `serve` keeps in its data directory, layers apart.
const STATE: [&str; 11] = [
    "luthier.db",
    "luthier.db-wal",
    "luthier.db-shm",
    "blobs",
    "packages",
    "scratch",
    "containers",
    "run",
    "replica-logs",
    "admin-token",
    "server.lock",
];

/// Runs `luthier purge`.
pub(crate) async fn run(args: &Purge) -> Result<()> {
    if !args.data.join("luthier.db").exists() {
        let cause = format!("{} is no data directory of a server", args.data.display());
        return Err(Error::new(Code::BadRequest, cause));
    }
    let machine = Machine::open(&MachineOptions {
        data: args.data.clone(),
        cache: None,
        containers: None,
    })?;
    let _alone = machine.lock_data().await?;
    let removed = machine.remove_containers().await?;
    let failed = |e: std::io::Error| Error::internal("removing the data directory", e);
    for name in STATE.iter().chain(args.all.then_some(&"cache")) {
        let path = args.data.join(name);
        match fs_err::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs_err::remove_dir_all(&path).map_err(failed)?,
            Ok(_) => fs_err::remove_file(&path).map_err(failed)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
    }
    output::note(format!(
        "removed {removed} containers and the state in {}",
        args.data.display()
    ));
    Ok(())
}
