//! A model's history, and going back in it.

use luthier_app::{
    deploy::{DeployRequest, Mode},
    revisions::Rollback,
    upkeep::KEPT_REVISIONS,
};
use luthier_jobs::Job;
use luthier_store::rollouts::{self, Rollout};
use luthier_testkit::{Behaviour, GOOD_PACKAGE, NEW_IMAGE, World, archive};
use luthier_types::{Code, Comparison, Error, JobStatus, Limits, ModelId, RevisionId};
use serde_json::{Value, json};

use crate::{deploy, deployed};

/// Deploys a package that differs from others by its number.
async fn update(world: &World, model: ModelId, number: u32, params: Value) -> Job {
    let weights = number.to_string();
    let requirements = format!("a=={number}\n");
    let files = [
        ("package.py", GOOD_PACKAGE),
        ("weights.txt", weights.as_str()),
        ("requirements.txt", requirements.as_str()),
    ];
    let job = deploy(world, model, Mode::Update, &files, params)
        .await
        .unwrap();
    world.finished(job.id).await
}

async fn back(world: &World, model: ModelId, to: Option<i64>) -> Job {
    let job = world.app.roll_back(model, Rollback { to }).await.unwrap();
    world.finished(job.id).await
}

async fn refused(world: &World, model: ModelId, to: Option<i64>) -> Error {
    let refused = world.app.roll_back(model, Rollback { to }).await;
    refused.unwrap_err()
}

/// Number and outcome of each revision, newest first.
async fn outcomes(world: &World, model: ModelId) -> Vec<(i64, String)> {
    let history = world.app.history(model).await.unwrap();
    let one = |r: &Value| {
        let outcome = r["outcome"].as_str().unwrap().to_owned();
        (r["number"].as_i64().unwrap(), outcome)
    };
    history.iter().map(one).collect()
}

/// What the wanted revision is made of.
async fn made_of(world: &World, model: ModelId) -> (Value, Value, Value) {
    let r = world.app.revision(model, None).await.unwrap();
    (r["package"].clone(), r["env"].clone(), r["image"].clone())
}

#[tokio::test]
async fn the_history_tells_what_became_of_each_revision() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    update(&world, model, 1, json!({})).await;
    let failure = Error::new(Code::ModelServeError, "it crashed").hint("Mend it.");
    world.controller.behave(Behaviour::Fail(failure));
    let failed = update(&world, model, 2, json!({})).await;
    assert_eq!(failed.status, JobStatus::Failure);
    world.controller.behave(Behaviour::Serve);
    let expected = [(3, "failed"), (2, "current"), (1, "served")];
    assert_eq!(
        outcomes(&world, model).await,
        expected.map(|(n, o)| (n, o.to_owned()))
    );
    let history = world.app.history(model).await.unwrap();
    assert_eq!(history[0]["failure"]["code"], "ModelServeError");
    assert_eq!(history[0]["failure"]["message"], "it crashed");
    assert_eq!(history[0]["job"], failed.id.to_string());
    assert_eq!(history[0]["kept"], false);
    assert_eq!(history[2]["cause"], "first artifact");
    assert_eq!(history[1]["cause"], "update");
    // Counted per model, and a failed number is not given again.
    let other = world.model("n").await;
    deployed(&world, other).await;
    assert_eq!(outcomes(&world, other).await, [(1, "current".to_owned())]);
    update(&world, model, 3, json!({})).await;
    assert_eq!(outcomes(&world, model).await[0].0, 4);
}

#[tokio::test]
async fn the_way_back_gives_exactly_what_served_before() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    let first = made_of(&world, model).await;
    let params = json!({ "image_uri": NEW_IMAGE, "replicas": 2 });
    update(&world, model, 1, params).await;
    let second = made_of(&world, model).await;
    assert!(first.0 != second.0 && first.1 != second.1 && first.2 != second.2);
    let locks = world.envs.locks();

    let job = back(&world, model, None).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    assert_eq!(job.info["cause"], "rollback to 1");
    assert_eq!(made_of(&world, model).await, first);
    assert_eq!(world.envs.locks(), locks, "nothing is resolved again");
    let d = world.app.deployment(model).await.unwrap().deployment;
    assert_eq!(d.serving_revision.unwrap().0, job.id.0, "it proved itself");
    assert_eq!(d.replicas, 2, "what is not the revision's stays");
    let files = world.stored(model).await.artifact_files;
    assert_eq!(files.len(), 1, "the artifact is the earlier one: {files:?}");

    // Without a number it goes forth again; with one, anywhere.
    back(&world, model, None).await;
    assert_eq!(made_of(&world, model).await, second);
    update(&world, model, 2, json!({})).await;
    back(&world, model, Some(1)).await;
    assert_eq!(made_of(&world, model).await, first);
    assert_eq!(outcomes(&world, model).await[0], (6, "current".to_owned()));
}

