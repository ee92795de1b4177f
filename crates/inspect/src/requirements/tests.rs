//! Includes are followed within the package and nowhere else.

use proptest::prelude::*;

use super::*;
use crate::testing::package;

#[test]
fn a_package_without_requirements_asks_for_nothing() {
    assert_eq!(
        read_requirements(package::<[u8]>(&[]).path()).unwrap(),
        RequirementFiles::default()
    );
}

#[test]
fn included_files_are_read_with_theirs() {
    let dir = package::<[u8]>(&[
        (
            "requirements.txt",
            b"\xef\xbb\xbf-r deps/base.txt\n-c pins.txt\nflask # -r not.txt\n",
        ),
        ("deps/base.txt", b"numpy\n-r ../more.txt\n"),
        ("more.txt", b"-c pins.txt\npandas\n"),
        ("pins.txt", b"numpy<2\n"),
        ("unused.txt", b"-r missing.txt\n"),
    ]);
    let files = read_requirements(dir.path()).unwrap();
    let names: Vec<_> = files.0.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["deps/base.txt", "more.txt", "pins.txt", "requirements.txt"]
    );
    assert!(files.main().unwrap().starts_with("-r deps"));
}

#[test]
fn what_is_outside_missing_or_circular_is_refused_with_its_line() {
    for (line, word) in [
        ("-r /etc/passwd", "outside"),
        ("-r ../secret.txt", "outside"),
        ("--requirement=https://example.org/r.txt", "outside"),
        ("-r", "outside"),
        ("-r missing.txt", "not in the package"),
        ("-r deps", "not in the package"),
        ("-c link.txt", "leads out"),
        ("-r requirements.txt", "includes this file"),
        ("-r deps/back.txt", "includes this file"),
        ("numpy==1 \\\n", ""),
    ] {
        let text = format!("numpy\n\n  {line}\n");
        let dir = package::<[u8]>(&[
            ("package/requirements.txt", text.as_bytes()),
            ("package/deps/back.txt", b"\n\n-r ../requirements.txt\n"),
            ("secret.txt", b"s3cret\n"),
        ]);
        let package = dir.path().join("package");
        fs_err::os::unix::fs::symlink("../secret.txt", package.join("link.txt")).unwrap();
        let read = read_requirements(&package);
        if word.is_empty() {
            assert_eq!(read.unwrap().0.len(), 1);
            continue;
        }
        let error = read.unwrap_err();
        assert_eq!(error.code(), Code::RequirementsError, "{line}");
        assert!(error.message().starts_with("line 3 of "), "{error}");
        assert!(error.message().contains(word), "{line}: {error}");
        assert!(error.next_step().is_some());
        assert!(!error.public_text().contains("s3cret"));
    }
}

#[test]
fn a_link_within_the_package_is_followed_and_one_out_of_it_is_not() {
    let dir = package::<[u8]>(&[("p/real.txt", b"numpy\n"), ("secret", b"s3cret\n")]);
    let top = dir.path().join("p");
    fs_err::os::unix::fs::symlink("real.txt", top.join("requirements.txt")).unwrap();
    assert_eq!(read_requirements(&top).unwrap().main(), Some("numpy\n"));
    fs_err::remove_file(top.join("requirements.txt")).unwrap();
    fs_err::os::unix::fs::symlink("../secret", top.join("requirements.txt")).unwrap();
    let error = read_requirements(&top).unwrap_err();
    assert_eq!(error.code(), Code::RequirementsError);
}

#[test]
fn what_is_not_text_or_too_much_is_refused() {
    for content in [
        &b"\xff\xfen\0u\0"[..],
        b"num\xffpy",
        b"n\0",
        "x".repeat(300_000).as_bytes(),
    ] {
        let dir = package::<[u8]>(&[("requirements.txt", content)]);
        let error = read_requirements(dir.path()).unwrap_err();
        assert_eq!(error.code(), Code::RequirementsError);
    }
    for (deep, line) in [(true, "-r next.txt"), (false, "-r a/next.txt")] {
        let dir = package::<[u8]>(&[]);
        let many: String = (0..60).map(|n| format!("-r f{n}.txt\n")).collect();
        for n in 0..60 {
            let text = if deep {
                format!("-r f{}.txt\n", n + 1)
            } else {
                String::new()
            };
            fs_err::write(dir.path().join(format!("f{n}.txt")), text).unwrap();
        }
        let main = if deep { "-r f0.txt\n".to_owned() } else { many };
        fs_err::write(dir.path().join("requirements.txt"), main).unwrap();
        let error = read_requirements(dir.path()).unwrap_err();
        assert!(error.message().contains("more than 50"), "{line}: {error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(content in prop::collection::vec(any::<u8>(), 0..200), text in ".*") {
        for content in [content, text.into_bytes()] {
            let dir = package::<[u8]>(&[("requirements.txt", &content)]);
            let _ = read_requirements(dir.path());
        }
    }
}
