//! The step that compares the package with the environment it is about to get: what cannot work is
//! said before anything is built.

use std::fmt::Write as _;

use luthier_inspect::{Environment, Finding, Level};
use luthier_jobs::StepContext;
use luthier_types::{Code, Error, Evidence, Result};
use serde::{Deserialize, Serialize};

use super::{image::alternatives, job::Unpacked, lock::Locked};
use crate::{App, spool::heavy};

/// Most findings that are kept: the worst, which come first.
const MAX_FINDINGS: usize = 100;
/// Most bytes of them in an error.
const MAX_BYTES: usize = 12 * 1024;

/// What `check` records.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) findings: Vec<Finding>,
}

impl App {
    /// The step `check`.
    pub(crate) async fn check_package(&self, ctx: &StepContext) -> Result<Checked> {
        let unpacked: Unpacked = ctx.need("unpack")?;
        let locked: Locked = ctx.need("lock")?;
        let info = locked.image.info.clone();
        let mut packages = locked.image.provided();
        packages.extend(locked.lock.versions());
        let environment = Environment {
            images: alternatives(&self.deps.images.list(), &info.uri),
            image: info.uri,
            python: info.python,
            packages,
        };
        let dir = self.deps.layout.package(&unpacked.package);
        let mut findings = heavy(move || {
            let inspection = luthier_inspect::inspect(&dir)?;
            Ok(luthier_inspect::check(&inspection, &environment))
        })
        .await?;
        for finding in findings.iter().take(MAX_FINDINGS) {
            ctx.logger().line(line(finding));
        }
        if findings.len() > MAX_FINDINGS {
            let more = findings.len() - MAX_FINDINGS;
            ctx.logger().line(format!("and {more} more findings"));
            findings.truncate(MAX_FINDINGS);
        }
        match failure(&findings) {
            Some(error) => Err(error),
            None => Ok(Checked { findings }),
        }
    }
}

/// The error of findings that cannot work; `None` when all are less.
fn failure(findings: &[Finding]) -> Option<Error> {
    let errors: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .collect();
    let first = errors.first()?;
    let message = match errors.len() {
        1 => first.to_string(),
        n => format!("the package cannot work in its environment, for {n} reasons; first: {first}"),
    };
    let error = Error::new(Code::InvalidPackage, message).hint(remedy(&errors));
    if findings.len() == 1 {
        return Some(error);
    }
    let mut all = String::new();
    for finding in findings {
        let line = line(finding);
        if all.len() + line.len() > MAX_BYTES {
            all.push_str("…\n");
            break;
        }
        let _ = writeln!(all, "{line}");
    }
    Some(error.evidence(Evidence::output(&all)))
}

/// What to do about all of them at once: the lines to add, the images to choose, and the rest.
fn remedy(errors: &[&Finding]) -> String {
    let mut lines: Vec<&str> = vec![];
    let mut images: Vec<&str> = vec![];
    let mut others: Vec<&str> = vec![];
    for finding in errors {
        for (list, item) in [
            (&mut lines, finding.requirement.as_deref()),
            (&mut images, finding.image.as_deref()),
            (&mut others, finding.further()),
        ] {
            list.extend(item.filter(|item| !list.contains(item)));
        }
    }
    let mut steps: Vec<String> = vec![];
    if !lines.is_empty() {
        let lines: Vec<String> = lines.iter().map(|line| format!("`{line}`")).collect();
        steps.push(format!("Add to requirements.txt: {}.", lines.join(", ")));
    }
    if let Some(image) = images.first() {
        steps.push(format!("Choose the image `{image}`."));
    }
    steps.extend(others.iter().map(|hint| {
        let stop = if hint.ends_with('.') { "" } else { "." };
        format!("{hint}{stop}")
    }));
    if steps.is_empty() {
        steps.push("Correct the package and deploy again.".to_owned());
    }
    steps.join(" ")
}

/// A finding as one line.
fn line(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "note",
    };
    let mut line = format!("{level}: {finding}");
    if let Some(requirement) = &finding.requirement {
        let _ = write!(line, "; add `{requirement}` to requirements.txt");
    }
    if let Some(image) = &finding.image {
        let _ = write!(line, "; choose the image {image}");
    }
    if let Some(hint) = finding.further() {
        let _ = write!(line, "; {hint}");
    }
    line
}

#[cfg(test)]
mod tests;
