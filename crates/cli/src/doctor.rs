//! `luthier doctor`: whether this machine can run Luthier, or a package can work, and what to do if
//! not.

use std::path::{Path, PathBuf};

use luthier_server::{
    doctor::{
        Probe,
        package::{Checked, Finding, Level, check_package},
        probe,
    },
    machine::LogSink,
};
use luthier_types::{Code, Error, Result};

use crate::output;

/// Check this machine, or with DIR a package, without running anything of it.
#[derive(clap::Args)]
pub(crate) struct Doctor {
    /// Directory of a package: the one with package.py.
    dir: Option<PathBuf>,
    /// Image to check the package for; the default image if none is given.
    #[arg(long, requires = "dir")]
    image: Option<String>,
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
/// `ContainerFailed` when something needed is missing, `InvalidPackage` when a package cannot work.
pub(crate) async fn run(args: &Doctor) -> Result<()> {
    match &args.dir {
        Some(dir) => package(dir, args).await,
        None => machine(args).await,
    }
}

async fn machine(args: &Doctor) -> Result<()> {
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

async fn package(dir: &Path, args: &Doctor) -> Result<()> {
    let log = LogSink::new(|line| output::note(line));
    let checked = check_package(dir, args.image.as_deref(), &args.data, &log).await?;
    if args.json {
        output::data(serde_json::to_string(&checked.findings).unwrap_or_default());
    } else {
        checked.findings.iter().for_each(show);
        output::note(summary(&checked));
    }
    let errors = |f: &&Finding| f.level == Level::Error;
    match checked.findings.iter().filter(errors).count() {
        0 => Ok(()),
        count => {
            let cause = format!(
                "the package cannot work on {}: {count} errors",
                checked.image
            );
            Err(Error::new(Code::InvalidPackage, cause)
                .hint("Mend what is marked error above and run `luthier doctor` again."))
        }
    }
}

/// A finding: what it is, what to add or choose, and what to do.
fn show(finding: &Finding) {
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    };
    output::data(format!("{level}: {finding}"));
    if let Some(line) = &finding.requirement {
        output::data(format!("    add to requirements.txt: {line}"));
    }
    if let Some(image) = &finding.image {
        output::data(format!("    choose the image: {image}"));
    }
    if let Some(hint) = &finding.hint {
        output::data(format!("    {hint}."));
    }
}

fn summary(checked: &Checked) -> String {
    let found = match checked.findings.len() {
        0 => "nothing found".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    let how = if checked.resolved {
        "requirements resolved"
    } else {
        "requirements not resolved, only their names compared"
    };
    format!("{found} for {} ({how})", checked.image)
}
