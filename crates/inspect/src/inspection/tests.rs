//! Tests of inspecting packages.

use super::*;
use crate::testing::package;

fn failure(files: &[(&str, &str)]) -> String {
    let error = inspect(package(files).path()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidPackage);
    error.public_text()
}

const GOOD: &str = "import sklearn, helper\nfrom sub.x import y\ndef get_model(): pass\n";

#[test]
fn a_package_tells_what_it_needs() {
    let dir = package(&[
        ("package.py", GOOD),
        ("helper.py", "import numpy\n"),
        ("sub/x.py", "import pandas\nimport package\n"),
        ("requirements.txt", "numpy==1.23.0\n"),
        ("data/m.pkl", "(dp0\nV_sklearn_version\np1\nV1.0.2\np2\ns."),
        ("notes.txt", "import nothing"),
    ]);
    let found = inspect(dir.path()).unwrap();
    assert_eq!(
        found.imports.into_iter().collect::<Vec<_>>(),
        ["numpy", "pandas", "sklearn"]
    );
    assert_eq!(found.requirements.main(), Some("numpy==1.23.0\n"));
    let recorded = Recorded {
        file: "data/m.pkl".to_owned(),
        library: "scikit-learn".to_owned(),
        version: "1.0.2".to_owned(),
    };
    assert_eq!(found.recorded, [recorded]);
}

#[test]
fn what_is_no_package_is_explained() {
    insta::assert_snapshot!(failure(&[("model.py", "")]), @"there is no package.py at the top of the package. Add package.py, which defines get_model() returning an object with predict(df).");
    insta::assert_snapshot!(failure(&[("a/b/package.py", ""), ("my_model/package.py", GOOD)]), @"there is no package.py at the top of the package. There is a/b/package.py: send the directory a/b itself, so that package.py is at its top.");
    insta::assert_snapshot!(failure(&[("Package.py", GOOD)]), @"there is no package.py at the top of the package. Rename Package.py to package.py.");
    insta::assert_snapshot!(failure(&[("package.py", "import os\nx = (1,\n")]), @r"
    package.py does not parse: line 2, column 1. Correct the syntax; `python -m py_compile package.py` shows the same place.

        2 | x = (1,
    ");
    insta::assert_snapshot!(failure(&[("package.py", "def model(): pass")]), @"package.py defines no get_model. Add a function `def get_model():` at the top level that returns an object with predict(df).");
    insta::assert_snapshot!(failure(&[("package.py", "async def get_model(): pass")]), @"get_model in package.py is a coroutine. Write `def get_model():` instead of `async def get_model():`.");
}

#[test]
fn requirements_are_checked_and_bounded() {
    for content in ["-r other.txt".to_owned(), "# x\n".repeat(100_000)] {
        let dir = package(&[("package.py", GOOD), ("requirements.txt", &content)]);
        assert_eq!(
            inspect(dir.path()).unwrap_err().code(),
            Code::RequirementsError
        );
    }
}

#[test]
fn source_that_cannot_be_judged_is_let_through() {
    let long = format!("# {}\n", "x".repeat(2 << 20));
    for text in [long.as_str(), "from model import *\n"] {
        assert!(inspect(package(&[("package.py", text)]).path()).is_ok());
    }
}
