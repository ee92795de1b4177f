//! `luthier doctor`: whether this machine can run Luthier, or a package can work, and what to do if
//! not.

use std::path::{Path, PathBuf};

use luthier_server::{
    doctor::{
        Probe,
        package::{Checked, Finding, Level, Requirements, check_package},
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
/// `ContainerFailed` when something needed is missing, `InvalidPackage` when a package cannot work,
/// `RequirementsError` when its requirements cannot be resolved.
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
    // What the installer reports of a failure is told with the failure.
    let report = ["error: ", "  cause: ", "hint: "];
    let log = LogSink::new(move |line| {
        if !report.iter().any(|start| line.starts_with(start)) {
            output::note(line);
        }
    });
    let checked = check_package(dir, args.image.as_deref(), &args.data, &log).await?;
    if args.json {
        output::data(serde_json::to_string(&checked.findings).unwrap_or_default());
    } else {
        checked.findings.iter().for_each(show);
        output::note_prose(summary(&checked), 2);
    }
    if let Requirements::Refused(error) = checked.requirements {
        return Err(error);
    }
    let count = counted(&checked.findings, Level::Error);
    if count.is_empty() {
        return Ok(());
    }
    let cause = format!("the package cannot work on {}: {count}", checked.image);
    Err(Error::new(Code::InvalidPackage, cause)
        .hint("Mend what is marked error above and run `luthier doctor` again."))
}

/// A finding: what it is, what to add or choose, and what to do.
fn show(finding: &Finding) {
    output::prose(format!("{}: {finding}", word(finding.level)), 2);
    if let Some(line) = &finding.requirement {
        output::prose(format!("    add to requirements.txt: {line}"), 6);
    }
    if let Some(image) = &finding.image {
        output::prose(format!("    choose the image: {image}"), 6);
    }
    if let Some(hint) = finding.further() {
        let stop = if hint.ends_with('.') { "" } else { "." };
        output::prose(format!("    {hint}{stop}"), 4);
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    }
}

/// `2 warnings`, or nothing when there is none.
fn counted(findings: &[Finding], level: Level) -> String {
    match findings.iter().filter(|f| f.level == level).count() {
        0 => String::new(),
        1 => format!("1 {}", word(level)),
        count => format!("{count} {}s", word(level)),
    }
}

fn summary(checked: &Checked) -> String {
    let mut counts = [Level::Error, Level::Warning, Level::Note]
        .map(|level| counted(&checked.findings, level))
        .to_vec();
    counts.retain(|count| !count.is_empty());
    let found = match counts.as_slice() {
        [] => "nothing wrong was found".to_owned(),
        counts => counts.join(", "),
    };
    let how = match checked.requirements {
        Requirements::Resolved => "",
        Requirements::Named | Requirements::Refused(_) => {
            "; the requirements were compared by their names only"
        }
    };
    let more = match checked.requirements {
        Requirements::Named => ": they are resolved where --data names a server's directory",
        _ => "",
    };
    format!("checked for {}: {found}{how}{more}", checked.image)
}
