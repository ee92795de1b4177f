//! Which failures clients repeat, and what of them they show.

use super::*;

#[test]
fn a_permanent_failure_is_never_a_status_that_clients_repeat() {
    for code in Code::ALL {
        let status = status(code);
        let repeated = status == StatusCode::TOO_MANY_REQUESTS
            || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED);
        let may_pass = code.retryable() || code == Code::Internal;
        assert_eq!(repeated, may_pass, "{code} as {status}");
    }
}

#[test]
fn what_was_observed_reaches_the_client() {
    let error = Error::new(Code::ModelServeError, "the model raised ValueError")
        .hint("Look at the traceback.")
        .evidence(luthier_types::Evidence::output("Traceback: line 3"));
    assert_eq!(
        headline(&error),
        "the model raised ValueError. Look at the traceback.\n\nTraceback: line 3"
    );
    let error = Error::new(Code::NotFound, "Project not found for the given identifier")
        .hint("Check the identifier.");
    assert_eq!(
        headline(&error),
        "Project not found for the given identifier"
    );
}
