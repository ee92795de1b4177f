//! Tests of the rules for requirements.

use proptest::prelude::*;

use super::*;

#[test]
fn what_installers_commonly_write_passes() {
    let text = "# comment -r other.txt\nscikit-learn==1.0.2  # pinned -i x\n\nnumpy>=1.23,<2; python_version < '3.12'\r\nscikit_learn==1.0.2 \\\n    --hash=sha256:abc \\\n    --hash=sha256:def\nrequests[socks] @ https://example.org/requests-2.0-py3-none-any.whl\ngit+https://example.org/a/b.git@main#egg=b\n--pre\n--no-binary :all:\nruamel.yaml\n";
    assert_eq!(check_requirements(text.as_bytes()).unwrap(), text);
    assert_eq!(check_requirements(b"\xef\xbb\xbfnumpy").unwrap(), "numpy");
}

#[test]
fn lines_that_reach_out_are_refused() {
    for line in [
        "-i https://example.org/simple",
        "-ihttps://example.org/simple",
        "--index-url=https://example.org/simple",
        "--extra-index-url https://example.org/simple",
        "--find-links ./wheels",
        "-f wheels",
        "--no-index",
        "--trusted-host example.org",
        "-e .",
        "-e.",
        "--editable git+https://example.org/a.git",
        "-r other.txt",
        "-rother.txt",
        "--requirement=/etc/passwd",
        "-c constraints.txt",
        "file:///etc/passwd",
        "FILE:x",
        "pkg @ file:///srv/pkg.whl",
        "pkg@file:x.whl",
        "pkg @ /srv/pkg.whl",
        "./local",
        "../local",
        "/srv/pkg.whl",
        "wheels/pkg-1.0-py3-none-any.whl",
        "pkg.tar.gz",
        "git+file:///srv/repo",
        "http://example.org/pkg.whl",
        "pkg @ http://example.org/pkg.whl",
        "git+http://example.org/a.git",
        "pkg @ https://${TOKEN}@example.org/pkg.whl",
        "num\\\npy @ file:///x",
    ] {
        let error = check_requirements(format!("numpy\n\n  {line}\n").as_bytes()).unwrap_err();
        assert_eq!(error.code(), Code::RequirementsError, "{line}");
        assert!(error.message().starts_with("line 3 "), "{error}");
        assert!(error.next_step().is_some());
    }
}

#[test]
fn a_continued_comment_hides_nothing() {
    assert!(check_requirements(b"# comment \\\n-r other.txt\n").is_err());
    assert!(check_requirements(b"numpy \\\n  # end\n-r other.txt\n").is_err());
}

#[test]
fn what_is_not_text_is_refused() {
    for content in [
        &b"\xff\xfen\0u\0"[..],
        b"num\xffpy",
        b"n\0",
        "x".repeat(300_000).as_bytes(),
    ] {
        assert_eq!(
            check_requirements(content).unwrap_err().code(),
            Code::RequirementsError
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(content in prop::collection::vec(any::<u8>(), 0..200), text in ".*") {
        let _ = check_requirements(&content);
        let _ = check_requirements(text.as_bytes());
    }
}
