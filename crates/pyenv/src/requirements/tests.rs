//! What is let through and what is refused.

use proptest::prelude::*;

use super::*;

fn names(text: &str) -> Vec<String> {
    Requirements::parse(text)
        .unwrap()
        .names
        .into_iter()
        .collect()
}

#[test]
fn names_are_read_from_every_usual_form() {
    let text = "\u{feff}# comment\n\
        scikit_learn==1.0.2\r\n\
        Pandas >= 1.5, < 2  # why\n\
        numpy\n\
        uvicorn[standard,extra]~=0.30; python_version > '3.8'\n\
        zope.interface (>=5)\n\
        torch==2.0 \\\n  --hash=sha256:00\n\
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
    assert_eq!(
        Requirements::parse("# a\n\n  # b\n").unwrap(),
        Requirements::default()
    );
}

#[test]
fn what_would_reach_the_servers_files_secrets_or_code_is_refused() {
    for line in [
        "-r /etc/passwd",
        "--requirement=/etc/passwd",
        "-c other.txt",
        "-e .",
        "--index-url https://example.org",
        "--extra-index-url=https://example.org",
        "-f /opt",
        "./here",
        "/abs/x-1-py3-none-any.whl",
        "x-1-py3-none-any.whl",
        "archive.tar.gz",
        "dir/sub",
        "https://example.org/x-1-py3-none-any.whl",
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
        let error = Requirements::parse(&format!("# first\n{line}\n")).unwrap_err();
        assert_eq!(error.code(), Code::RequirementsError, "{line}");
        assert!(error.message().contains("line 2"), "{line}: {error}");
        assert!(error.next_step().is_some(), "{line}");
        assert!(!error.public_text().contains("password@"), "{line}");
    }
}

#[test]
fn an_option_cannot_hide_behind_a_continued_line() {
    assert!(Requirements::parse("numpy==1 \\\n-r /etc/passwd").is_err());
    assert!(Requirements::parse("\\\n-r /etc/passwd").is_err());
    assert!(Requirements::parse("# x \\\n-r /etc/passwd").is_err());
    assert!(Requirements::parse("numpy\u{0b}\n\u{a0}-r /etc/passwd").is_err());
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in "\\PC{0,80}") {
        let _ = Requirements::parse(&text);
    }

    #[test]
    fn a_named_package_is_found_however_it_is_written(
        name in "[a-zA-Z0-9]([a-zA-Z0-9._-]{0,8}[a-zA-Z0-9])?",
        after in prop_oneof![Just(""), Just("==1.0"), Just(" >= 2,<3"), Just("[x]==1"), Just("; python_version<'4'")],
    ) {
        prop_assume!(!name.to_lowercase().contains(".t") && super::name(&name).is_some());
        let parsed = Requirements::parse(&format!("{name}{after}\n")).unwrap();
        prop_assert!(parsed.names.contains(&normalised(&name)));
    }

    #[test]
    fn normalising_is_idempotent(name in "[a-zA-Z0-9._-]{1,12}") {
        prop_assert_eq!(normalised(&normalised(&name)), normalised(&name));
    }

    #[test]
    fn no_accepted_line_is_an_option_or_a_place(text in "[-a-z0-9 ./@:=\\\\\n#$\\{\\}\\[\\]]{0,40}") {
        if let Ok(parsed) = Requirements::parse(&text) {
            for line in parsed.lines {
                prop_assert!(line.starts_with(|c: char| c.is_ascii_alphanumeric()), "{}", line);
                prop_assert!(!line.contains("${"), "{}", line);
                prop_assert!(!line.contains("@ /") && !line.contains("@/") && !line.contains("file:"), "{}", line);
            }
        }
    }
}
