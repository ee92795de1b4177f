//! What is let through and what is refused.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Requirements> {
    Requirements::parse(&RequirementFiles::of(text))
}

fn names(text: &str) -> Vec<String> {
    parse(text).unwrap().names().into_iter().collect()
}

#[test]
fn names_are_read_from_every_usual_form() {
    let text = "\u{feff}# comment\n\
        scikit_learn==1.0.2\r\n\
        Pandas >= 1.5, < 2  # why\n\
        numpy\n\
        uvicorn[standard,extra]~=0.30; python_version > '3.8'\n\
        zope.interface (>=5)\n\
        torch==2.0 \\\n  --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000\n\
        model @ https://example.org/model-1-py3-none-any.whl#sha256=00\n\
        \n";
    assert_eq!(
        names(text),
        [
            "model",
            "numpy",
            "pandas",
            "scikit-learn",
            "torch",
            "uvicorn",
            "zope-interface"
        ]
    );
}

#[test]
fn a_file_of_comments_is_empty() {
    assert_eq!(parse("# a\n\n  # b\n").unwrap(), Requirements::default());
}

#[test]
fn what_would_reach_the_servers_files_secrets_or_code_is_refused() {
    for line in [
        "-r /etc/passwd",
        "--requirement=/etc/passwd",
        "-c other.txt",
        "-e .",
        "--index-url http://example.org",
        "--index-url file:///opt",
        "--extra-index-url=https://user:password@example.org/simple",
        "--extra-index-url https://",
        "--extra-index-url http://localhost.example.org/",
        "--index-url",
        "-f /opt",
        "-f ./wheels",
        "--no-index",
        "--trusted-host example.org",
        "--no-binary :all:",
        "--no-binary ../x",
        "--only-binary",
        "--config-settings a=b",
        "hg+https://example.org/x",
        "x @ git+ssh://git@example.org/x.git@main",
        "https://example.org/x.tar.gz",
        "https://example.org/x.whl",
        "x==1 --hash=md5:00",
        "x==1 --hash=sha256:00",
        "./here",
        "/abs/x-1-py3-none-any.whl",
        "x-1-py3-none-any.whl",
        "archive.tar.gz",
        "dir/sub",
        "git+https://example.org/x.git",
        "x @ git+https://example.org/x.git",
        "x @ file:///etc/x.whl",
        "x @ https://example.org/x-1.tar.gz#.whl",
        "x @ ./x.whl",
        "x @ /etc/x.whl",
        "x[a] @ file:///etc/x.whl",
        "x @ https://user:password@example.org/x.whl",
        "x @ https://example.org/${SECRET}/x.whl",
        "x==${SECRET}",
        "x==1 --config-settings=a=b",
        "x[@/etc/x.whl",
        "x==1 @ /etc/x.whl",
        "..",
        "x y",
        "numpy\r-r /etc/passwd",
        "numpy==1 \\ ",
        "numpy==1 -r /etc/passwd",
    ] {
        let error = parse(&format!("# first\n{line}\n")).unwrap_err();
        assert_eq!(error.code(), Code::RequirementsError, "{line}");
        assert!(error.message().contains("line 2"), "{line}: {error}");
        assert!(error.next_step().is_some(), "{line}");
        assert!(!error.public_text().contains("password@"), "{line}");
    }
}

#[test]
fn an_option_cannot_hide_behind_a_continued_line() {
    assert!(parse("numpy==1 \\\n-r /etc/passwd").is_err());
    assert!(parse("\\\n-r /etc/passwd").is_err());
    assert!(parse("# x \\\n-r /etc/passwd").is_err());
    assert!(parse("numpy\u{0b}\n\u{a0}-r /etc/passwd").is_err());
}

#[test]
fn included_files_ask_and_bound_and_each_line_knows_its_place() {
    let files = RequirementFiles(BTreeMap::from(
        [
            (
                "requirements.txt",
                "-r deps/base.txt\n-c deps/c.txt\n\nflask==3.0.3\n",
            ),
            ("deps/base.txt", "# first\nnumpy>=1.20\n-r ../more.txt\n"),
            ("more.txt", "pandas\n"),
            ("deps/c.txt", "numpy<2\n-r ../more.txt\n"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned())),
    ));
    let parsed = Requirements::parse(&files).unwrap();
    let places = |lines: &[Line]| -> Vec<String> {
        let place = |l: &Line| format!("{}: {}", l.place(), l.text);
        lines.iter().map(place).collect()
    };
    assert_eq!(
        places(&parsed.asked),
        [
            "line 2 of deps/base.txt: numpy>=1.20",
            "line 1 of more.txt: pandas",
            "line 4 of requirements.txt: flask==3.0.3",
        ]
    );
    assert_eq!(
        places(&parsed.bounds),
        [
            "line 1 of deps/c.txt: numpy<2",
            "line 1 of more.txt: pandas"
        ]
    );
    let error = parse("numpy\n-r missing.txt\n").unwrap_err();
    assert!(
        error.message().starts_with("line 2 of requirements.txt"),
        "{error}"
    );
}

