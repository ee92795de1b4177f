//! Tests of the pure parts of a deploy request.

use luthier_types::{ArtifactType, DeploymentType, Mebibytes, Millicpu, Scaling};
use serde_json::json;

use super::{wanted::Wanted, *};

fn intent() -> Intent {
    Intent {
        artifact_type: ArtifactType::PythonPackage,
        deployment_type: DeploymentType::BaseContainer,
        active: false,
        replicas: 3,
        cpu: Millicpu(700),
        memory: Mebibytes(900),
        scaling: Scaling::default(),
        wanted_revision: None,
    }
}

#[test]
fn absent_figures_take_their_defaults_or_stay() {
    let params = DeploymentParams::default();
    let first = Wanted::new(&params, None).unwrap();
    assert_eq!((first.replicas, first.active), (1, true));
    assert_eq!(first.resources, Resources::default());
    let update = Wanted::new(&params, Some(&intent())).unwrap();
    assert_eq!(update.replicas, 3);
    assert_eq!(update.resources, intent().resources());
    assert!(update.active, "a new artifact serves");
}

#[test]
fn replicas_stay_within_the_range_of_the_deployment() {
    let mut current = intent();
    current.scaling.max_replicas = Some(4);
    let params = |n| DeploymentParams {
        replicas: Some(n),
        ..DeploymentParams::default()
    };
    let kept = Wanted::new(&params(4), Some(&current)).unwrap();
    assert_eq!(kept.scaling, current.scaling);
    let error = Wanted::new(&params(5), Some(&current)).unwrap_err();
    assert!(error.message().contains("above max_replicas"), "{error}");
}

#[test]
fn manual_deployments_are_not_active() {
    let params = DeploymentParams {
        deployment_type: Some(DeploymentType::Manual),
        ..DeploymentParams::default()
    };
    assert!(!Wanted::new(&params, None).unwrap().active);
}

#[test]
fn nothing_is_no_parameters() {
    for value in [None, Some(Value::Null), Some(json!({}))] {
        assert_eq!(parse_params(value).unwrap(), DeploymentParams::default());
    }
}
