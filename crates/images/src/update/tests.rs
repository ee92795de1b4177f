//! The parts that need no network.

use super::*;
use crate::catalogue::Catalogue;

fn entry(uri: &str) -> Entry {
    let catalogue = Catalogue::read(None).unwrap();
    catalogue.find(uri).unwrap().clone()
}

#[test]
fn what_has_bounds_may_move_and_the_rest_stays() {
    let java = entry("md-base/python/java:2.1.0");
    let wanted = wanted(&java.tag);
    assert_eq!(wanted.len(), java.tag.libraries.len());
    assert!(wanted.contains(&"flask>=2.2.5,<2.3"), "{wanted:?}");
    assert!(wanted.contains(&"h2o==3.46.0.5"), "{wanted:?}");
}

#[test]
fn a_new_tag_has_the_versions_of_its_lock_and_stands_beside_the_old() {
    for uri in [
        "md-base/python/rpy2:2.0.2",
        "md-base/python/python-311:1.0.0",
    ] {
        let old = entry(uri);
        let name = uri.split(':').next().unwrap();
        let text = old.lock.replace("flask==2.2.5", "flask==2.2.9");
        let told: Vec<String> = changes(&old.lock, &text)
            .iter()
            .map(|c| format!("{} {} {}", c.name, c.from, c.to))
            .collect();
        assert_eq!(told, ["flask 2.2.5 2.2.9"]);

        let own = tempfile::tempdir().unwrap();
        let comment = format!("# Ours.\nname = \"{name}\"\ntag = []\n");
        let tag = renewed(&old, name, "9.0", "2026-12-01", &text).unwrap();
        write(own.path(), name, &tag, &text).unwrap();
        let catalogue = Catalogue::read(Some(own.path())).unwrap();
        assert_eq!(catalogue.problems, []);
        let new = catalogue.find(&format!("{name}:9.0")).unwrap();
        assert_eq!(new.lock, text);
        assert_eq!(new.tag, tag);
        assert!(new.info.libraries.contains(&"flask==2.2.9".to_owned()));
        assert_ne!(
            Recipe::of(&new.tag).digest(),
            Recipe::of(&old.tag).digest(),
            "another day, another file system"
        );
        assert!(catalogue.find(uri).is_ok());

        // Another tag goes below; what stands there is kept.
        let tag = renewed(&old, name, "9.1", "2026-12-02", &text).unwrap();
        write(own.path(), name, &tag, &text).unwrap();
        let catalogue = Catalogue::read(Some(own.path())).unwrap();
        assert!(catalogue.find(&format!("{name}:9.0")).is_ok());
        assert!(catalogue.find(&format!("{name}:9.1")).is_ok());
        // What would make a file that cannot be read is refused, and the file stays.
        let error = write(own.path(), name, &tag, &text).unwrap_err();
        assert_eq!(error.code(), Code::BadRequest);
        assert!(error.message().contains("twice"), "{}", error.message());
        let path = own
            .path()
            .join(format!("{}.toml", name.rsplit('/').next().unwrap()));
        fs_err::write(&path, comment).unwrap();
        assert!(write(own.path(), name, &tag, &text).is_err());
    }
}

#[test]
fn changes_tell_what_came_and_went() {
    let told = changes("a==1\nb==2 \\\n    --hash=x\n", "# keep\nb==3\nC_c==4\n");
    let told: Vec<(&str, &str, &str)> = told
        .iter()
        .map(|c| (c.name.as_str(), c.from.as_str(), c.to.as_str()))
        .collect();
    assert_eq!(told, [("a", "1", ""), ("b", "2", "3"), ("c-c", "", "4")]);
}
