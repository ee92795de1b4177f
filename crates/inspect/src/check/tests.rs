//! Tests of what is said of packages against environments.

use super::*;
use crate::{inspect, testing::package};

fn environment(python: &str, packages: &[(&str, &str)]) -> Environment {
    let pair = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    let images = [
        ("python-311:1", "3.11"),
        ("python-312:1", "3.12"),
        ("python-39:2", "3.9"),
    ];
    Environment {
        image: "here".to_owned(),
        python: python.to_owned(),
        packages: packages.iter().map(pair).collect(),
        images: images.iter().map(pair).collect(),
    }
}

/// The findings, one a line.
fn findings(files: &[(&str, &[u8])], environment: &Environment) -> String {
    let dir = package(files);
    let inspection = inspect(dir.path()).unwrap();
    let found = check(&inspection, environment);
    let line = |f: &Finding| {
        let add = f
            .requirement
            .as_ref()
            .map(|r| format!(" +{r}"))
            .unwrap_or_default();
        let image = f
            .image
            .as_ref()
            .map(|i| format!(" @{i}"))
            .unwrap_or_default();
        format!("{:?} {} {f}{add}{image}", f.level, f.kind)
    };
    found.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn of_source(text: &str, python: &str) -> String {
    let text = format!("{text}\ndef get_model(): pass\n");
    let env = environment(python, &[("numpy", "1.26.4"), ("setuptools", "75.1.0")]);
    findings(&[("package.py", text.as_bytes())], &env)
}

#[test]
fn missing_modules_are_named_with_what_brings_them() {
    insta::assert_snapshot!(of_source("import os, numpy as np\nimport sklearn.svm\nfrom sklearn import tree\nimport cv2", "3.11"), @r"
    Error missing-module package.py:2 imports sklearn, which is not in the environment +scikit-learn
    Error missing-module package.py:4 imports cv2, which is not in the environment +opencv-python-headless
    ");
    insta::assert_snapshot!(of_source("def f():\n  import yaml\nimport in_house.x", "3.11"), @r"
    Error missing-module package.py:3 imports in_house, which is not in the environment
    Warning missing-module package.py:2 may import yaml, which is not in the environment +PyYAML
    ");
    insta::assert_snapshot!(of_source("try:\n  import ujson as json\nexcept ImportError:\n  import json\nif TYPE_CHECKING:\n  import pandas", "3.11"), @"Note missing-module package.py:2 can use ujson, which is not in the environment, and does without +ujson");
    insta::assert_snapshot!(of_source("import distutils.util, cgi, imp, tomllib, _thread", "3.13"), @r"
    Error missing-module package.py:1 imports cgi, which Python 3.13 no longer has; Python 3.12 was the last with it @python-311:1
    Error missing-module package.py:1 imports imp, which Python 3.13 no longer has; Python 3.11 was the last with it @python-311:1
    ");
    insta::assert_snapshot!(of_source("import tomllib", "3.9"), @"Error missing-module package.py:1 imports tomllib, which Python 3.9 does not have yet @python-311:1");
}

#[test]
fn what_the_package_itself_lacks_is_named() {
    let env = environment("3.11", &[("numpy", "1.26.4")]);
    let found = findings(
        &[
            ("package.py", b"from .gone import x\nfrom sub import lost\nimport sub.away\nfrom helper import nothing\ndef get_model(): pass\n"),
            ("sub/__init__.py", b""),
            ("helper.py", b""),
            ("train.py", b"import matplotlib\n"),
            ("numpy/notes.py", b"")
        ],
        &env,
    );
    insta::assert_snapshot!(found, @r"
    Error missing-own-module package.py:1 imports .gone, and the package has no gone.py
    Error missing-name package.py:2 imports lost, which sub/__init__.py does not define
    Error missing-own-module package.py:3 imports sub.away, and the package has no sub/away.py
    Error missing-name package.py:4 imports nothing, which helper.py does not define
    ");
}

#[test]
fn versions_of_model_files_are_compared() {
    let pickle = b"(dp0\nV_sklearn_version\np1\nV1.0.2\np2\ns.";
    let files: [(&str, &[u8]); 2] = [
        ("package.py", b"def get_model(): open('m.pkl')"),
        ("m.pkl", pickle),
    ];
    insta::assert_snapshot!(findings(&files, &environment("3.11", &[("scikit-learn", "1.3.2")])), @"Warning version-differs m.pkl was saved with scikit-learn 1.0.2, and the environment has 1.3.2 +scikit-learn==1.0.2 @python-39:2");
    insta::assert_snapshot!(findings(&files, &environment("3.9", &[("scikit-learn", "1.0.1")])), @"Note version-differs m.pkl was saved with scikit-learn 1.0.2, and the environment has 1.0.1 +scikit-learn==1.0.2");
    insta::assert_snapshot!(findings(&files, &environment("3.9", &[("scikit-learn", "1.0.2")])), @"");
    insta::assert_snapshot!(findings(&files, &environment("3.9", &[])), @"Error missing-library m.pkl was saved with scikit-learn 1.0.2, and the environment has no scikit-learn +scikit-learn==1.0.2");
}
