//! Tests of how findings become an error.

use super::*;

fn finding(level: Level, text: &str) -> Finding {
    Finding {
        level,
        kind: "a-kind".to_owned(),
        text: text.to_owned(),
        file: Some("package.py".to_owned()),
        line: Some(3),
        hint: None,
        requirement: None,
        image: None,
    }
}

#[test]
fn warnings_and_notes_fail_nothing() {
    assert!(failure(&[]).is_none());
    let findings = [
        finding(Level::Warning, "is older"),
        finding(Level::Note, "so"),
    ];
    assert!(failure(&findings).is_none());
}

#[test]
fn one_error_is_the_message_and_its_remedy_the_hint() {
    let one = Finding {
        requirement: Some("scikit-learn==1.0.2".to_owned()),
        hint: Some("Add the line to requirements.txt".to_owned()),
        ..finding(Level::Error, "imports sklearn, which is missing")
    };
    let error = failure(&[one]).unwrap();
    assert_eq!(error.code(), Code::InvalidPackage);
    assert_eq!(
        error.public_text(),
        "package.py:3 imports sklearn, which is missing. Add to requirements.txt: \
         `scikit-learn==1.0.2`."
    );
}

#[test]
fn several_are_listed_with_all_that_mends_them() {
    let findings = [
        Finding {
            requirement: Some("xgboost==1.7.6".to_owned()),
            ..finding(Level::Error, "imports xgboost, which is missing")
        },
        Finding {
            image: Some("md-base/python/java:2.1.0".to_owned()),
            file: None,
            ..finding(Level::Error, "it needs Java")
        },
        Finding {
            hint: Some("Define the class in package.py".to_owned()),
            line: None,
            ..finding(Level::Error, "needs `__main__.Model`, which is not there")
        },
        finding(Level::Warning, "is older"),
    ];
    insta::assert_snapshot!(failure(&findings).unwrap().public_text(), @r"
    the package cannot work in its environment, for 3 reasons; first: package.py:3 imports xgboost, which is missing. Add to requirements.txt: `xgboost==1.7.6`. Choose the image `md-base/python/java:2.1.0`. Define the class in package.py.

    error: package.py:3 imports xgboost, which is missing; add `xgboost==1.7.6` to requirements.txt
    error: it needs Java; choose the image md-base/python/java:2.1.0
    error: package.py needs `__main__.Model`, which is not there; Define the class in package.py
    warning: package.py:3 is older
    ");
}

#[test]
fn a_flood_of_findings_stays_readable() {
    let many = vec![finding(Level::Error, &"x".repeat(1000)); 100];
    let error = failure(&many).unwrap();
    let output = error.observed().output.as_deref().unwrap();
    assert!(output.len() <= MAX_BYTES + 8, "{}", output.len());
    assert!(output.starts_with("error: package.py:3 x") && output.ends_with("…\n"));
}
