//! What is in an environment as a CycloneDX 1.6 document.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
};

use jiff::Timestamp;
use luthier_ports::normalised;
use luthier_types::{Digest, EnvId};
use serde_json::{Value, json};

use crate::{
    installed::{self, Distribution},
    store,
};

/// Ways in which authors write licences that have an SPDX id, lower case.
const LICENCES: &[(&str, &str)] = &[
    ("mit", "MIT"),
    ("mit license", "MIT"),
    ("apache-2.0", "Apache-2.0"),
    ("apache 2.0", "Apache-2.0"),
    ("apache license 2.0", "Apache-2.0"),
    ("apache license, version 2.0", "Apache-2.0"),
    ("apache software license", "Apache-2.0"),
    ("apache software license 2.0", "Apache-2.0"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd 3-clause license", "BSD-3-Clause"),
    ("isc", "ISC"),
    ("isc license (iscl)", "ISC"),
    ("mpl-2.0", "MPL-2.0"),
    ("mozilla public license 2.0 (mpl 2.0)", "MPL-2.0"),
    ("psf-2.0", "PSF-2.0"),
    ("python software foundation license", "PSF-2.0"),
    ("zpl-2.1", "ZPL-2.1"),
    ("zpl 2.1", "ZPL-2.1"),
];
/// Longest text taken for a licence's name; longer ones are the licence itself.
const LICENCE_NAME: usize = 100;

/// The fields of a distribution's metadata, the description left out.
struct Metadata(Vec<(String, String)>);

impl Metadata {
    fn parse(text: &str) -> Self {
        let mut fields: Vec<(String, String)> = vec![];
        for line in text.lines().take_while(|line| !line.is_empty()) {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        Self(fields)
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let fields = self.0.iter().filter(move |(field, _)| field == name);
        fields.map(|(_, value)| value.as_str())
    }

    fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// The licences, as CycloneDX writes them; empty when none is told.
    fn licences(&self) -> Vec<Value> {
        if let Some(expression) = self.get("license-expression") {
            return vec![json!({"expression": expression})];
        }
        let short = self
            .get("license")
            .filter(|text| text.len() <= LICENCE_NAME && !text.contains('\n'))
            .filter(|text| !text.eq_ignore_ascii_case("unknown"));
        let names: BTreeSet<&str> = match short {
            Some(name) => [name].into(),
            None => self
                .all("classifier")
                .filter_map(|c| c.strip_prefix("License ::")?.rsplit(" :: ").next())
                .map(str::trim)
                .filter(|name| *name != "OSI Approved")
                .collect(),
        };
        let licence = |name: &str| {
            let lower = name.to_lowercase();
            match LICENCES.iter().find(|(written, _)| *written == lower) {
                Some((_, id)) => json!({"license": {"id": id}}),
                None => json!({"license": {"name": name}}),
            }
        };
        names.into_iter().map(licence).collect()
    }

    /// Names of what it needs, those of extras left out.
    fn needs(&self) -> BTreeSet<String> {
        self.all("requires-dist")
            .filter(|line| {
                let marker = line.split_once(';').map_or("", |(_, marker)| marker);
                !marker.contains("extra")
            })
            .filter_map(|line| {
                let end = line
                    .find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
                    .unwrap_or(line.len());
                (end > 0).then(|| normalised(&line[..end]))
            })
            .collect()
    }

    /// Where it has a page.
    fn page(&self) -> Option<&str> {
        let homepage = |line: &str| {
            line.split_once(',')
                .is_some_and(|(label, _)| label.trim().eq_ignore_ascii_case("homepage"))
        };
        let listed = self.all("project-url").find(|line| homepage(line));
        self.get("home-page")
            .or_else(|| Some(listed?.split_once(',')?.1.trim()))
            .filter(|page| page.starts_with("https://") || page.starts_with("http://"))
            .filter(|page| !page.contains(|c: char| c.is_whitespace() || "<>\"{}|\\^`".contains(c)))
    }
}

/// The document of the environment `id` at `tree`. It depends on nothing but the environment.
pub(crate) fn document(tree: &Path, id: &EnvId, built: Timestamp) -> io::Result<Value> {
    let lock = fs_err::read_to_string(tree.join(store::LOCK))?;
    let hashes = single_hashes(&lock);
    let mut components = vec![];
    let mut needs = BTreeMap::new();
    let mut references = BTreeMap::new();
    for distribution in installed::distributions(tree)? {
        let path = tree.join(&distribution.info).join("METADATA");
        let text = String::from_utf8_lossy(&fs_err::read(path)?).into_owned();
        let metadata = Metadata::parse(&text);
        let name = normalised(metadata.get("name").unwrap_or(&distribution.name));
        let component = component(&distribution, &metadata, &name, hashes.get(&name));
        references.insert(name.clone(), component["bom-ref"].clone());
        needs.insert(name, metadata.needs());
        components.push(component);
    }
    let depends = |needed: &BTreeSet<String>| -> Vec<&Value> {
        needed.iter().filter_map(|n| references.get(n)).collect()
    };
    let root = format!("luthier:env:{id}");
    let mut dependencies = vec![json!({
        "ref": root,
        "dependsOn": references.values().collect::<Vec<_>>(),
    })];
    for (name, reference) in &references {
        dependencies.push(json!({"ref": reference, "dependsOn": depends(&needs[name])}));
    }
    Ok(json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial(&id.0),
        "version": 1,
        "metadata": {
            "timestamp": built.to_string(),
            "tools": {"components": [{
                "type": "application",
                "name": "luthier",
                "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": {
                "type": "platform",
                "bom-ref": root,
                "name": "python-environment",
                "version": id.0.short(),
                "properties": [
                    {"name": "luthier:environment", "value": id.0.as_str()},
                    {"name": "luthier:python", "value": store::python(tree)?},
                ],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn component(
    distribution: &Distribution,
    metadata: &Metadata,
    name: &str,
    hash: Option<&Digest>,
) -> Value {
    let version = metadata.get("version").unwrap_or(&distribution.version);
    // Versions may hold `+` and `!`, which an address writes as escapes.
    let escaped = version.replace('+', "%2B").replace('!', "%21");
    let purl = format!("pkg:pypi/{name}@{escaped}");
    let mut component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": metadata.get("name").unwrap_or(&distribution.name),
        "version": version,
        "purl": purl,
        "scope": "required",
        // What is installed, file by file, in one figure.
        "properties": [{
            "name": "luthier:record-sha256",
            "value": distribution.record().as_str(),
        }],
    });
    if let Some(summary) = metadata.get("summary") {
        component["description"] = summary.into();
    }
    if let Some(hash) = hash {
        component["hashes"] = json!([{"alg": "SHA-256", "content": hash.as_str()}]);
    }
    let licences = metadata.licences();
    if !licences.is_empty() {
        component["licenses"] = licences.into();
    }
    if let Some(page) = metadata.page() {
        component["externalReferences"] = json!([{"type": "website", "url": page}]);
    }
    component
}

/// The hash of each distribution that the lock allows a single file for; of the others the lock
/// does not say which file was installed.
fn single_hashes(lock: &str) -> BTreeMap<String, Digest> {
    let mut hashes: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
    let mut name = String::new();
    for line in lock.lines() {
        if !line.starts_with([' ', '#', '-']) {
            let end = line
                .find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
                .unwrap_or(line.len());
            name = normalised(&line[..end]);
        }
        let found = line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--hash=sha256:")?.parse().ok());
        hashes.entry(name.clone()).or_default().extend(found);
    }
    hashes
        .into_iter()
        .filter_map(|(name, hashes)| {
            let [hash] = hashes.try_into().ok()?;
            Some((name, hash))
        })
        .collect()
}

/// A serial number of the same digits every time.
fn serial(digest: &Digest) -> String {
    let hex = digest.as_str();
    format!(
        // Version 8 of RFC 9562: digits of one's own making.
        "urn:uuid:{}-{}-8{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

#[cfg(test)]
mod tests;
