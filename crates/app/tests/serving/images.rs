//! Which image a package gets, what is said of deprecated ones, and moving to another.

use luthier_app::{deploy::Mode, images::Move};
use luthier_jobs::Job;
use luthier_store::models;
use luthier_testkit::{
    Behaviour, GOOD_PACKAGE, IMAGE, JAVA_IMAGE, NEW_IMAGE, OLD_IMAGE, OTHER_IMAGE, World,
};
use luthier_types::{ArtifactStatus, Code, Error, JobStatus, ModelId};
use serde_json::{Value, json};

use crate::{deploy, deployed};

const GOOD: [(&str, &str); 1] = [("package.py", GOOD_PACKAGE)];

fn without_wheels() -> Error {
    Error::new(Code::RequirementsError, "no wheel fits")
}

/// Deploys these files with these parameters and waits for the end of the job.
async fn end(world: &World, model: ModelId, files: &[(&str, &str)], params: Value) -> Job {
    let mode = match world.app.deployment(model).await {
        Ok(_) => Mode::Update,
        Err(_) => Mode::Add,
    };
    let job = deploy(world, model, mode, files, params).await.unwrap();
    world.finished(job.id).await
}

/// The job's steps as an operator sees them: the result of one, and the whole log.
async fn seen(world: &World, job: &Job, step: &str) -> (Value, String) {
    let detail = world.app.job_detail(job.id).await.unwrap();
    let steps = detail["steps"].as_array().unwrap();
    let found = steps.iter().find(|s| s["name"] == step).unwrap();
    let log = detail["log"].as_array().unwrap().iter();
    let lines: Vec<_> = log.map(|l| l["line"].as_str().unwrap()).collect();
    (found["result"].clone(), lines.join("\n"))
}

async fn image(world: &World, model: ModelId) -> String {
    world
        .app
        .deployment(model)
        .await
        .unwrap()
        .image_uri
        .unwrap()
}

/// Another version of a model.
async fn version(world: &World, model: ModelId, version: &str) -> ModelId {
    let mut card = world.stored(model).await;
    card.id = ModelId::new();
    card.version = version.to_owned();
    card.artifact_status = ArtifactStatus::NoModel;
    let mut db = world.store().write().await.unwrap();
    models::insert(&mut db, &card).await.unwrap();
    db.commit().await.unwrap();
    card.id
}

async fn moved(world: &World, model: ModelId, request: Value) -> Job {
    let request: Move = serde_json::from_value(request).unwrap();
    let job = world.app.move_to_image(model, request).await.unwrap();
    world.finished(job.id).await
}

#[tokio::test]
async fn the_default_is_taken_when_wheels_do() {
    let world = World::new().await;
    let model = world.model("m").await;
    let job = end(&world, model, &GOOD, json!({})).await;
    assert_eq!(image(&world, model).await, IMAGE);
    let (locked, log) = seen(&world, &job, "lock").await;
    assert_eq!(locked["image_uri"], IMAGE);
    assert!(log.contains("no image was named; md-base/python/python-311:1.0.0 is the default"));
}

#[tokio::test]
async fn where_the_default_lacks_wheels_the_newest_that_has_them_is_taken() {
    let world = World::new().await;
    let model = world.model("m").await;
    world.envs.lacks_wheels(IMAGE, without_wheels());
    world.envs.lacks_wheels(NEW_IMAGE, without_wheels());
    let job = end(&world, model, &GOOD, json!({})).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    assert_eq!(image(&world, model).await, OTHER_IMAGE);
    let (locked, log) = seen(&world, &job, "lock").await;
    let why = locked["chosen"].as_str().unwrap();
    assert!(
        why.contains(OTHER_IMAGE) && why.contains(IMAGE) && why.contains(NEW_IMAGE),
        "{why}"
    );
    assert!(log.contains(why) && log.contains("no wheel fits"), "{log}");
    let extras = world.app.job(job.id, true).await.unwrap()["extras"].take();
    assert_eq!(extras["lock"]["result"]["chosen"], why);
}

#[tokio::test]
async fn where_no_image_has_wheels_the_default_builds_or_says_why_not() {
    let world = World::new().await;
    let model = world.model("m").await;
    for uri in [IMAGE, NEW_IMAGE, OTHER_IMAGE] {
        world.envs.lacks_wheels(uri, without_wheels());
    }
    let job = end(&world, model, &GOOD, json!({})).await;
    assert_eq!(job.status, JobStatus::Success);
    assert_eq!(image(&world, model).await, IMAGE);
    let (locked, _) = seen(&world, &job, "lock").await;
    assert!(
        locked["chosen"]
            .as_str()
            .unwrap()
            .contains("built from source")
    );

    let model = world.model("n").await;
    let error = Error::new(Code::RequirementsError, "there is no such package");
    world.envs.fail(Some(error));
    let job = end(&world, model, &GOOD, json!({})).await;
    assert_eq!(job.error.unwrap().message(), "there is no such package");
}

