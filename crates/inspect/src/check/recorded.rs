//! Versions that model files were saved with, against those of the environment.

use std::collections::BTreeSet;

use super::Around;
use crate::{
    Finding, Inspection, Level,
    models::is_pickle,
    version::{Distance, at_least, distance},
};

/// Libraries whose newer releases read what older ones wrote in the library's own format.
const FORWARD: &[&str] = &[
    "catboost",
    "h2o",
    "keras",
    "lightgbm",
    "tensorflow",
    "xgboost",
];

pub(super) fn check(inspection: &Inspection, around: &Around<'_>, found: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for recorded in &inspection.recorded {
        let (library, version) = (recorded.library.as_str(), recorded.version.as_str());
        if !told.insert((&recorded.file, library, version)) {
            continue;
        }
        let finding = match present(library, version, around) {
            None => {
                let text = format!(
                    "was saved with {library} {version}, and the environment has no {library}"
                );
                let level = named(inspection, &recorded.file);
                let finding = Finding::new(level, "missing-library", text)
                    .hint("Add the line to requirements.txt");
                cure(finding, library, version, around)
            }
            // Named by an address, so that its version is not known.
            Some("") => continue,
            Some(present) => {
                let own_format = FORWARD.contains(&library) && !is_pickle(&recorded.file);
                let same_major = version.split('.').next() == present.split('.').next();
                let reads = own_format && at_least(present, version) && same_major;
                let level = match distance(version, present) {
                    Distance::Same => continue,
                    Distance::Patch => Level::Note,
                    Distance::Minor if reads => Level::Note,
                    Distance::Minor => Level::Warning,
                };
                let text = format!(
                    "was saved with {library} {version}, and the environment has {present}"
                );
                let finding = Finding::new(level, "version-differs", text).hint(
                    "Pin the version it was saved with, or save the model again with the other",
                );
                cure(finding, library, version, around)
            }
        };
        found.push(finding.at(&recorded.file, None));
    }
}

/// The version of the library in the environment, by whichever distribution brings it.
fn present<'a>(library: &str, version: &str, around: &Around<'a>) -> Option<&'a str> {
    let libraries = &around.libraries;
    let found = libraries
        .version(library)
        .or_else(|| libraries.bringing(library).map(|(_, v)| v));
    // Keras 2 comes with TensorFlow, and their versions go together.
    match found {
        None if library == "keras" && !at_least(version, "3") => {
            libraries.bringing("tensorflow").map(|(_, v)| v)
        }
        found => found,
    }
}

/// The line that brings the version a file was saved with.
fn cure(finding: Finding, library: &str, version: &str, around: &Around<'_>) -> Finding {
    let with_tensorflow = library == "keras" && at_least(version, "2.5") && !at_least(version, "3");
    let library = if with_tensorflow {
        "tensorflow"
    } else {
        library
    };
    around.with_version(finding, library, version)
}

/// An error for a file that the code names; one that it does not may not be meant to be loaded.
fn named(inspection: &Inspection, file: &str) -> Level {
    if inspection.unnamed.contains(file) {
        Level::Warning
    } else {
        Level::Error
    }
}
