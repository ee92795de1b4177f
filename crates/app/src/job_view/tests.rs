//! Tests of how jobs look to clients.

use jiff::Timestamp;
use luthier_types::{Code, Error};

use super::*;

fn job(status: JobStatus, error: Option<Error>) -> Job {
    Job {
        id: JobId::new(),
        kind: "k".to_owned(),
        name: "N".to_owned(),
        status,
        payload: Value::Null,
        info: Value::Null,
        progress: 50.0,
        exclusive_key: None,
        attempt: 1,
        cancel_requested: false,
        error,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn error() -> Error {
    Error::new(Code::DeploymentTimeout, "it took too long").hint("Give it more cpu.")
}

#[test]
fn info_is_an_object_and_absent_errors_are_null() {
    let seen = for_client(&job(JobStatus::Started, None), Value::Null);
    assert!(seen["info"].is_object());
    assert!(seen["progress"].is_number());
    assert_eq!(seen["error_message"], Value::Null);
    assert_eq!(seen["extras"], Value::Null);
}

#[test]
fn a_failure_has_its_code_and_its_next_step() {
    let seen = for_client(&job(JobStatus::Failure, Some(error())), Value::Null);
    assert_eq!(seen["error_reason"], "DeploymentTimeout");
    assert_eq!(seen["error_message"], "it took too long. Give it more cpu.");
}

#[test]
fn an_attempt_that_failed_is_not_a_failed_job() {
    let seen = for_client(&job(JobStatus::Retry, Some(error())), Value::Null);
    assert_eq!(seen["error_reason"], Value::Null);
    assert_eq!(
        for_people(&job(JobStatus::Retry, Some(error())))["error"]["code"],
        "DeploymentTimeout"
    );
}

#[test]
fn long_messages_are_cut_at_a_character() {
    let cut = bounded("é".repeat(MESSAGE_BYTES));
    assert!(cut.len() <= MESSAGE_BYTES + 3);
    assert!(cut.ends_with("é…"));
    assert_eq!(bounded("short".to_owned()), "short");
}

#[test]
fn verbose_tells_what_became_of_each_step() {
    let step = |name: &str, done: bool| Step {
        name: name.to_owned(),
        result: None,
        started_at: Timestamp::UNIX_EPOCH,
        finished_at: done.then_some(Timestamp::UNIX_EPOCH),
    };
    let extras = extras(
        &job(JobStatus::Failure, Some(error())),
        &[step("unpack", true), step("lock", false)],
    );
    assert_eq!(extras["unpack"]["status"], "SUCCESS");
    assert_eq!(extras["lock"]["status"], "FAILURE");
    assert_eq!(extras["lock"]["error_message"], "it took too long");
}
