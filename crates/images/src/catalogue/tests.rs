//! The catalogue inside the binary.

use std::collections::BTreeMap;

use super::*;

#[test]
fn the_three_images_carry_their_libraries_exactly() {
    let entries = read().unwrap();
    let uris: Vec<&str> = entries.iter().map(|e| e.info.uri.as_str()).collect();
    assert_eq!(
        uris,
        [
            "md-base/python/python-39:2.0.2",
            "md-base/python/python-310:1.0.0",
            "md-base/python/python-311:1.0.0"
        ]
    );
    for entry in &entries {
        assert_eq!(
            entry.info.libraries,
            [
                "fiddler-client==3.0.3",
                "flask==2.2.5",
                "gevent==23.9.0",
                "gunicorn==22.0.0",
                "prometheus-flask-exporter==0.21.0",
                "pyarrow==14.0.1",
                "pydantic==1.10.13"
            ]
        );
        for library in &entry.info.libraries {
            assert!(
                entry.lock.lines().any(|l| l == format!("{library} \\")),
                "{library} is not locked in {}",
                entry.info.uri
            );
        }
    }
}

#[test]
fn every_lock_pins_and_hashes_and_names_no_place() {
    for entry in read().unwrap() {
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
        let numpy = hashes.keys().find(|l| l.starts_with("numpy==")).unwrap();
        assert!(numpy.starts_with("numpy==1."), "pyarrow 14 needs NumPy 1");
    }
}

#[test]
fn an_unknown_image_is_answered_with_the_closest_and_all() {
    let entries = read().unwrap();
    let error = find(&entries, "md-base/python/python-311:1.0.1").unwrap_err();
    assert_eq!(error.code(), Code::UnknownImage);
    let hint = error.next_step().unwrap();
    assert!(hint.starts_with("Did you mean `md-base/python/python-311:1.0.0`?"));
    assert!(hint.contains("python-39:2.0.2") && hint.contains("python-310:1.0.0"));
    let error = find(&entries, "x").unwrap_err();
    assert!(error.next_step().unwrap().starts_with("The images are"));
    assert!(find(&entries, &"é".repeat(5000)).is_err());
}

#[test]
fn distance_counts_edits() {
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance("", "abc"), 3);
    assert_eq!(distance("same", "same"), 0);
}