#[tokio::test]
async fn an_image_that_is_named_or_in_use_is_not_left() {
    let world = World::new().await;
    let model = world.model("m").await;
    world.envs.lacks_wheels(OTHER_IMAGE, without_wheels());
    end(&world, model, &GOOD, json!({ "image_uri": OTHER_IMAGE })).await;
    assert_eq!(image(&world, model).await, OTHER_IMAGE);
    let other = [("package.py", GOOD_PACKAGE), ("weights.txt", "1")];
    let job = end(&world, model, &other, json!({})).await;
    assert_eq!(job.status, JobStatus::Success);
    assert_eq!(image(&world, model).await, OTHER_IMAGE);
    assert_eq!(seen(&world, &job, "lock").await.0["chosen"], Value::Null);
}

#[tokio::test]
async fn a_package_that_needs_java_gets_it() {
    let world = World::new().await;
    let model = world.model("m").await;
    let files = [
        ("package.py", "import h2o\ndef get_model():\n    return 1\n"),
        ("requirements.txt", "h2o==3.46.0.5\n"),
    ];
    end(&world, model, &files, json!({})).await;
    assert_eq!(image(&world, model).await, JAVA_IMAGE);
}

#[tokio::test]
async fn a_deprecated_image_works_and_says_so_everywhere() {
    let world = World::new().await;
    let model = world.model("m").await;
    let job = end(&world, model, &GOOD, json!({ "image_uri": OLD_IMAGE })).await;
    assert_eq!(job.status, JobStatus::Success);
    let text = format!("the image {OLD_IMAGE} is deprecated; {OTHER_IMAGE} replaces it");
    let (locked, log) = seen(&world, &job, "lock").await;
    assert_eq!(locked["warnings"], json!([text]));
    assert!(log.contains(&text), "{log}");
    let shown = world.app.job(job.id, false).await.unwrap();
    assert_eq!(shown["info"]["warnings"], json!([text]));
    let view = world.app.deployment(model).await.unwrap();
    assert_eq!(view.image_replaced_by.as_deref(), Some(OTHER_IMAGE));
    let statuses = world.app.deployment_statuses().await.unwrap();
    assert_eq!(statuses[0]["image_replaced_by"], OTHER_IMAGE);
}

#[tokio::test]
async fn an_image_for_single_versions_refuses_a_model_that_has_several() {
    let world = World::new().await;
    let one = world.model("m").await;
    end(&world, one, &GOOD, json!({ "image_uri": OLD_IMAGE })).await;
    let two = version(&world, one, "v2").await;
    // The second version, and the first when it is deployed again.
    for (model, mode, params) in [
        (two, Mode::Add, json!({ "image_uri": OLD_IMAGE })),
        (one, Mode::Update, json!({})),
    ] {
        let error = deploy(&world, model, mode, &GOOD, params)
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::BadRequest);
        assert!(error.message().contains("single version"), "{error}");
        let hint = error.next_step().unwrap();
        assert!(hint.contains(OTHER_IMAGE), "{hint}");
    }
    let job = end(&world, two, &GOOD, json!({ "image_uri": OTHER_IMAGE })).await;
    assert_eq!(job.status, JobStatus::Success);
}

#[tokio::test]
async fn a_version_made_while_the_job_waits_is_seen_before_anything_is_published() {
    let mut world = World::without_worker().await;
    let one = world.model("m").await;
    let params = json!({ "image_uri": OLD_IMAGE });
    let job = deploy(&world, one, Mode::Add, &GOOD, params).await.unwrap();
    version(&world, one, "v2").await;
    world.work();
    let job = world.finished(job.id).await;
    assert_eq!(job.error.unwrap().code(), Code::BadRequest);
    assert!(world.app.deployment(one).await.is_err());
}

