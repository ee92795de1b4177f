//! Deploy requests, failures of deployments, changes, downloads.

use luthier_app::deploy::{DeployRequest, Mode};
use luthier_testkit::{Behaviour, GOOD_PACKAGE, World, archive};
use luthier_types::{ArtifactStatus, Code, Error, FileId, JobStatus, ModelId};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::{deploy, deployed};

const GOOD: [(&str, &str); 1] = [("package.py", GOOD_PACKAGE)];

#[tokio::test]
async fn a_deployed_model_shows_its_artifact_and_deployment() {
    let world = World::new().await;
    let model = world.model("m").await;
    let job = deployed(&world, model).await;
    let stored = world.stored(model).await;
    assert_eq!(stored.artifact_status, ArtifactStatus::UserUploaded);
    assert_eq!(stored.artifact_files[0]["name"], "package.py");
    let view = world.app.deployment(model).await.unwrap();
    assert!(view.deployment.active);
    assert_eq!(view.image_uri.as_deref(), Some(luthier_testkit::IMAGE));
    let mut bytes = vec![];
    let mut download = world.app.download_artifact(model).await.unwrap();
    download.reader.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, archive(&GOOD));
    let seen = world.app.job(job.id, true).await.unwrap();
    assert_eq!(seen["name"], "Deploy artifact model - manual");
    assert_eq!(seen["info"]["resource_type"], "MODEL");
    assert_eq!(seen["progress"], 100.0);
    assert_eq!(seen["extras"]["unpack"]["status"], "SUCCESS");
    assert_eq!(seen["error_reason"], Value::Null);
}

