//! Outputs of `uv` as they were recorded.

use super::*;

const REFUSED: &str = "error: Request failed after 3 retries in 7.3s
  cause: Failed to fetch: http://127.0.0.1:9/simple/scikit-learn/
  cause: error sending request for url (http://127.0.0.1:9/simple/scikit-learn/)
  cause: client error (Connect)
  cause: tcp connect error
  cause: Connection refused (os error 111)
";
const DNS: &str = "error: Failed to fetch: https://index.invalid/simple/numpy/
  cause: error sending request for url (https://index.invalid/simple/numpy/)
  cause: client error (Connect)
  cause: dns error
  cause: failed to lookup address information: Name or service not known
";
const NO_VERSION: &str = "error: No solution found when resolving dependencies
  cause: Because there is no version of scikit-learn==99 and you require scikit-learn==99, we can conclude that your requirements are unsatisfiable.
";
const NO_PROJECT: &str = "error: No solution found when resolving dependencies
  cause: Because scikit-learn-nope was not found in the package registry and you require scikit-learn-nope, we can conclude that your requirements are unsatisfiable.
";
const SDIST: &str = "error: No solution found when resolving dependencies
  cause: Because docopt==0.6.2 has no usable wheels and you require docopt==0.6.2, we can conclude that your requirements are unsatisfiable.

hint: Wheels are required for `docopt` because building from source is disabled for all packages (i.e., with `--no-build`)
";
const IMAGE: &str = "error: No solution found when resolving dependencies
  cause: Because fiddler-client==3.0.3 depends on typing-extensions<=4.5.0 and you require fiddler-client==3.0.3, we can conclude that typing-extensions<=4.5.0. And because you require typing-extensions==4.12.0, we can conclude that your requirements are unsatisfiable.
";
const KEPT: &str = "error: No solution found when resolving dependencies
  cause: Because you require numpy==2.0.2 and numpy<2, we can conclude that your requirements are unsatisfiable.
";

const NOT_IN_WHEELHOUSE: &str = "error: No solution found when resolving dependencies
  cause: Because cachetools was not found in the provided package locations and you require cachetools==5.3.3, we can conclude that your requirements are unsatisfiable.
";
const NOT_IN_CACHE: &str = "error: No solution found when resolving dependencies
  cause: Because cachetools was not found in the cache and you require cachetools==5.3.3, we can conclude that your requirements are unsatisfiable.

hint: Packages were unavailable because the network was disabled. When the network is disabled, registry packages may only be read from the cache.
";

const UNAUTHORISED: &str = "error: No solution found when resolving dependencies
  cause: Because private was not found in the package registry and you require private==1.0, we can conclude that your requirements are unsatisfiable.

hint: An index URL (http://127.0.0.1:8080/simple/) could not be queried due to a lack of valid authentication credentials (401 Unauthorized)
";
const COMPILER: &str = "   Building ujson==1.35
running build_ext
gcc -c ./python/ujson.c
./python/ujson.c:38:10: fatal error: nothere.h: No such file or directory
compilation terminated.
error: command '/usr/bin/gcc' failed with exit code 1
error: Failed to build `ujson==1.35`
  cause: The build backend returned an error
";

fn line(text: &str, number: usize) -> Line {
    Line {
        text: text.to_owned(),
        name: pin_name(text),
        hashes: BTreeSet::new(),
        file: "requirements.txt".to_owned(),
        number,
    }
}

fn outcome(output: &str) -> Outcome {
    Outcome {
        exit_code: Some(1),
        signal: None,
        timed_out: false,
        output: output.to_owned(),
    }
}

#[test]
fn an_index_out_of_reach_is_told_from_requirements_that_cannot_be_met() {
    for (text, kind) in [
        (REFUSED, Kind::Unreachable),
        (DNS, Kind::Unreachable),
        (NO_VERSION, Kind::Unsatisfiable),
        (NO_PROJECT, Kind::Unsatisfiable),
        (IMAGE, Kind::Unsatisfiable),
        (SDIST, Kind::NeedsBuild),
        (UNAUTHORISED, Kind::Unauthorised),
        (COMPILER, Kind::BuildFailed),
    ] {
        assert_eq!(classify(&outcome(text)), kind, "{text}");
    }
    let stopped = Outcome {
        timed_out: true,
        ..outcome("")
    };
    assert_eq!(classify(&stopped), Kind::Unreachable);
}

#[test]
fn the_hint_names_the_pins_and_who_made_them() {
    let lines = [line("typing-extensions==4.12.0", 2), line("pandas", 3)];
    let asked = Asked {
        lines: lines.iter().collect(),
        image: vec!["fiddler-client==3.0.3", "flask==2.2.5"],
        keeps: vec![("numpy<2", "pyarrow==14.0.1")],
        uri: "an-image:1",
        ..Asked::default()
    };
    let error = error(&outcome(IMAGE), "resolving", &asked);
    assert_eq!(
        error.message(),
        "line 2 of requirements.txt (`typing-extensions==4.12.0`) cannot be met on the image \
         an-image:1, found while resolving"
    );
    assert_eq!(error.code(), Code::RequirementsError);
    assert_eq!(
        error.next_step().unwrap(),
        "Change the pin of typing-extensions (line 2 of requirements.txt). fiddler-client==3.0.3 comes \
         with the image; name it in requirements.txt with another version to replace it."
    );
    assert_eq!(error.observed().output.as_deref(), Some(IMAGE));
    assert_eq!(error.observed().exit_code, Some(1));
}

#[test]
fn the_packages_to_build_are_read() {
    assert_eq!(needs_build(&outcome(SDIST)), ["docopt".to_owned()].into());
    assert!(needs_build(&outcome("Wheels are required for `$(x)` because")).is_empty());
}

#[test]
fn the_hint_names_the_library_a_constraint_is_kept_for() {
    let lines = [line("numpy==2.0.2", 1)];
    let asked = Asked {
        lines: lines.iter().collect(),
        keeps: vec![("numpy<2", "pyarrow==14.0.1")],
        ..Asked::default()
    };
    let error = error(&outcome(KEPT), "resolving", &asked);
    assert_eq!(
        error.next_step().unwrap(),
        "Change the pin of numpy (line 1 of requirements.txt). numpy<2 is kept because the image's \
         pyarrow==14.0.1 needs it; name pyarrow in requirements.txt with another version to lift \
         it."
    );
}

#[test]
fn an_index_out_of_reach_may_be_tried_again() {
    let error = error(&outcome(REFUSED), "resolving", &Asked::default());
    assert_eq!(error.code(), Code::IndexUnreachable);
    assert!(error.code().retryable());
}

#[test]
fn what_a_server_without_a_network_lacks_is_to_be_given_to_it() {
    let lines = [line("cachetools==5.3.3", 4)];
    let asked = Asked {
        lines: lines.iter().collect(),
        offline: true,
        ..Asked::default()
    };
    for (output, words) in [
        (
            NOT_IN_WHEELHOUSE,
            "the wheelhouse has no package called cachetools",
        ),
        (
            NOT_IN_CACHE,
            "the server's cache has no package called cachetools",
        ),
    ] {
        let error = error(&outcome(output), "resolving", &asked);
        assert!(error.message().starts_with("line 4 of "), "{error}");
        assert!(error.message().contains(words), "{error}");
        assert!(
            error.next_step().unwrap().contains("LUTHIER_WHEELHOUSE"),
            "{error:?}"
        );
    }
    // What does not fit together is no matter of the wheelhouse.
    let error = error(&outcome(KEPT), "resolving", &asked);
    assert!(
        !error.next_step().unwrap().contains("LUTHIER_WHEELHOUSE"),
        "{error:?}"
    );
}

#[test]
fn each_kind_names_what_it_is_about() {
    let lines = [
        line("scikit-learn==99", 1),
        line("scikit-learn-nope", 2),
        line("docopt==0.6.2", 3),
        line("ujson==1.35", 4),
        line("private==1.0", 5),
    ];
    let asked = Asked {
        lines: lines.iter().collect(),
        uri: "an-image:1",
        addresses: vec![
            "http://127.0.0.1:8080/simple/".to_owned(),
            "https://pypi.org/simple".to_owned(),
        ],
        ..Asked::default()
    };
    for (output, words) in [
        (
            NO_VERSION,
            &["line 1 ", "there is no version of scikit-learn==99"][..],
        ),
        (
            NO_PROJECT,
            &["line 2 ", "no index has a package called scikit-learn-nope"],
        ),
        (SDIST, &["line 3 ", "docopt==0.6.2", "no ready-made wheel"]),
        (
            COMPILER,
            &["ujson==1.35 (line 4 of", "fatal error: nothere.h"],
        ),
        (
            UNAUTHORISED,
            &["http://127.0.0.1:8080/simple/ did not let the server in"],
        ),
    ] {
        let error = error(&outcome(output), "resolving", &asked);
        for word in words {
            assert!(error.message().contains(word), "{word}: {error}");
        }
    }
    let failed = error(&outcome(COMPILER), "building", &asked);
    assert!(
        failed
            .observed()
            .log
            .iter()
            .any(|l| l.contains("gcc' failed"))
    );
    let unauthorised = error(&outcome(UNAUTHORISED), "resolving", &asked);
    assert!(
        unauthorised
            .next_step()
            .unwrap()
            .contains("LUTHIER_INDEX_CREDENTIALS")
    );
    assert_eq!(unauthorised.code(), Code::IndexUnreachable);
}
