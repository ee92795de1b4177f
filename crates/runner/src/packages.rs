//! The libraries installed in the environment, read from the names of their metadata directories.
//!
//! Python's own `importlib.metadata` gives the same, but parses the metadata of every library,
//! which costs time and memory in every replica.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Versions by normalised name (PEP 503), of everything found on Python's `path`. The first
/// directory that has a library decides, as it does for an import.
pub(crate) fn installed(path: &[String]) -> Map<String, Value> {
    let mut found = BTreeMap::new();
    for directory in path {
        let Ok(entries) = fs_err::read_dir(directory) else {
            continue;
        };
        for entry in entries.flatten() {
            if let Some((name, version)) = entry.file_name().to_str().and_then(distribution) {
                found.entry(name).or_insert(version);
            }
        }
    }
    found
        .into_iter()
        .map(|(name, version)| (name, Value::String(version)))
        .collect()
}

/// `scikit_learn-1.0.2.dist-info` as `("scikit-learn", "1.0.2")`.
fn distribution(entry: &str) -> Option<(String, String)> {
    let stem = match entry.strip_suffix(".dist-info") {
        Some(stem) => stem,
        None => {
            let stem = entry.strip_suffix(".egg-info")?;
            // A legacy install may end in the interpreter's version.
            stem.rfind("-py").map_or(stem, |at| &stem[..at])
        }
    };
    let (name, version) = stem.split_once('-')?;
    Some((normalised(name), version.to_owned()))
}

fn normalised(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if !matches!(c, '-' | '_' | '.') {
            out.extend(c.to_lowercase());
        } else if !out.ends_with('-') {
            out.push('-');
        }
    }
    out
}
