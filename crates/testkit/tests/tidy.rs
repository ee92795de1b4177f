//! The shape of the workspace: arrows between crates point down, files stay small, every file says
//! what it is, and every error code has its page.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Which crates of ours each crate may use outside its tests. `app` and `controllers` never see each
/// other; adapters see `ports`, never each other; `types` and `explain` see no adapter.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("host", &["types", "ports"]),
    ("ports", &["types"]),
    ("explain", &["types"]),
    ("data", &["types"]),
    ("inspect", &["types"]),
    ("runner", &["types"]),
    ("images", &["types", "ports", "host"]),
    ("pyenv", &["types", "ports", "host"]),
    ("runtime-oci", &["types", "ports", "host"]),
    ("gateway", &["types", "ports", "data"]),
    ("store", &["types", "ports"]),
    ("jobs", &["types", "store"]),
    (
        "controllers",
        &["types", "ports", "store", "gateway", "data", "explain"],
    ),
    (
        "app",
        &[
            "types", "ports", "store", "jobs", "gateway", "data", "explain", "inspect",
        ],
    ),
    (
        "server",
        &[
            "types",
            "ports",
            "store",
            "jobs",
            "gateway",
            "data",
            "controllers",
            "app",
            "images",
            "inspect",
            "pyenv",
            "runtime-oci",
            "host",
        ],
    ),
    (
        "testkit",
        &["types", "ports", "store", "jobs", "gateway", "data", "app"],
    ),
    (
        "luthier",
        &["types", "data", "server", "runtime-oci", "inspect"],
    ),
];

const SOFT_LINES: usize = 400;
const HARD_LINES: usize = 600;
/// Files allowed past the soft limit; a new one asks to be split.
const SOFT_EXCEPTIONS: usize = 6;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn crates() -> Vec<PathBuf> {
    let mut dirs: Vec<_> = fs::read_dir(root().join("crates"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .collect();
    dirs.sort();
    dirs
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_rust_files() -> Vec<PathBuf> {
    let mut files = vec![];
    for dir in crates() {
        rust_files(&dir, &mut files);
    }
    assert!(files.len() > 50, "the walk found the sources");
    files.sort();
    files
}

/// Names of our crates in the `[dependencies]` table of a manifest.
fn arrows_of(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && let Some(rest) = line.strip_prefix("luthier-") {
            found.insert(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '-')
                    .collect(),
            );
        }
    }
    found
}

#[test]
fn arrows_point_down() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for dir in crates() {
        let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let name = manifest
            .lines()
            .find_map(|l| l.strip_prefix("name = "))
            .unwrap();
        let name = name.trim_matches('"');
        let name = name.strip_prefix("luthier-").unwrap_or(name);
        let may = allowed
            .get(name)
            .unwrap_or_else(|| panic!("{name} is not in the table of arrows"));
        for used in arrows_of(&manifest) {
            assert!(may.contains(&used.as_str()), "{name} may not use {used}");
        }
    }
}

#[test]
fn the_table_of_arrows_has_no_cycle() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    fn depth(name: &str, allowed: &BTreeMap<&str, &[&str]>, path: &mut Vec<String>) {
        assert!(!path.iter().any(|p| p == name), "cycle: {path:?} -> {name}");
        path.push(name.to_owned());
        for next in allowed[name] {
            depth(next, allowed, path);
        }
        path.pop();
    }
    for (name, _) in ARROWS {
        depth(name, &allowed, &mut vec![]);
    }
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "tests")
        || path.file_name().is_some_and(|n| n == "tests.rs")
}

#[test]
fn files_are_small() {
    let mut large = vec![];
    for path in all_rust_files().into_iter().filter(|p| !is_test_file(p)) {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .count();
        assert!(
            lines <= HARD_LINES,
            "{} has {lines} lines, more than {HARD_LINES}",
            path.display()
        );
        if lines > SOFT_LINES {
            large.push(format!("{}: {lines}", path.display()));
        }
    }
    assert!(
        large.len() <= SOFT_EXCEPTIONS,
        "more than {SOFT_EXCEPTIONS} files pass {SOFT_LINES} lines:\n{}",
        large.join("\n")
    );
}

#[test]
fn every_file_says_what_it_is() {
    for path in all_rust_files() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} does not begin with a module doc",
            path.display()
        );
    }
}

#[test]
fn every_error_code_has_its_page() {
    let dir = root().join("docs/errors");
    let mut pages: BTreeSet<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    for code in luthier_types::Code::ALL {
        assert!(
            pages.remove(&code.to_string()),
            "docs/errors/{code}.md is missing"
        );
    }
    assert!(pages.is_empty(), "pages of no code: {pages:?}");
}