#[tokio::test]
async fn a_deployment_moves_to_another_image_and_back() {
    let world = World::new().await;
    let model = world.model("m").await;
    let first = deployed(&world, model).await;
    let change = json!({ "replicas": 2, "memory": 300 });
    let (_, job) = world.app.change_deployment(model, change).await.unwrap();
    world.finished(job.id).await;

    let job = moved(&world, model, json!({ "image_uri": NEW_IMAGE })).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    let view = world.app.deployment(model).await.unwrap();
    assert_eq!(view.image_uri.as_deref(), Some(NEW_IMAGE));
    let d = view.deployment;
    assert_eq!((d.replicas, d.resources.memory.0), (2, 300));
    assert_eq!(d.serving_revision.unwrap().0, job.id.0, "it proved itself");

    let locks = world.envs.locks();
    let job = moved(&world, model, json!({ "back": true })).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    assert_eq!(image(&world, model).await, IMAGE);
    assert_eq!(world.envs.locks(), locks, "the earlier lock serves again");
    let (then, _) = seen(&world, &first, "lock").await;
    let (now, _) = seen(&world, &job, "lock").await;
    assert_eq!(then["environment"], now["environment"]);
    // And forth again.
    moved(&world, model, json!({ "back": true })).await;
    assert_eq!(image(&world, model).await, NEW_IMAGE);
}

#[tokio::test]
async fn the_way_back_resolves_anew_for_another_package() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    let other = [("package.py", GOOD_PACKAGE), ("requirements.txt", "a==1\n")];
    end(&world, model, &other, json!({ "image_uri": NEW_IMAGE })).await;
    let locks = world.envs.locks();
    let job = moved(&world, model, json!({ "back": true })).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    assert_eq!(image(&world, model).await, IMAGE);
    assert_eq!(world.envs.locks(), locks + 1);
}

#[tokio::test]
async fn a_move_that_fails_leaves_the_old_revision_serving() {
    let world = World::new().await;
    let model = world.model("m").await;
    let first = deployed(&world, model).await;
    let failure = Error::new(Code::ModelServeError, "it crashed");
    world.controller.behave(Behaviour::Fail(failure));
    let job = moved(&world, model, json!({ "image_uri": NEW_IMAGE })).await;
    assert_eq!(job.error.unwrap().message(), "it crashed");
    let view = world.app.deployment(model).await.unwrap();
    assert_eq!(view.image_uri.as_deref(), Some(IMAGE));
    assert_eq!(view.deployment.serving_revision.unwrap().0, first.id.0);
    assert_eq!(
        world.layers("packages").len(),
        1,
        "the package is still used"
    );
}

#[tokio::test]
async fn a_deployment_that_rests_is_moved_resting() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    let stop = json!({ "active": false });
    let (_, job) = world.app.change_deployment(model, stop).await.unwrap();
    world.finished(job.id).await;
    let job = moved(&world, model, json!({ "image_uri": NEW_IMAGE })).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    let view = world.app.deployment(model).await.unwrap();
    assert_eq!(view.image_uri.as_deref(), Some(NEW_IMAGE));
    assert!(!view.deployment.active);
}

#[tokio::test]
async fn a_move_that_cannot_be_is_refused() {
    let world = World::new().await;
    let model = world.model("m").await;
    let refused = async |request: Value| {
        let request: Move = serde_json::from_value(request).unwrap();
        world.app.move_to_image(model, request).await.unwrap_err()
    };
    let error = refused(json!({ "image_uri": NEW_IMAGE })).await;
    assert!(error.message().contains("no artifact"), "{error}");
    deployed(&world, model).await;
    for (request, code, text) in [
        (json!({ "image_uri": IMAGE }), Code::BadRequest, "already"),
        (json!({ "back": true }), Code::BadRequest, "no image but"),
        (json!({}), Code::BadRequest, "either"),
        (
            json!({ "image_uri": "md-base/python/python-38:1.3.0" }),
            Code::UnknownImage,
            "38",
        ),
    ] {
        let error = refused(request.clone()).await;
        assert_eq!(error.code(), code, "{request}");
        assert!(error.message().contains(text), "{request}: {error}");
        assert!(error.next_step().is_some(), "{request}");
    }
}

#[tokio::test]
async fn the_catalogue_tells_who_uses_each_image() {
    let world = World::new().await;
    let model = world.model("m").await;
    end(&world, model, &GOOD, json!({ "image_uri": OLD_IMAGE })).await;
    let images = world.app.images().await.unwrap();
    let of = |uri: &str| images.iter().find(|i| i["uri"] == uri).unwrap();
    assert_eq!(of(OLD_IMAGE)["status"], "deprecated");
    assert_eq!(of(OLD_IMAGE)["replaced_by"], OTHER_IMAGE);
    assert_eq!(of(OLD_IMAGE)["deployments"][0]["model"], "m");
    assert_eq!(of(IMAGE)["deployments"], json!([]));
    assert_eq!(
        (&of(IMAGE)["default"], &of(OLD_IMAGE)["default"]),
        (&json!(true), &json!(false))
    );
}
