//! Settings, and what may be seen of them.

use super::*;

#[test]
fn credentials_leave_the_address() {
    let index = Index::new("https://al%40ice:p%3Ass@index.example:8443/simple/", "x");
    assert_eq!(index.url, "https://index.example:8443/simple/");
    assert_eq!(index.user, Some(("al@ice".to_owned(), "p:ss".to_owned())));
    let index = Index::new("ours=https://token@h/simple", "x");
    assert_eq!(
        (index.name.as_str(), index.url.as_str()),
        ("ours", "https://h/simple")
    );
    assert_eq!(index.user, Some(("token".to_owned(), String::new())));
    assert_eq!(Index::new("https://h/a@b?c=d", "x").user, None);
}

#[test]
fn no_argument_and_no_question_holds_a_password() {
    let sources = Sources {
        index: Some("https://u:s3cret@h/simple".to_owned()),
        extra: vec!["https://u:s3cret@g/simple".to_owned()],
        build_hosts: vec![],
        ..Sources::default()
    };
    let args = sources.args(&["--extra-index-url https://p/simple".to_owned()], None);
    assert!(!format!("{args:?}").contains("s3cret"), "{args:?}");
    let order: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(
        order[..6],
        [
            "--index",
            "https://p/simple",
            "--index",
            "luthier-extra-0=https://g/simple",
            "--default-index",
            "luthier-default=https://h/simple"
        ]
    );
    assert!(!sources.question().contains("s3cret"));
    assert!(!sources.addresses().iter().any(|a| a.contains("s3cret")));
}

#[test]
fn offline_with_a_wheelhouse_asks_nobody() {
    let sources = Sources {
        wheelhouse: Some("/srv/wheels".into()),
        offline: true,
        ..Sources::default()
    };
    let args = sources.args(
        &["--extra-index-url https://p/simple".to_owned()],
        sources.wheelhouse.as_deref(),
    );
    assert_eq!(
        args,
        ["--find-links", "/srv/wheels", "--no-index", "--offline"]
    );
}

#[test]
fn settings_that_name_nothing_are_told() {
    let sources = Sources {
        wheelhouse: Some("/does/not/exist".into()),
        ..Sources::default()
    };
    let error = sources.checked().unwrap_err();
    assert!(error.message().contains("LUTHIER_WHEELHOUSE"), "{error}");
    for wrong in [
        "u:s3cret@h",
        "ftp://u:s3cret@h/simple",
        "https://u:s3/cret@h/simple",
        "ours=https://u:s3#cret@h/simple",
    ] {
        let sources = Sources {
            extra: vec![wrong.to_owned()],
            ..Sources::default()
        };
        let text = sources.checked().unwrap_err().public_text();
        assert!(text.contains("LUTHIER_EXTRA_INDEX_URLS"), "{text}");
        assert!(!text.contains("s3"), "{text}");
    }
    for right in [
        "https://h",
        "http://127.0.0.1:8080/simple/",
        "https://u:p%2Fw@[::1]:8443/simple",
        "https://u:p@[::1]/simple",
        "ours=https://h/feed@release/simple",
    ] {
        let sources = Sources {
            index: Some(right.to_owned()),
            ..Sources::default()
        };
        assert!(sources.checked().is_ok(), "{right}");
    }
}

#[test]
fn what_is_shown_for_debugging_holds_no_password() {
    let sources = Sources {
        index: Some("https://bob:s3cret@h/simple".to_owned()),
        extra: vec![
            "ours=https://bob:s3/cr@et@g/simple".to_owned(),
            "bob:s3cret@k".to_owned(),
        ],
        ..Sources::default()
    };
    let shown = format!("{sources:?}");
    for part in ["bob", "s3", "cr@", "et@"] {
        assert!(!shown.contains(part), "{shown}");
    }
    for part in ["https://***@h/simple", "***@g/simple", "***@k"] {
        assert!(shown.contains(part), "{shown}");
    }
}
