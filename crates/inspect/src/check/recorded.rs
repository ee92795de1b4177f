//! Versions that model files were saved with, against those of the environment.

use std::collections::BTreeSet;

use super::Around;
use crate::{
    Finding, Inspection, Level,
    version::{Distance, distance},
};

pub(super) fn check(inspection: &Inspection, around: &Around<'_>, found: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for recorded in &inspection.recorded {
        let (library, version) = (recorded.library.as_str(), recorded.version.as_str());
        if !told.insert((&recorded.file, library)) {
            continue;
        }
        let saved = format!("{library} {version}");
        let finding = match around.libraries.version(library) {
            None => {
                let text = format!("was saved with {saved}, and the environment has no {library}");
                let finding = Finding::new(Level::Error, "missing-library", text)
                    .hint("Add the line to requirements.txt");
                around.with_version(finding, library, version)
            }
            // Named by an address, so that its version is not known.
            Some("") => continue,
            Some(present) => {
                let level = match distance(version, present) {
                    Distance::Same => continue,
                    Distance::Patch => Level::Note,
                    Distance::Minor => Level::Warning,
                };
                let text = format!("was saved with {saved}, and the environment has {present}");
                let finding = Finding::new(level, "version-differs", text).hint(
                    "Pin the version it was saved with, or save the model again with the other",
                );
                around.with_version(finding, library, version)
            }
        };
        found.push(finding.at(&recorded.file, None));
    }
}