#[tokio::test]
async fn wrong_parameters_are_refused_with_their_name() {
    let world = World::without_worker().await;
    let model = world.model("m").await;
    for (params, code, text) in [
        (json!({ "cpu": 5 }), Code::BadRequest, "cpu is 5"),
        (json!({ "cpu": 0.5 }), Code::BadRequest, "deployment_params"),
        (json!({ "memory": 100 }), Code::BadRequest, "memory is 100"),
        (
            json!({ "replicas": 11 }),
            Code::BadRequest,
            "replicas is 11",
        ),
        (
            json!({ "replicas": -1 }),
            Code::BadRequest,
            "deployment_params",
        ),
        (json!({ "memroy": 500 }), Code::BadRequest, "memroy"),
        (json!({ "artifact_type": "ZIP" }), Code::BadRequest, "ZIP"),
        (
            json!({ "artifact_type": "SURROGATE" }),
            Code::BadRequest,
            "SURROGATE",
        ),
        (
            json!({ "deployment_type": "CLOUD" }),
            Code::BadRequest,
            "CLOUD",
        ),
        (json!([]), Code::BadRequest, "deployment_params"),
        (
            json!({ "image_uri": "md-base/python/python-311:1.0.1" }),
            Code::UnknownImage,
            "python-311:1.0.1",
        ),
        (
            json!({ "replicas": 3, "memory": 2000 }),
            Code::CapacityExceeded,
            "6000 MiB of memory (3 × 2000), where 4096 of 4096 are free",
        ),
        (
            json!({ "replicas": 10, "cpu": 1000 }),
            Code::CapacityExceeded,
            "10000 millicpu",
        ),
    ] {
        let error = deploy(&world, model, Mode::Add, &GOOD, params.clone())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{params}");
        assert!(error.message().contains(text), "{params}: {error}");
        assert!(error.next_step().is_some(), "{params}");
    }
    assert!(world.queue().list(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_closest_image_is_named() {
    let world = World::without_worker().await;
    let model = world.model("m").await;
    let params = json!({ "image_uri": "md-base/python/python-39:2.0.1" });
    let error = deploy(&world, model, Mode::Add, &GOOD, params)
        .await
        .unwrap_err();
    let hint = error.next_step().unwrap();
    assert!(
        hint.starts_with("The nearest that would do is `md-base/python/python-39:2.0.2`."),
        "{hint}"
    );
    assert!(hint.contains("python-311:1.0.0"));
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let world = World::without_worker().await;
    let model = world.model("m").await;
    let app = &world.app;
    let request = DeployRequest {
        file_id: FileId::new(),
        deployment_params: None,
        limits: None,
    };
    let error = app
        .deploy_artifact(model, request.clone(), Mode::Add, false)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let error = app
        .deploy_artifact(ModelId::new(), request, Mode::Add, false)
        .await
        .unwrap_err();
    assert_eq!(error.message(), "Model not found for the given identifier");
    let error = app.deployment(model).await.unwrap_err();
    assert_eq!(
        error.message(),
        "Model deployment not found for the given identifier"
    );
    let error = app.download_artifact(model).await.err().unwrap();
    assert_eq!(error.message(), "Model artifact not found for project-m/m");
    let error = app.change_deployment(model, json!({})).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test]
async fn add_and_update_each_want_their_state() {
    let world = World::new().await;
    let model = world.model("m").await;
    let error = deploy(&world, model, Mode::Update, &GOOD, json!({}))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);
    deployed(&world, model).await;
    let error = deploy(&world, model, Mode::Add, &GOOD, json!({}))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);
    assert!(error.message().contains("already has an artifact"));
    assert!(error.message().contains("update_model_artifact"));
}

#[tokio::test]
async fn a_repeated_request_is_answered_with_the_first_ones_job() {
    let world = World::without_worker().await;
    let model = world.model("m").await;
    let request = DeployRequest {
        file_id: world.file(archive(&GOOD)).await,
        deployment_params: None,
        limits: None,
    };
    let app = &world.app;
    let first = app
        .deploy_artifact(model, request.clone(), Mode::Add, false)
        .await
        .unwrap();
    let again = app
        .deploy_artifact(model, request.clone(), Mode::Add, true)
        .await
        .unwrap();
    assert_eq!(first, again);
    // Not a repeat: the artifact is on its way already.
    let error = app
        .deploy_artifact(model, request, Mode::Add, false)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);
    assert_eq!(world.queue().list(9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_failure_of_the_replicas_is_the_jobs_with_all_it_carries() {
    let world = World::new().await;
    let model = world.model("m").await;
    let failure = Error::new(
        Code::InvalidPackage,
        "the package needs the module `sklearn.svm`, which is not installed",
    )
    .hint("Add it.")
    .evidence(luthier_types::Evidence::output("Traceback: line 3"));
    world.controller.behave(Behaviour::Fail(failure));
    let job = deploy(&world, model, Mode::Add, &GOOD, json!({}))
        .await
        .unwrap();
    world.finished(job.id).await;
    let seen = world.app.job(job.id, false).await.unwrap();
    assert_eq!(seen["status"], "FAILURE");
    assert_eq!(seen["error_reason"], "InvalidPackage");
    let message = seen["error_message"].as_str().unwrap();
    for text in [
        "sklearn.svm",
        "Add `scikit-learn` to requirements.txt",
        "line 3",
    ] {
        assert!(message.contains(text), "{message}");
    }
    // Nothing is left, and the next attempt is a first one again.
    assert_eq!(world.layers("packages"), [""; 0]);
    assert!(world.app.deployment(model).await.is_err());
    world.controller.behave(Behaviour::Serve);
    deployed(&world, model).await;
}

#[tokio::test]
async fn bad_packages_fail_and_leave_nothing() {
    let world = World::new().await;
    for (name, files, code) in [
        ("empty", vec![("model.pkl", "")], Code::InvalidPackage),
        (
            "broken",
            vec![("package.py", "def get_model(:")],
            Code::InvalidPackage,
        ),
        (
            "hollow",
            vec![("package.py", "x = 1")],
            Code::InvalidPackage,
        ),
        (
            "reaching",
            vec![
                ("package.py", GOOD_PACKAGE),
                ("requirements.txt", "-r /etc/passwd\n"),
            ],
            Code::RequirementsError,
        ),
    ] {
        let model = world.model(name).await;
        let job = deploy(&world, model, Mode::Add, &files, json!({}))
            .await
            .unwrap();
        let job = world.finished(job.id).await;
        assert_eq!(job.status, JobStatus::Failure, "{name}");
        assert_eq!(job.error.unwrap().code(), code, "{name}");
        assert_eq!(world.layers("packages"), [""; 0], "{name}");
        assert_eq!(world.layers("scratch"), [""; 0], "{name}");
    }
    let model = world.model("noise").await;
    let request = DeployRequest {
        file_id: world.file(b"not an archive".to_vec()).await,
        deployment_params: None,
        limits: None,
    };
    let job = world
        .app
        .deploy_artifact(model, request, Mode::Add, false)
        .await
        .unwrap();
    let job = world.finished(job.id).await;
    assert_eq!(job.error.unwrap().code(), Code::InvalidPackage);
}

#[tokio::test]
async fn a_package_that_another_model_uses_stays() {
    let world = World::new().await;
    let (one, two) = (world.model("one").await, world.model("two").await);
    deployed(&world, one).await;
    let failure = Error::new(Code::ModelServeError, "it crashed");
    world.controller.behave(Behaviour::Fail(failure));
    let job = deploy(&world, two, Mode::Add, &GOOD, json!({}))
        .await
        .unwrap();
    assert_eq!(world.finished(job.id).await.status, JobStatus::Failure);
    assert_eq!(world.layers("packages").len(), 1);
}

#[tokio::test]
async fn an_index_out_of_reach_is_tried_again_and_then_said() {
    let world = World::new().await;
    let model = world.model("m").await;
    let error = Error::new(Code::IndexUnreachable, "the index does not answer");
    world.envs.fail(Some(error));
    let job = deploy(&world, model, Mode::Add, &GOOD, json!({}))
        .await
        .unwrap();
    let job = world.finished(job.id).await;
    assert_eq!(job.error.unwrap().code(), Code::IndexUnreachable);
    assert_eq!(world.envs.locks(), 4);
}

#[tokio::test]
async fn a_manual_deployment_is_stored_and_not_started() {
    let world = World::new().await;
    let model = world.model("m").await;
    let params = json!({ "deployment_type": "MANUAL" });
    let job = deploy(&world, model, Mode::Add, &GOOD, params)
        .await
        .unwrap();
    assert_eq!(world.finished(job.id).await.status, JobStatus::Success);
    let view = world.app.deployment(model).await.unwrap();
    assert!(!view.deployment.active);
    let stored = world.stored(model).await;
    assert_eq!(stored.artifact_status, ArtifactStatus::UserUploaded);
    let (view, job) = world
        .app
        .change_deployment(model, json!({ "active": true }))
        .await
        .unwrap();
    assert!(view.deployment.active, "shown as it will be");
    assert_eq!(world.finished(job.id).await.status, JobStatus::Success);
    assert!(world.app.deployment(model).await.unwrap().deployment.active);
}

#[tokio::test]
async fn a_change_applies_what_it_names_and_nothing_else() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    let change = json!({ "active": null, "replicas": 2, "memory": 300 });
    let (_, job) = world.app.change_deployment(model, change).await.unwrap();
    assert_eq!(world.finished(job.id).await.status, JobStatus::Success);
    let d = world.app.deployment(model).await.unwrap().deployment;
    assert_eq!((d.active, d.replicas), (true, 2));
    assert_eq!((d.resources.cpu.0, d.resources.memory.0), (100, 300));
    // No difference is a job all the same.
    let (_, job) = world.app.change_deployment(model, json!({})).await.unwrap();
    assert_eq!(world.finished(job.id).await.status, JobStatus::Success);
    let again = world.app.deployment(model).await.unwrap().deployment;
    assert_eq!(again.generation, d.generation);
}

#[tokio::test]
async fn a_change_that_cannot_be_is_refused() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    for (change, code) in [
        (json!({ "image_uri": "x" }), Code::BadRequest),
        (json!({ "replicas": 0 }), Code::BadRequest),
        (json!({ "cpu": 5000 }), Code::BadRequest),
        (json!({ "active": "yes" }), Code::BadRequest),
        (json!([]), Code::BadRequest),
        (
            json!({ "replicas": 10, "memory": 500 }),
            Code::CapacityExceeded,
        ),
    ] {
        let error = world
            .app
            .change_deployment(model, change.clone())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{change}");
    }
}

#[tokio::test]
async fn deployments_share_the_machine() {
    let world = World::new().await;
    let (one, two) = (world.model("one").await, world.model("two").await);
    let big = json!({ "memory": 3000 });
    let job = deploy(&world, one, Mode::Add, &GOOD, big.clone())
        .await
        .unwrap();
    world.finished(job.id).await;
    let error = deploy(&world, two, Mode::Add, &GOOD, big.clone())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::CapacityExceeded);
    assert!(error.message().contains("1096 of 4096 are free"), "{error}");
    let (_, job) = world
        .app
        .change_deployment(one, json!({ "active": false }))
        .await
        .unwrap();
    world.finished(job.id).await;
    let job = deploy(&world, two, Mode::Add, &GOOD, big).await.unwrap();
    assert_eq!(world.finished(job.id).await.status, JobStatus::Success);
}

#[tokio::test]
async fn the_operators_views_tell_of_steps_logs_and_deployments() {
    let world = World::new().await;
    let model = world.model("m").await;
    let job = deployed(&world, model).await;
    let detail = world.app.job_detail(job.id).await.unwrap();
    let steps: Vec<_> = detail["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["name"].as_str().unwrap(), s["status"].as_str().unwrap()))
        .collect();
    assert_eq!(steps.len(), 7);
    assert!(steps.iter().all(|(_, status)| *status == "done"));
    let lines: Vec<_> = detail["log"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| &l["line"])
        .collect();
    assert!(lines.contains(&&json!("resolved 0 lines")), "{lines:?}");
    assert_eq!(
        world.app.jobs(10).await.unwrap()[0]["kind"],
        "deploy_artifact"
    );
    let statuses = world.app.deployment_statuses().await.unwrap();
    assert_eq!(statuses[0]["model"], "m");
    assert_eq!(statuses[0]["phase"], "ready");
    let query = luthier_app::logs::LogsQuery::last(10);
    assert!(
        world
            .app
            .replica_logs(model, query)
            .await
            .unwrap()
            .is_empty()
    );
}
