//! Facts about libraries, as data: which modules a distribution brings (`data/modules.txt`), for
//! which Pythons its releases have wheels (`data/wheels.txt`), and the standard library.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use crate::version::at_least;

/// Modules of Python's own in every version served, and those that came or went.
const STANDARD: &str = include_str!("../data/standard-library.txt");
const MODULES: &str = include_str!("../data/modules.txt");
const WHEELS: &str = include_str!("../data/wheels.txt");

/// Top-level names that distributions share: that one of them is there says nothing of the others.
const NAMESPACES: &[&str] = &[
    "azure",
    "backports",
    "databricks",
    "google",
    "jaraco",
    "nvidia",
    "opentelemetry",
    "ruamel",
    "snowflake",
    "sphinxcontrib",
    "zope",
];

static TABLE: LazyLock<Table> = LazyLock::new(Table::read);

struct Table {
    /// Distributions as they write their names, by module; the one to suggest first.
    by_module: BTreeMap<String, Vec<&'static str>>,
    /// Normalised names of the distributions whose modules are known.
    known: BTreeSet<String>,
}

impl Table {
    fn read() -> Self {
        let mut table = Self {
            by_module: BTreeMap::new(),
            known: BTreeSet::new(),
        };
        for line in lines(MODULES) {
            let (name, modules) = line.split_once(':').unwrap_or((line, ""));
            table.known.insert(normalise(name));
            let mut add = |module: String| {
                table.by_module.entry(module).or_default().push(name);
            };
            if modules.is_empty() {
                add(name.replace(['-', '.'], "_"));
            }
            modules.split_whitespace().for_each(|m| add(m.to_owned()));
        }
        table
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A distribution's name as PEP 503 has it.
pub(crate) fn normalise(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.trim().chars() {
        if "-_.".contains(c) {
            if !normal.ends_with('-') {
                normal.push('-');
            }
        } else {
            normal.extend(c.to_lowercase());
        }
    }
    normal
}

/// The distributions that bring `module` (dotted or not), the one to suggest first; none when it is
/// not known.
pub(crate) fn distributions(module: &str) -> &'static [&'static str] {
    let mut name = module;
    loop {
        if let Some(found) = TABLE.by_module.get(name) {
            return found;
        }
        match name.rsplit_once('.') {
            Some((parent, _)) => name = parent,
            None => return &[],
        }
    }
}

/// Whether all modules of a distribution, by its normalised name, are known.
pub(crate) fn is_known(distribution: &str) -> bool {
    TABLE.known.contains(distribution)
}

/// Whether several distributions share the top-level name of `module`.
pub(crate) fn is_shared(module: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    NAMESPACES.contains(&top)
}

/// Whether `module` is in the standard library of a Python, for example `3.9`.
pub(crate) fn is_standard(module: &str, python: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    // Private ones are made of C, and differ from build to build.
    if top.starts_with('_') && top != "__main__" {
        return true;
    }
    let minor = minor(python);
    lines(STANDARD).any(|line| {
        let mut words = line.split_whitespace();
        let name = words.next();
        let mut bound = |missing| words.next().and_then(|w| w.parse().ok()).unwrap_or(missing);
        name == Some(top) && bound(0) <= minor && minor <= bound(u32::MAX)
    })
}

/// The last minor version of Python that had `module`, when a later one has it no more.
pub(crate) fn removed_after(module: &str) -> Option<u32> {
    let top = module.split('.').next().unwrap_or(module);
    lines(STANDARD).find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(top)).then(|| words.nth(1)?.parse().ok())?
    })
}

/// The minor version in `3.9`; 0 when there is none.
pub(crate) fn minor(python: &str) -> u32 {
    python
        .split('.')
        .nth(1)
        .and_then(|m| m.parse().ok())
        .unwrap_or(0)
}

/// The oldest and newest minor version of Python 3 for which a release of a library has wheels;
/// `None` when it is not known.
pub(crate) fn wheels(library: &str, version: &str) -> Option<(u32, u32)> {
    let library = normalise(library);
    lines(WHEELS).find_map(|line| {
        let [name, from, until, oldest, newest] =
            <[&str; 5]>::try_from(line.split_whitespace().collect::<Vec<_>>()).ok()?;
        let holds = name == library
            && at_least(version, from)
            && (until == "-" || !at_least(version, until));
        holds.then(|| Some((oldest.parse().ok()?, newest.parse().ok()?)))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_lead_to_distributions() {
        assert_eq!(distributions("sklearn.svm"), ["scikit-learn"]);
        assert_eq!(distributions("cv2")[0], "opencv-python-headless");
        assert_eq!(distributions("google.protobuf.message"), ["protobuf"]);
        assert!(distributions("google.unheard.of").is_empty());
        assert!(distributions("of_our_own").is_empty());
        assert!(is_known("scikit-learn") && is_known("zope-interface") && !is_known("acme"));
    }

    #[test]
    fn the_standard_library_depends_on_the_python() {
        for (module, python, expected) in [
            ("os.path", "3.9", true),
            ("tomllib", "3.10", false),
            ("tomllib", "3.11", true),
            ("distutils.util", "3.11", true),
            ("distutils.util", "3.12", false),
            ("imp", "3.12", false),
            ("cgi", "3.12", true),
            ("cgi", "3.13", false),
            ("__main__", "3.9", true),
            ("_pickle", "3.9", true),
            ("numpy", "3.9", false),
        ] {
            assert_eq!(is_standard(module, python), expected, "{module} {python}");
        }
        assert_eq!(removed_after("distutils"), Some(11));
        assert_eq!(removed_after("os"), None);
    }

    #[test]
    fn releases_have_their_pythons() {
        assert_eq!(wheels("scikit-learn", "1.0.2"), Some((7, 10)));
        assert_eq!(wheels("scikit_learn", "1.5.2"), Some((9, 13)));
        assert_eq!(wheels("numpy", "1.23.0"), Some((8, 10)));
        assert_eq!(wheels("numpy", "1.23.5"), Some((8, 11)));
        assert_eq!(wheels("scikit-learn", "9.0"), None);
        assert_eq!(wheels("unheard", "1.0"), None);
    }

    #[test]
    fn every_line_of_wheels_is_read() {
        for line in lines(WHEELS) {
            let words: Vec<_> = line.split_whitespace().collect();
            assert_eq!(words.len(), 5, "{line}");
            assert!(
                words[3..].iter().all(|w| w.parse::<u32>().is_ok()),
                "{line}"
            );
            assert!(wheels(words[0], words[1]).is_some(), "{line}");
        }
    }
}