#[tokio::test]
async fn a_way_back_that_fails_leaves_what_serves() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    update(&world, model, 1, json!({})).await;
    let second = made_of(&world, model).await;
    let failure = Error::new(Code::ModelServeError, "it crashed");
    world.controller.behave(Behaviour::Fail(failure));
    let job = back(&world, model, Some(1)).await;
    assert_eq!(job.error.unwrap().message(), "it crashed");
    assert_eq!(made_of(&world, model).await, second);
    assert_eq!(outcomes(&world, model).await[0], (3, "failed".to_owned()));
    // What it was made of is still there to be gone back to.
    world.controller.behave(Behaviour::Serve);
    let job = back(&world, model, Some(1)).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
}

#[tokio::test]
async fn a_way_back_that_leads_nowhere_is_refused() {
    let world = World::new().await;
    let model = world.model("m").await;
    let error = refused(&world, model, None).await;
    assert!(error.message().contains("nothing was deployed"), "{error}");
    deployed(&world, model).await;
    for (to, code, text) in [
        (None, Code::BadRequest, "no other revision has served"),
        (Some(1), Code::BadRequest, "already"),
        (Some(7), Code::NotFound, "no revision 7"),
    ] {
        let error = refused(&world, model, to).await;
        assert_eq!(error.code(), code, "{to:?}");
        assert!(error.message().contains(text), "{to:?}: {error}");
        assert!(error.next_step().is_some(), "{to:?}");
    }
    world
        .controller
        .behave(Behaviour::Fail(Error::new(Code::ModelServeError, "no")));
    update(&world, model, 1, json!({})).await;
    let error = refused(&world, model, Some(2)).await;
    assert_eq!(error.code(), Code::NotFound);
    assert!(
        error.message().contains("failed and was not kept"),
        "{error}"
    );
}

#[tokio::test]
async fn a_revision_that_rests_is_gone_back_from_resting() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    update(&world, model, 1, json!({})).await;
    let stop = json!({ "active": false });
    let (_, job) = world.app.change_deployment(model, stop).await.unwrap();
    world.finished(job.id).await;
    let job = back(&world, model, None).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    let d = world.app.deployment(model).await.unwrap().deployment;
    assert!(!d.active);
    assert_eq!(outcomes(&world, model).await[0], (3, "stored".to_owned()));
    let start = json!({ "active": true });
    let (_, job) = world.app.change_deployment(model, start).await.unwrap();
    world.finished(job.id).await;
    assert_eq!(outcomes(&world, model).await[0], (3, "current".to_owned()));
}

