//! Compares what a package says with an environment.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Environment, Finding, Inspection, Level, tables};

mod model;
mod modules;
mod pickles;
mod provided;
mod recorded;

use provided::Libraries;

/// Most findings that are told.
const MOST: usize = 200;

/// Compares an inspected package with an environment. The worst come first.
pub fn check(inspection: &Inspection, environment: &Environment) -> Vec<Finding> {
    let around = Around {
        environment,
        libraries: Libraries::new(&environment.packages),
        recorded: newest(inspection),
    };
    let mut found = vec![];
    model::check(inspection, &mut found);
    modules::check(inspection, &around, &mut found);
    pickles::check(inspection, &around, &mut found);
    recorded::check(inspection, &around, &mut found);
    // A library that a file says it was saved with is told once for that file.
    let told: BTreeSet<_> = found
        .iter()
        .filter(|f| f.kind == "missing-library")
        .map(|f| (f.file.clone(), f.requirement.clone()))
        .collect();
    found.retain(|f| {
        f.kind != "missing-module" || !told.contains(&(f.file.clone(), f.requirement.clone()))
    });
    found.sort_by(|a, b| {
        let key = |f: &Finding| (f.level, f.file.clone(), f.line, f.text.clone());
        key(a).cmp(&key(b))
    });
    found.dedup();
    found.truncate(MOST);
    found
}

/// What findings are made against.
struct Around<'a> {
    environment: &'a Environment,
    libraries: Libraries<'a>,
    /// The newest version of each library, by its normalised name, that a model file was saved with.
    recorded: BTreeMap<String, &'a str>,
}

impl Around<'_> {
    /// Adds to a finding the line for `requirements.txt` that brings `library`, in the version that
    /// model files were saved with, if they say; and the image on which that version has wheels.
    fn with_library(&self, finding: Finding, library: &str) -> Finding {
        match self.recorded.get(&tables::normalise(library)) {
            Some(version) => self.with_version(finding, library, version),
            None => finding.requirement(library),
        }
    }

    /// Adds to a finding the line that pins `library`, and the image on which it has wheels.
    fn with_version(&self, mut finding: Finding, library: &str, version: &str) -> Finding {
        finding = finding.requirement(match version.strip_suffix(".x") {
            Some(least) => format!("{library}>={least}"),
            None => format!("{library}=={version}"),
        });
        let Some((oldest, newest)) = tables::wheels(library, version) else {
            return finding;
        };
        let fits = |python: &str| (oldest..=newest).contains(&tables::minor(python));
        if fits(&self.environment.python) {
            return finding;
        }
        let why = format!(
            "{library} {version} has wheels for Python 3.{oldest} to 3.{newest}, and this image has {}",
            self.environment.python
        );
        let other = self
            .environment
            .images
            .iter()
            .find(|(_, python)| fits(python));
        match other {
            Some((image, _)) => {
                finding.image = Some(image.clone());
                finding.hint(format!("{why}; deploy on the image named here"))
            }
            None => finding.hint(format!(
                "{why}, as has every other image; save the model again with a newer {library}"
            )),
        }
    }
}

/// The newest of the versions each library is recorded with.
fn newest(inspection: &Inspection) -> BTreeMap<String, &str> {
    let mut found: BTreeMap<String, &str> = BTreeMap::new();
    for recorded in &inspection.recorded {
        let version = recorded.version.as_str();
        found
            .entry(tables::normalise(&recorded.library))
            .and_modify(|v| {
                if crate::version::at_least(version, v) {
                    *v = version;
                }
            })
            .or_insert(version);
    }
    // The versions of Keras 2 and of TensorFlow go together.
    if let Some(keras) = found.get("keras").copied()
        && crate::version::at_least(keras, "2.5")
        && !crate::version::at_least(keras, "3")
    {
        found.entry("tensorflow".to_owned()).or_insert(keras);
    }
    found
}

/// One level less certain: what would be an error is a warning.
const fn weaker(level: Level) -> Level {
    match level {
        Level::Error => Level::Warning,
        other => other,
    }
}

#[cfg(test)]
mod tests;
