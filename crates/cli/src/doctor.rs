//! `luthier doctor`: whether this machine can run Luthier, and what to do if not.

use std::path::PathBuf;

use luthier_server::doctor::{Probe, probe};
use luthier_types::{Code, Error, Result};

use crate::output;

/// Check this machine: kernel, cgroups, uv, interpreters, disk.
#[derive(clap::Args)]
pub(crate) struct Doctor {
    /// Directory of all state.
    #[arg(long, default_value = "luthier-data", env = "LUTHIER_DATA")]
    data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `luthier doctor`.
///
/// # Errors
/// `ContainerFailed` when something needed is missing.
pub(crate) async fn run(args: &Doctor) -> Result<()> {
    let probes = probe(&args.data).await;
    if args.json {
        output::data(serde_json::to_string(&probes).unwrap_or_default());
    } else {
        let row = |p: &Probe| {
            vec![
                if p.ok { "ok" } else { "NO" }.to_owned(),
                p.name.clone(),
                p.detail.clone(),
            ]
        };
        output::table(&probes.iter().map(row).collect::<Vec<_>>());
    }
    let missing: Vec<&Probe> = probes.iter().filter(|p| !p.ok).collect();
    for probe in &missing {
        output::note(format!("{}: {}", probe.name, probe.hint));
    }
    if missing.iter().any(|p| p.required) {
        return Err(
            Error::new(Code::ContainerFailed, "this machine cannot run models yet")
                .hint("Mend what is marked NO above and run `luthier doctor` again."),
        );
    }
    Ok(())
}
