//! The catalogue inside the binary, and a directory over it.

use std::collections::{BTreeMap, BTreeSet};

use luthier_types::Code;

use super::*;

fn embedded() -> Vec<Entry> {
    Catalogue::read(None).unwrap().entries
}

#[test]
fn the_images_are_these_in_this_order() {
    let uris: Vec<String> = embedded()
        .iter()
        .map(|e| e.info.uri.trim_start_matches("md-base/python/").to_owned())
        .collect();
    assert_eq!(
        uris,
        [
            "java:2.1.0",
            "python-39:2.0.2",
            "python-310:1.0.0",
            "python-311:1.0.0",
            "python-312:1.0.0",
            "python-313:1.0.0",
            "rpy2:2.0.2",
            "deep-learning:1.4.0",
            "java:1.3.0",
            "machine-learning:1.0.1",
            "machine-learning:1.4.0",
            "python-39:1.4.0",
            "rpy2:1.4.0",
        ]
    );
}

#[test]
fn the_platforms_images_carry_its_libraries_exactly() {
    let common = [
        "fiddler-client==3.0.3",
        "flask==2.2.5",
        "gevent==23.9.0",
        "gunicorn==22.0.0",
        "prometheus-flask-exporter==0.21.0",
        "pyarrow==14.0.1",
        "pydantic==1.10.13",
    ];
    let catalogue = Catalogue::read(None).unwrap();
    for (uri, python, more) in [
        ("python-39:2.0.2", "3.9", None),
        ("python-310:1.0.0", "3.10", None),
        ("python-311:1.0.0", "3.11", None),
        ("java:2.1.0", "3.9", Some("h2o==3.46.0.5")),
        ("rpy2:2.0.2", "3.9", Some("rpy2==3.5.1")),
    ] {
        let entry = catalogue.find(&format!("md-base/python/{uri}")).unwrap();
        let wanted: Vec<&str> = common.into_iter().chain(more).collect();
        assert_eq!(entry.info.libraries, wanted, "{uri}");
        assert_eq!(entry.info.python, python, "{uri}");
        assert!(!entry.info.single_version, "{uri}");
    }
}

/// The platform serves models of several versions only from 2.x of these on.
#[test]
fn tags_below_two_are_deprecated_and_of_a_single_version() {
    let entries = embedded();
    for entry in &entries {
        let (name, tag) = entry.info.uri.rsplit_once(':').unwrap();
        let old = ["python-39", "java", "rpy2"].contains(&name.rsplit('/').next().unwrap())
            && tag.starts_with("1.");
        assert_eq!(entry.info.single_version, old, "{}", entry.info.uri);
        if let ImageStatus::Deprecated { replaced_by } = &entry.info.status {
            let new = entries.iter().find(|e| e.info.uri == *replaced_by).unwrap();
            assert_eq!(new.info.status, ImageStatus::Current);
        } else {
            assert!(!old);
        }
    }
}

#[test]
fn every_lock_pins_and_hashes_and_names_no_place() {
    let mut used = BTreeSet::new();
    for entry in embedded() {
        used.insert(entry.tag.lock.clone());
        let mut hashes: BTreeMap<&str, usize> = BTreeMap::new();
        let mut current = "";
        for line in entry.lock.lines() {
            let line = line.trim_end_matches('\\').trim();
            if let Some(hash) = line.strip_prefix("--hash=") {
                assert_eq!(hash.len(), "sha256:".len() + 64, "{line}");
                *hashes.entry(current).or_default() += 1;
            } else if line.starts_with('#') {
                assert!(line.starts_with("# keep "), "{line}");
            } else {
                assert!(line.contains("==") && !line.starts_with('-'), "{line}");
                current = line;
                hashes.insert(current, 0);
            }
        }
        assert!(hashes.len() > 30 && hashes.values().all(|n| *n > 0));
        assert!(!entry.lock.contains("://"));
        for library in &entry.info.libraries {
            let locked = hashes.contains_key(library.as_str());
            assert!(locked, "{library} of {}", entry.info.uri);
        }
        for keep in entry.tag.keeps() {
            let pin = entry.tag.pin(keep.library).unwrap();
            let rule = format!("# keep {} for {pin}", keep.constraint);
            assert!(entry.lock.lines().any(|l| l == rule), "{rule}");
        }
        for name in entry.tag.source.keys() {
            assert!(entry.tag.pin(name).is_some(), "{name}");
        }
    }
    let there: BTreeSet<String> = embedded::LOCKS
        .iter()
        .map(|(n, _)| (*n).to_owned())
        .collect();
    assert_eq!(used, there, "every lock belongs to an image");
}

#[test]
fn what_is_written_is_read_again() {
    for (name, text) in embedded::FILES {
        let file = File::parse(text).unwrap();
        let again = File::parse(&toml::to_string(&file).unwrap()).unwrap();
        assert_eq!(file, again, "{name}");
    }
}

