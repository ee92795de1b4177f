//! Packages as people make them, half of them broken in a known way: of the good half nothing but
//! notes may be said, and of the broken half each fault must be named with its place and its cure.
//!
//! Each directory of `corpus/` has `case.toml` beside its `package`: the environment it would run in
//! (one of `environments/`, as `pip freeze` prints it, with changes) and, of the broken, what must be
//! found. The model files are made by the libraries themselves: see `corpus/make.py`.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use luthier_inspect::{Environment, Finding, Level, check, inspect};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    environment: String,
    python: String,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    with: BTreeMap<String, String>,
    /// `level kind place +requirement @image` of each finding that is no note.
    #[serde(default)]
    expected: Vec<String>,
    /// `file library version` of everything recorded.
    recorded: Option<Vec<String>>,
    /// `file module.name` of what pickles need, among others.
    #[serde(default)]
    needs: Vec<String>,
}

const IMAGES: &[(&str, &str)] = &[
    ("python-311", "3.11"),
    ("python-313", "3.13"),
    ("python-312", "3.12"),
    ("python-310", "3.10"),
    ("python-39", "3.9"),
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn cases(half: &str) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = std::fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.toml").is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .filter(|(name, _)| name.starts_with(half))
        .collect();
    found.sort();
    found
}

fn read(path: &Path) -> Case {
    toml::from_str(&std::fs::read_to_string(path.join("case.toml")).unwrap()).unwrap()
}

fn environment(case: &Case) -> Environment {
    let file = corpus()
        .join("environments")
        .join(format!("{}.txt", case.environment));
    let mut packages: BTreeMap<String, String> = std::fs::read_to_string(file)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once("=="))
        .map(|(name, version)| {
            (
                name.to_lowercase().replace(['_', '.'], "-"),
                version.to_owned(),
            )
        })
        .collect();
    for name in &case.without {
        assert!(
            packages.remove(name).is_some(),
            "{name} is not there anyway"
        );
    }
    packages.extend(case.with.clone());
    let pair = |(uri, python): &(&str, &str)| ((*uri).to_owned(), (*python).to_owned());
    Environment {
        image: "this".to_owned(),
        python: case.python.clone(),
        packages,
        images: IMAGES.iter().map(pair).collect(),
    }
}

fn findings(path: &Path, case: &Case) -> Vec<Finding> {
    let dir = path.join("package");
    match inspect(&dir) {
        Ok(inspection) => check(&inspection, &environment(case)),
        Err(error) => panic!("{}: {}", path.display(), error.public_text()),
    }
}

fn short(finding: &Finding) -> String {
    let mut text = format!("{:?} {}", finding.level, finding.kind).to_lowercase();
    text.extend(finding.file.iter().map(|f| format!(" {f}")));
    text.extend(finding.line.iter().map(|l| format!(":{l}")));
    text.extend(finding.requirement.iter().map(|r| format!(" +{r}")));
    text.extend(finding.image.iter().map(|i| format!(" @{i}")));
    text
}

#[test]
fn nothing_is_wrong_with_the_good_half() {
    let cases = cases("good-");
    assert!(cases.len() >= 10, "{} cases", cases.len());
    for (name, path) in cases {
        let case = read(&path);
        assert!(case.expected.is_empty());
        let inspection = inspect(&path.join("package")).unwrap();
        let recorded: Vec<String> = inspection
            .recorded
            .iter()
            .map(|r| format!("{} {} {}", r.file, r.library, r.version))
            .collect();
        if let Some(expected) = &case.recorded {
            assert_eq!(&recorded, expected, "{name}");
        } else {
            assert!(recorded.is_empty(), "{name}: {recorded:?}");
        }
        for model in &inspection.models {
            assert_eq!(model.damage, None, "{name}: {}", model.file);
        }
        let needed = |need: &String| {
            inspection.models.iter().any(|model| {
                let mut needs = model.globals.iter();
                needs.any(|(m, n)| *need == format!("{} {m}.{n}", model.file))
            })
        };
        for need in &case.needs {
            assert!(needed(need), "{name}: {need}");
        }
        let wrong: Vec<_> = findings(&path, &case)
            .iter()
            .filter(|f| f.level != Level::Note)
            .map(|f| format!("{} | {f}", short(f)))
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

#[test]
fn every_fault_of_the_broken_half_is_named() {
    let cases = cases("broken-");
    assert!(cases.len() >= 10, "{} cases", cases.len());
    let mut failed = vec![];
    for (name, path) in cases {
        let case = read(&path);
        let found = findings(&path, &case);
        for finding in &found {
            assert!(finding.hint.is_some(), "{name}: {finding} has no hint");
        }
        let shown: Vec<_> = found
            .iter()
            .filter(|f| f.level != Level::Note)
            .map(short)
            .collect();
        if shown != case.expected || shown.is_empty() {
            failed.push(format!(
                "{name}\n  {shown:?}\n  {:?}",
                found.iter().map(ToString::to_string).collect::<Vec<_>>()
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
