//! How a runner's errors reach the caller.

use luthier_types::{
    Code,
    runner::{RunnerError, RunnerErrorKind},
};

use super::runner_error;

fn error(kind: RunnerErrorKind) -> RunnerError {
    RunnerError {
        kind,
        message: "no column `age`".into(),
        exception: Some("ValueError".into()),
        traceback: Some("Traceback…\nValueError: no column `age`".into()),
        module: None,
    }
}

#[test]
fn a_raising_model_is_told_with_its_exception_and_traceback() {
    let mapped = runner_error(&error(RunnerErrorKind::PredictRaised));
    assert_eq!(mapped.code(), Code::ModelServeError);
    assert_eq!(
        mapped.message(),
        "the model raised ValueError: no column `age`"
    );
    assert!(
        mapped
            .observed()
            .output
            .as_deref()
            .unwrap()
            .contains("Traceback")
    );
    assert!(mapped.next_step().is_some());
}

#[test]
fn the_exception_is_not_named_twice() {
    let mut raised = error(RunnerErrorKind::GetModelRaised);
    raised.message = "ValueError: no column `age`".into();
    assert_eq!(
        runner_error(&raised).message(),
        "`get_model()` raised ValueError: no column `age`"
    );
}

#[test]
fn a_missing_module_is_named_with_the_way_to_get_it() {
    let mut missing = error(RunnerErrorKind::MissingModule);
    missing.module = Some("xgboost".into());
    let mapped = runner_error(&missing);
    assert_eq!(mapped.code(), Code::InvalidPackage);
    assert_eq!(
        mapped.message(),
        "the package needs the module `xgboost`, which is not installed"
    );
    assert_eq!(
        mapped.next_step(),
        Some("Add the distribution that provides `xgboost` to requirements.txt.")
    );
}
