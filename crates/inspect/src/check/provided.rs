//! Whether an environment brings a module, as far as the names of its distributions tell.

use std::collections::BTreeMap;

use crate::tables::{distributions, is_known, is_shared, normalise};

/// Words in the names of distributions that say nothing of their modules.
const COMMON: &[&str] = &[
    "python", "py", "py3", "lib", "sdk", "client", "core", "utils",
];

/// Whether a module is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provided {
    /// It is.
    Yes,
    /// A distribution whose modules are not known has a name that is like it.
    Likely,
    /// There are distributions whose modules are not known.
    Unknown,
    /// It is not.
    No,
}

/// The libraries of an environment.
pub(super) struct Libraries<'a> {
    packages: &'a BTreeMap<String, String>,
    /// Those whose modules are not known.
    unknown: Vec<&'a str>,
}

impl<'a> Libraries<'a> {
    pub(super) fn new(packages: &'a BTreeMap<String, String>) -> Self {
        let unknown = packages.keys().map(String::as_str).filter(|p| !is_known(p));
        Self {
            packages,
            unknown: unknown.collect(),
        }
    }

    /// The version of a distribution, by any spelling of its name; empty when it is there and its
    /// version is not known.
    pub(super) fn version(&self, distribution: &str) -> Option<&'a str> {
        self.packages
            .get(&normalise(distribution))
            .map(String::as_str)
    }

    /// The distribution that brings `module`, with its version.
    pub(super) fn bringing(&self, module: &str) -> Option<(&'static str, &'a str)> {
        distributions(module)
            .iter()
            .find_map(|d| self.version(d).map(|v| (*d, v)))
    }

    /// Whether `module` (dotted or not) is there.
    pub(super) fn provide(&self, module: &str) -> Provided {
        let top = module.split('.').next().unwrap_or(module);
        if self.bringing(module).is_some() {
            return Provided::Yes;
        }
        let brought = distributions(module);
        let shared = is_shared(module);
        if brought.is_empty() && self.packages.contains_key(&normalise(top)) {
            return Provided::Yes;
        }
        // A module inside a known library's namespace that is not known by itself.
        if shared && brought.is_empty() {
            return Provided::Likely;
        }
        if self.unknown.iter().any(|d| alike(d, top)) {
            return Provided::Likely;
        }
        if brought.is_empty() && !self.unknown.is_empty() {
            return Provided::Unknown;
        }
        Provided::No
    }
}

/// Whether a distribution's name has a word of a module's, or the other way round.
fn alike(distribution: &str, module: &str) -> bool {
    let module = normalise(module);
    let words = |name: &str| -> Vec<String> {
        name.split('-')
            .filter(|w| w.len() > 2 && !COMMON.contains(w))
            .map(str::to_owned)
            .collect()
    };
    let (ours, theirs) = (words(&module), words(distribution));
    let joined = |name: &str| name.replace('-', "");
    ours.iter().any(|w| theirs.contains(w))
        || joined(distribution).contains(&joined(&module))
        || joined(&module).contains(&joined(distribution))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_denied() {
        let packages: BTreeMap<_, _> = ["numpy", "tensorflow-cpu", "acme-models", "my-own"]
            .map(|n| (n.to_owned(), "1.0".to_owned()))
            .into();
        let libraries = Libraries::new(&packages);
        for (module, expected) in [
            ("numpy.linalg", Provided::Yes),
            ("tensorflow.keras", Provided::Yes),
            ("my_own", Provided::Yes),
            ("acme", Provided::Likely),
            ("acme_scoring", Provided::Likely),
            ("google.unheard", Provided::Likely),
            ("unheard", Provided::Unknown),
            ("sklearn", Provided::No),
        ] {
            assert_eq!(libraries.provide(module), expected, "{module}");
        }
        let packages = [("numpy".to_owned(), "1.0".to_owned())].into();
        assert_eq!(Libraries::new(&packages).provide("unheard"), Provided::No);
        assert_eq!(
            libraries.bringing("tensorflow").map(|b| b.0),
            Some("tensorflow-cpu")
        );
    }
}
