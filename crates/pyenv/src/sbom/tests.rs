//! Documents of environments made by hand.

use super::*;

const METADATA: &str = "Metadata-Version: 2.1\nName: Flask\nVersion: 2.2.5\nSummary: Small.\n\
    Home-page: https://example.org/flask\nLicense: BSD-3-Clause\nClassifier: Programming Language :: Python\n\
    Requires-Dist: Werkzeug (>=2.2.2)\nRequires-Dist: python-dotenv ; extra == 'dotenv'\n\
    Requires-Dist: importlib-metadata (>=3.6.0) ; python_version < \"3.10\"\n\n\
    License: not a field\n";

fn licences(text: &str) -> Value {
    Metadata::parse(text).licences().into()
}

#[test]
fn licences_are_expressions_ids_or_names() {
    assert_eq!(
        licences(METADATA),
        json!([{"license": {"id": "BSD-3-Clause"}}])
    );
    assert_eq!(
        licences("License-Expression: MPL-2.0 AND MIT\nLicense: MIT\n"),
        json!([{"expression": "MPL-2.0 AND MIT"}])
    );
    assert_eq!(
        licences(
            "License: Copyright\n  of many lines\nClassifier: License :: OSI Approved\n\
                  Classifier: License :: OSI Approved :: BSD License\n"
        ),
        json!([{"license": {"name": "BSD License"}}])
    );
    assert_eq!(licences("License: UNKNOWN\n"), json!([]));
}

#[test]
fn needs_leave_out_those_of_extras() {
    let needs = Metadata::parse(METADATA).needs();
    assert_eq!(
        needs,
        ["importlib-metadata", "werkzeug"].map(str::to_owned).into()
    );
}

#[test]
fn a_hash_is_told_only_when_there_is_one() {
    let (one, other) = (Digest::of("1"), Digest::of("2"));
    let lock = format!(
        "a==1 \\\n    --hash=sha256:{one}\nB_c==2 \\\n    --hash=sha256:{one} \\\n    --hash=sha256:{other}\n"
    );
    assert_eq!(single_hashes(&lock), [("a".to_owned(), one)].into());
}

#[test]
fn a_document_names_every_distribution() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path();
    let packages = tree.join("lib/python3.11/site-packages");
    for (name, metadata) in [
        ("Flask-2.2.5", METADATA),
        (
            "werkzeug-3.0.4+local",
            "Name: Werkzeug\nVersion: 3.0.4+local\n",
        ),
    ] {
        let info = packages.join(format!("{name}.dist-info"));
        fs_err::create_dir_all(&info).unwrap();
        fs_err::write(info.join("METADATA"), metadata).unwrap();
        fs_err::write(
            info.join("RECORD"),
            format!("{name}.dist-info/METADATA,,\n"),
        )
        .unwrap();
    }
    let hash = Digest::of("wheel");
    fs_err::write(
        tree.join(store::LOCK),
        format!("flask==2.2.5 --hash=sha256:{hash}\n"),
    )
    .unwrap();
    fs_err::write(tree.join("pyvenv.cfg"), "version_info = 3.11.7\n").unwrap();
    let id = EnvId(Digest::of("env"));
    let document = document(tree, &id, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(document["specVersion"], "1.6");
    assert_eq!(document["metadata"]["timestamp"], "1970-01-01T00:00:00Z");
    let serial = document["serialNumber"].as_str().unwrap();
    assert_eq!(serial.len(), "urn:uuid:".len() + 36);
    let [flask, werkzeug] = document["components"].as_array().unwrap().as_slice() else {
        panic!("{document:#}");
    };
    assert_eq!(flask["purl"], "pkg:pypi/flask@2.2.5");
    assert_eq!(flask["name"], "Flask");
    assert_eq!(flask["hashes"][0]["content"], hash.as_str());
    assert_eq!(
        flask["externalReferences"][0]["url"],
        "https://example.org/flask"
    );
    assert_eq!(werkzeug["purl"], "pkg:pypi/werkzeug@3.0.4%2Blocal");
    assert_eq!(werkzeug.get("hashes"), None);
    let edges = document["dependencies"].as_array().unwrap();
    let flask = edges
        .iter()
        .find(|e| e["ref"] == "pkg:pypi/flask@2.2.5")
        .unwrap();
    assert_eq!(
        flask["dependsOn"],
        json!(["pkg:pypi/werkzeug@3.0.4%2Blocal"])
    );
}
