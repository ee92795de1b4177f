//! Which states pass by themselves, and what is said of those that do not.

use jiff::Timestamp;
use luthier_types::{
    ArtifactType, DeploymentId, DeploymentType, Evidence, Resources, RevisionId, Scaling,
};

use super::*;

fn deployment(change: impl FnOnce(&mut Deployment)) -> Deployment {
    let mut d = Deployment {
        id: DeploymentId::new(),
        model_id: ModelId::new(),
        artifact_type: ArtifactType::PythonPackage,
        deployment_type: DeploymentType::BaseContainer,
        active: true,
        replicas: 1,
        resources: Resources::default(),
        scaling: Scaling::default(),
        wanted_revision: Some(RevisionId::new()),
        generation: 2,
        serving_revision: None,
        observed_generation: 2,
        phase: Phase::Starting,
        ready_replicas: 0,
        target_replicas: None,
        failure: None,
        crashes: 0,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    };
    change(&mut d);
    d
}

fn failure() -> Error {
    Error::new(Code::ModelServeError, "it ran out of memory")
        .hint("Give it more.")
        .evidence(Evidence {
            out_of_memory: Some(true),
            ..Evidence::default()
        })
}

#[test]
fn what_comes_up_by_itself_is_waited_for() {
    let cases = [
        deployment(|_| {}),
        // A restarted server, or a request that was quicker than the controller.
        deployment(|d| d.phase = Phase::Ready),
        // All that is known is of what was wanted before.
        deployment(|d| {
            d.observed_generation = 1;
            d.phase = Phase::Failed;
            d.failure = Some(failure());
            d.crashes = 9;
        }),
        deployment(|d| {
            d.observed_generation = 1;
            d.phase = Phase::Stopped;
        }),
    ];
    for d in cases {
        let error = of_deployment(&d);
        assert_eq!(error.code(), Code::ModelStarting, "{d:?}");
        assert!(!error.message().contains("memory"), "{error}");
        assert!(error.next_step().unwrap().contains("Try again"));
        assert!(error.observed().is_empty());
    }
}

#[test]
fn replicas_that_failed_are_waited_for_until_they_fail_again_and_again() {
    let crashed = |crashes| {
        of_deployment(&deployment(|d| {
            d.failure = Some(failure());
            d.crashes = crashes;
        }))
    };
    for crashes in 1..KEEPS_ENDING {
        let error = crashed(crashes);
        assert_eq!(error.code(), Code::ModelStarting);
        assert!(error.message().contains("ran out of memory"), "{error}");
        assert_eq!(error.observed().out_of_memory, Some(true));
    }
    let error = crashed(KEEPS_ENDING);
    assert_eq!(error.code(), Code::ModelUnavailable);
    assert!(error.message().contains("5 times"), "{error}");
    assert!(error.message().contains("ran out of memory"), "{error}");
    assert_eq!(error.next_step(), Some("Give it more."));
}

#[test]
fn what_has_failed_or_is_switched_off_is_not_waited_for() {
    let error = of_deployment(&deployment(|d| {
        d.phase = Phase::Failed;
        d.failure = Some(failure());
    }));
    assert_eq!(error.code(), Code::ModelUnavailable);
    assert!(error.message().contains("has failed: it ran"), "{error}");
    assert_eq!(error.next_step(), Some("Give it more."));
    assert_eq!(error.observed().out_of_memory, Some(true));

    let error = of_deployment(&deployment(|d| d.phase = Phase::Failed));
    assert_eq!(error.code(), Code::ModelUnavailable);

    let error = of_deployment(&deployment(|d| d.active = false));
    assert_eq!(error.code(), Code::ModelUnavailable);
    assert!(error.next_step().unwrap().contains("active"));
}
