//! What an image says of itself, well formed and not.

use std::os::unix::fs::symlink;

use super::*;

fn told(changes: &[(&str, &str)]) -> String {
    let mut fields = BTreeMap::from([
        ("implementation", r#""cpython""#),
        ("version", "[3, 11, 7]"),
        ("program", r#""/usr/local/bin/python3.11""#),
        ("glibc", r#""glibc 2.36""#),
        ("runner", "null"),
    ]);
    fields.extend(changes.iter().copied());
    let fields: Vec<String> = fields
        .iter()
        .map(|(k, v)| format!("\"{k}\": {v}"))
        .collect();
    format!("a warning of the image's\n{{{}}}\n", fields.join(", "))
}

#[test]
fn what_the_image_says_is_not_believed_beyond_its_form() {
    let lines = r#"[{"name": "ok", "version": "1.0+x"},
        {"name": "no\n--index-url http://evil", "version": "1"},
        {"name": "no", "version": "1 --pre"},
        {"name": "no", "version": "1", "requires": ["a\nb"]},
        {"name": "-e", "version": "1"}]"#
        .replace('\n', " ");
    let lines = lines.replace("no ", "no\\n");
    let paths = r#"["/usr/lib/x", "relative", "/a'); import os #", "/a/../b", "/a:b"]"#;
    let found = read(&told(&[("distributions", &lines), ("paths", paths)]), true).unwrap();
    let names: Vec<&str> = found.provided.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["ok"]);
    assert_eq!(found.paths, [PathBuf::from("/usr/lib/x")]);
    assert_eq!((found.version, found.glibc), ((3, 11, 7), 36));
}

#[test]
fn a_python_that_cannot_serve_is_told() {
    for (field, value, words) in [
        ("version", "[3, 8, 18]", "needs CPython from 3.9 on"),
        ("version", "[2, 7, 18]", "needs CPython from 3.9 on"),
        ("implementation", r#""pypy""#, "is pypy 3.11.7"),
        ("glibc", "null", "GNU C library"),
        ("runner", r#""ImportError: GLIBC_2.34""#, "GLIBC_2.34"),
        (
            "program",
            r#""/opt/luthier/python/bin/python3""#,
            "cannot be",
        ),
        ("program", r#""/a b""#, "cannot be"),
    ] {
        let why = read(&told(&[(field, value)]), true).unwrap_err();
        assert!(why.contains(words), "{why}");
    }
    assert_eq!(read(&told(&[]), false).unwrap_err(), "does not run");
    assert_eq!(
        read("Segmentation fault", true).unwrap_err(),
        "does not run"
    );
}

#[test]
fn variables_of_the_image_are_taken_but_not_ours() {
    let listed: Vec<String> = [
        "PATH=/opt/conda/bin:/bin",
        "LD_LIBRARY_PATH=/usr/local/cuda/lib64",
        "HOME=/root",
        "LUTHIER_MEMORY_MIB=1",
        "PYTHONHOME=/x",
        "no-name=1",
        "nothing",
    ]
    .map(str::to_owned)
    .to_vec();
    let taken = without_ours(variables(&listed));
    assert_eq!(
        taken,
        BTreeMap::from([
            (
                "LD_LIBRARY_PATH".to_owned(),
                "/usr/local/cuda/lib64".to_owned()
            ),
            (
                "PATH".to_owned(),
                "/opt/luthier/env/bin:/opt/conda/bin:/bin".to_owned()
            ),
        ])
    );
    let many: Vec<String> = (0..1000)
        .map(|i| format!("V{i}={}", "x".repeat(1000)))
        .collect();
    assert!(variables(&many).len() < 100);
}

#[test]
fn python_is_found_by_the_path_within_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path();
    for path in ["opt/venv/bin", "usr/bin"] {
        fs_err::create_dir_all(tree.join(path)).unwrap();
    }
    fs_err::write(tree.join("usr/bin/python3.11"), "").unwrap();
    symlink("python3.11", tree.join("usr/bin/python3")).unwrap();
    symlink("/usr/bin/python3", tree.join("opt/venv/bin/python")).unwrap();
    let found = |path: &str| {
        find(
            tree,
            &BTreeMap::from([("PATH".to_owned(), path.to_owned())]),
        )
    };
    assert_eq!(found("/opt/venv/bin"), Some("/opt/venv/bin/python".into()));
    assert_eq!(found("/nowhere"), Some("/usr/bin/python3".into()));
    symlink("/usr/bin/none", tree.join("usr/bin/dangling")).unwrap();
    fs_err::remove_file(tree.join("usr/bin/python3.11")).unwrap();
    assert_eq!(found("/opt/venv/bin"), None);
}