#[test]
fn options_are_read_in_their_forms() {
    let parsed = parse(
        "--index-url https://example.org/simple\n-i https://example.org/simple\n\
         --extra-index-url=http://127.0.0.1:8080/simple\n-f https://example.org/links.html\n\
         --pre\n--prefer-binary\n--only-binary=:all:\n--only-binary :none:\n\
         --only-binary scikit_learn,numpy\n--no-binary rpy2\n",
    )
    .unwrap();
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect();
    assert_eq!(
        parsed.options,
        Options {
            origins: vec![
                "--extra-index-url https://example.org/simple".to_owned(),
                "--extra-index-url http://127.0.0.1:8080/simple".to_owned(),
                "--find-links https://example.org/links.html".to_owned(),
            ],
            pre: true,
            hashed: false,
            only_wheels: Names {
                all: false,
                some: names(&["numpy", "scikit-learn"]),
            },
            from_source: names(&["rpy2"]),
        }
    );
}

#[test]
fn hashes_are_taken_off_and_kept() {
    let digest = Digest::of("a");
    let parsed = parse(&format!(
        "--require-hashes\na==1; python_version>'3' \\\n --hash=sha256:{digest} --hash sha256:{}\n",
        Digest::of("b")
    ))
    .unwrap();
    assert_eq!(parsed.asked[0].text, "a==1; python_version>'3'");
    assert_eq!(parsed.hashes()["a"].len(), 2);
    let error = parse(&format!(
        "a==1 --hash=sha256:{digest}\nb==1\n--require-hashes\n"
    ))
    .unwrap_err();
    assert!(error.message().starts_with("line 2 "), "{error}");
}

#[test]
fn a_wheels_address_alone_is_given_its_name() {
    let url = "https://example.org/my_model-1.0-py3-none-any.whl#sha256=00";
    let parsed = parse(&format!("{url}\n")).unwrap();
    assert_eq!(parsed.asked[0].text, format!("my_model @ {url}"));
    assert_eq!(parsed.asked[0].name, "my-model");
}

#[test]
fn a_refusal_says_what_to_do_instead() {
    for (line, why, todo) in [
        ("x @ git+https://h/x.git", "version-control", "pip wheel"),
        ("-e .", "in place", "beside package.py"),
        ("./lib", "file or directory", "beside package.py"),
        (
            "--extra-index-url https://${USER}@h/",
            "environment variable",
            "LUTHIER_INDEX_CREDENTIALS",
        ),
        ("--find-links wheels/", "https://", "LUTHIER_WHEELHOUSE"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.message().contains(why), "{error}");
        assert!(error.next_step().unwrap().contains(todo), "{error:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in "\\PC{0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_named_package_is_found_however_it_is_written(
        name in "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,8}[a-zA-Z0-9])?",
        after in prop_oneof![Just(""), Just("==1.0"), Just(" >= 2,<3"), Just("[x]==1"), Just("; python_version<'4'")],
    ) {
        prop_assume!(!name.to_lowercase().contains(".t") && line::name(&name).is_some());
        let parsed = parse(&format!("{name}{after}\n")).unwrap();
        prop_assert!(parsed.names().contains(&normalised(&name)));
    }

    #[test]
    fn normalising_is_idempotent(name in "[a-zA-Z0-9._-]{1,12}") {
        prop_assert_eq!(normalised(&normalised(&name)), normalised(&name));
    }

    #[test]
    fn no_accepted_line_is_an_option_or_a_place(text in "[-a-z0-9 ./@:=\\\\\n#$\\{\\}\\[\\]]{0,40}") {
        if let Ok(parsed) = parse(&text) {
            for line in parsed.lines() {
                let line = &line.text;
                prop_assert!(line.starts_with(|c: char| c.is_ascii_alphanumeric()), "{}", line);
                prop_assert!(!line.contains("${"), "{}", line);
                prop_assert!(!line.contains("@ /") && !line.contains("@/") && !line.contains("file:"), "{}", line);
            }
        }
    }
}
