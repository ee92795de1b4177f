//! A model's history, and going back in it.

use luthier_app::{deploy::Mode, revisions::Rollback, upkeep::KEPT_REVISIONS};
use luthier_jobs::Job;
use luthier_testkit::{Behaviour, GOOD_PACKAGE, NEW_IMAGE, World};
use luthier_types::{Code, Error, JobStatus, ModelId};
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
