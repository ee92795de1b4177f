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
    let asked = Asked {
        package: vec!["typing-extensions", "pandas"],
        image: vec!["fiddler-client==3.0.3", "flask==2.2.5"],
        keeps: vec![("numpy<2", "pyarrow==14.0.1")],
        uri: "an-image:1",
    };
    let error = error(&outcome(IMAGE), "resolving", &asked);
    assert_eq!(error.code(), Code::RequirementsError);
    assert_eq!(
        error.next_step().unwrap(),
        "Change the pins of typing-extensions in requirements.txt. fiddler-client==3.0.3 comes \
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
    let asked = Asked {
        package: vec!["numpy"],
        keeps: vec![("numpy<2", "pyarrow==14.0.1")],
        ..Asked::default()
    };
    let error = error(&outcome(KEPT), "resolving", &asked);
    assert_eq!(
        error.next_step().unwrap(),
        "Change the pins of numpy in requirements.txt. numpy<2 is kept because the image's \
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