#[test]
fn a_wrong_file_is_told_what_is_wrong() {
    let right = "name = \"a\"\n[[tag]]\ntag = \"1\"\npython = \"3.11\"\nreleased = \"2026-01-02\"\n\
        debian_state = \"2026-01-02\"\nsummary = \"\"\nlock = \"a.lock\"\nlibraries = [\"b==1\"]\n";
    assert!(File::parse(right).is_ok());
    for (from, to, told) in [
        ("\"3.11\"", "\"3.8\"", "3.9 on"),
        ("\"3.11\"", "\"3.011\"", "3.9 on"),
        ("\"2026-01-02\"", "\"2026-1-2\"", "is not a day"),
        ("b==1", "b>=1", "name==version"),
        ("a.lock", "../a.lock", "locks/"),
        ("name = \"a\"", "name = \"a:1\"", "no image name"),
        ("summary", "sumary", "unknown field"),
        ("lock =", "keep = [\"x<1 for c\"]\nlock =", "`x<1 for c`"),
        ("lock =", "bounds = [\"c<2\"]\nlock =", "`c<2`"),
        ("lock =", "debian = [\"a;b\"]\nlock =", "`a;b`"),
        ("lock =", "debian = [\"-o\"]\nlock =", "`-o`"),
        ("tag = \"1\"", "tag = \"1 2\"", "letters, digits"),
    ] {
        let wrong = File::parse(&right.replacen(from, to, 1)).unwrap_err();
        assert!(wrong.contains(told), "{to}: {wrong}");
    }
    let tag = &right[right.find("[[").unwrap()..];
    let wrong = File::parse(&format!("{right}{tag}")).unwrap_err();
    assert!(wrong.contains("twice"), "{wrong}");
}

#[test]
fn a_directory_of_ones_own_lies_over_the_catalogue() {
    let own = tempfile::tempdir().unwrap();
    let read = || Catalogue::read(Some(own.path())).unwrap();
    assert_eq!(read().problems, [], "an empty directory");
    let missing = Catalogue::read(Some(&own.path().join("no"))).unwrap();
    assert_eq!(missing.problems, [], "no directory");

    let (_, text) = embedded::FILES
        .iter()
        .find(|(name, _)| *name == "python-311.toml")
        .unwrap();
    let same = text.replace("Python 3.11 with", "Our Python 3.11 with");
    // The same uri, a new tag with the binary's lock, and a name of its own with its own lock.
    fs_err::write(own.path().join("same.toml"), &same).unwrap();
    fs_err::write(
        own.path().join("ours.toml"),
        text.replace("md-base/python/python-311", "acme/ours")
            .replace("python-311-1.0.0.lock", "ours.lock"),
    )
    .unwrap();
    fs_err::create_dir(own.path().join("locks")).unwrap();
    fs_err::write(own.path().join("locks/ours.lock"), "flask==1 \\\n").unwrap();
    let catalogue = read();
    assert_eq!(catalogue.problems, []);
    assert_eq!(catalogue.entries.len(), embedded().len() + 1);
    let ours = catalogue.find("acme/ours:1.0.0").unwrap();
    assert_eq!(ours.lock, "flask==1 \\\n");
    let same = catalogue.find("md-base/python/python-311:1.0.0").unwrap();
    assert!(same.info.summary.starts_with("Our Python"));

    // Broken in every way: told, and the rest works.
    for (name, text) in [
        ("bad.toml", "name = ".to_owned()),
        ("binary.toml", "\u{0}".to_owned()),
        (
            "lockless.toml",
            text.replace("python-311-1.0.0.lock", "no.lock"),
        ),
        (
            "twice.toml",
            text.replace("md-base/python/python-311", "acme/ours"),
        ),
    ] {
        fs_err::write(own.path().join(name), text).unwrap();
    }
    fs_err::create_dir(own.path().join("directory.toml")).unwrap();
    let catalogue = read();
    let wrong: Vec<_> = catalogue
        .problems
        .iter()
        .map(|p| p.path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(
        wrong,
        [
            "bad.toml",
            "binary.toml",
            "directory.toml",
            "lockless.toml",
            "twice.toml"
        ]
    );
    assert!(catalogue.find("acme/ours:1.0.0").is_ok());
    let error = catalogue.find("acme/ours:2").unwrap_err();
    assert_eq!(error.code(), Code::UnknownImage);
    let hint = error.next_step().unwrap();
    assert!(
        hint.contains("acme/ours:1.0.0") && hint.contains("bad.toml"),
        "{hint}"
    );
}

#[test]
fn an_unknown_image_is_answered_with_the_nearest_and_all() {
    let catalogue = Catalogue::read(None).unwrap();
    for (asked, nearest) in [
        ("md-base/python/python-311:1.0.1", "python-311:1.0.0"),
        ("md-base/python/python-38:1.3.0", "python-39:2.0.2"),
        ("md-base/python/java:2.0.0", "java:2.1.0"),
        ("md-base/python/deep-learning:1.3.0", "python-39:2.0.2"),
    ] {
        let error = catalogue.find(asked).unwrap_err();
        assert_eq!(error.code(), Code::UnknownImage);
        let hint = error.next_step().unwrap();
        assert!(
            hint.starts_with(&format!(
                "The nearest that would do is `md-base/python/{nearest}`."
            )),
            "{asked}: {hint}"
        );
        assert!(hint.contains("rpy2:2.0.2"));
    }
}

#[test]
fn numbers_in_names_count_as_numbers() {
    let mut names = ["a-310:1", "a-39:10.0", "a-39:9.0", "b", "a-39:9"];
    names.sort_by_cached_key(|n| parts(&n.replace(':', "/")));
    assert_eq!(names, ["a-39:9", "a-39:9.0", "a-39:10.0", "a-310:1", "b"]);
    assert_eq!(parts(&"9".repeat(40)), [Part::Text("9".repeat(40))]);
}