#[tokio::test]
async fn the_newest_revisions_are_kept_with_all_they_need_and_older_ones_say_that_they_are_gone() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    for number in 1..=KEPT_REVISIONS + 1 {
        let job = update(&world, model, number, json!({})).await;
        assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    }
    // The uploads themselves are only kept for a day.
    sqlx::query("UPDATE files SET updated_at = updated_at - 2 * 86400000000")
        .execute(world.store().pool())
        .await
        .unwrap();
    let swept = world.app.sweep().await.unwrap();
    assert_eq!((swept.revisions, swept.packages.len()), (2, 2));
    crate::data_trials::blobs(&world).await;
    assert_eq!(world.layers("packages").len(), KEPT_REVISIONS as usize);
    let unused = world.app.unused_envs().await.unwrap();
    assert_eq!(unused.len(), 2, "the environments of the others are in use");

    let error = refused(&world, model, Some(2)).await;
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("revision 2 is gone"), "{error}");
    let oldest = back(&world, model, Some(3)).await;
    assert_eq!(oldest.status, JobStatus::Success, "{:?}", oldest.error);
    let history = world.app.history(model).await.unwrap();
    let kept = |n: i64| &history.iter().find(|r| r["number"] == n).unwrap()["kept"];
    assert_eq!((kept(2), kept(3)), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn what_serves_is_kept_however_old() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    sqlx::query(
        "INSERT INTO rollouts (revision_id, model_id, number, cause, image_uri, env, package,
             archive, archive_size, created_at)
         WITH RECURSIVE n (n) AS (SELECT 2 UNION SELECT n + 1 FROM n WHERE n < 200)
         SELECT 'r' || n, model_id, n, cause, image_uri, env, package,
             CASE WHEN n > 150 THEN archive END, 0, 0 FROM rollouts, n",
    )
    .execute(world.store().pool())
    .await
    .unwrap();
    sqlx::query("UPDATE rollouts SET revision_id = lower(hex(randomblob(4))) || '-0000-7000-8000-' || printf('%012d', number) WHERE number > 1")
        .execute(world.store().pool())
        .await
        .unwrap();
    world.app.sweep().await.unwrap();
    let history = world.app.history(model).await.unwrap();
    let first = history.last().unwrap();
    assert_eq!(
        (&first["number"], &first["kept"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(first["outcome"], "current");
    assert_eq!(history.len(), 101, "the hundred newest and what serves");
    assert!(world.app.revision(model, None).await.is_ok());
}

#[tokio::test]
async fn a_held_revision_is_kept_until_it_is_approved() {
    let world = World::new().await;
    let model = world.model("m").await;
    world
        .dataset(model, "d", "id,a,b,c,y\n1,1,2,x,3\n2,3,4,z,5\n")
        .await;
    deployed(&world, model).await;
    let serving = made_of(&world, model).await;
    let held = Error::new(Code::RolloutHeld, "it differs");
    world.controller.behave(Behaviour::Fail(held));
    let job = update(&world, model, 1, json!({})).await;
    assert_eq!(job.error.unwrap().code(), Code::RolloutHeld);
    assert_eq!(made_of(&world, model).await, serving, "the old one serves");
    assert_eq!(outcomes(&world, model).await[0], (2, "held".to_owned()));
    // All that it needs is kept, whatever is swept.
    world.app.sweep().await.unwrap();
    assert_eq!(world.layers("packages").len(), 2);
    crate::data_trials::blobs(&world).await;

    world.controller.behave(Behaviour::Serve);
    let job = world.app.approve(model).await.unwrap();
    let job = world.finished(job.id).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    assert_eq!(job.info["cause"], "approval of 2");
    assert_ne!(made_of(&world, model).await, serving);
    let error = world.app.approve(model).await.unwrap_err();
    assert!(error.message().contains("no revision is held"), "{error}");
}

#[tokio::test]
async fn a_rollout_takes_its_own_limits_or_those_of_the_deployment_and_an_approval_none() {
    let world = World::new().await;
    let model = world.model("m").await;
    world
        .dataset(model, "d", "id,a,b,c,y\n1,1,2,x,3\n2,3,4,z,5\n")
        .await;
    let refused = world.app.set_limits(model, Limits::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    deployed(&world, model).await;
    let set = Limits {
        max_decision_change: Some(0.1),
        ..Limits::default()
    };
    world.app.set_limits(model, set).await.unwrap();
    assert_eq!(world.app.limits(model).await.unwrap(), set);
    let wrong = Limits {
        max_decision_change: Some(2.0),
        ..Limits::default()
    };
    let error = world.app.set_limits(model, wrong).await.unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);

    let job = update(&world, model, 1, json!({})).await;
    assert_eq!(stored(&world, &job).await.limits, set);
    let held = Error::new(Code::RolloutHeld, "it differs");
    world.controller.behave(Behaviour::Fail(held));
    let own = Limits {
        hold: true,
        ..Limits::default()
    };
    let request = DeployRequest {
        file_id: world.file(archive(&[("package.py", GOOD_PACKAGE)])).await,
        deployment_params: None,
        limits: Some(own),
    };
    let job = world
        .app
        .deploy_artifact(model, request, Mode::Update, false)
        .await
        .unwrap();
    let job = world.finished(job.id).await;
    let rollout = stored(&world, &job).await;
    assert_eq!(rollout.limits, own);
    assert!(rollout.sample.is_some(), "rows to compare it on");
    world.controller.behave(Behaviour::Serve);
    let job = world.app.approve(model).await.unwrap();
    let job = world.finished(job.id).await;
    assert_eq!(stored(&world, &job).await.limits, Limits::default());
}

async fn stored(world: &World, job: &Job) -> Rollout {
    let mut db = world.store().read().await.unwrap();
    let revision = RevisionId(job.id.0);
    rollouts::get(&mut db, revision).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_job_tells_how_the_revision_differs() {
    let mut world = World::without_worker().await;
    let model = world.model("m").await;
    let files = [("package.py", GOOD_PACKAGE)];
    let first = deploy(&world, model, Mode::Add, &files, json!({})).await;
    world.controller.behave(Behaviour::Hang);
    world.work();
    let job = first.unwrap().id;
    let published = async || {
        let steps = world.queue().steps(job).await.unwrap();
        steps.iter().any(|s| s.name == "await_ready")
    };
    luthier_jobs::testing::until("it is published", published).await;
    let found = Comparison::omitted(RevisionId::new(), "the inputs are others");
    let mut db = world.store().write().await.unwrap();
    rollouts::compared(&mut db, RevisionId(job.0), &found)
        .await
        .unwrap();
    db.commit().await.unwrap();
    world.controller.behave(Behaviour::Serve);
    world.finished(job).await;
    let detail = world.app.job_detail(job).await.unwrap();
    let log = detail["log"].to_string();
    assert!(log.contains("not compared: the inputs are others"), "{log}");
    let extras = world.app.job(job, true).await.unwrap()["extras"].take();
    let told = &extras["await_ready"]["result"]["comparison"]["omitted"][0];
    assert_eq!(told, "the inputs are others");
}
