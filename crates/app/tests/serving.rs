//! Deploying, changing deployments, predicting and explaining: the real use cases, database, queue
//! and gateway over fakes of the machine.

#![expect(clippy::unwrap_used, reason = "test helpers fail the test")]

#[path = "serving/data_trials.rs"]
mod data_trials;
#[path = "serving/deploy.rs"]
mod deploy;
#[path = "serving/envs.rs"]
mod envs;
#[path = "serving/explain.rs"]
mod explain;
#[path = "serving/images.rs"]
mod images;
#[path = "serving/influence.rs"]
mod influence;
#[path = "serving/manual.rs"]
mod manual;
#[path = "serving/predict.rs"]
mod predict;
#[path = "serving/revisions.rs"]
mod revisions;
#[path = "serving/sweep.rs"]
mod sweep;
#[path = "serving/trials.rs"]
mod trials;

use std::sync::Arc;

use luthier_app::{
    deploy::{DeployRequest, Mode},
    job_view::JobCompact,
};
use luthier_jobs::Job;
use luthier_testkit::{Answer, FakeRunner, GOOD_PACKAGE, World, archive};
use luthier_types::{JobStatus, ModelId, Result};
use serde_json::{Map, Value, json};

/// Asks for a package of these files to be deployed.
async fn deploy(
    world: &World,
    model: ModelId,
    mode: Mode,
    files: &[(&str, &str)],
    params: Value,
) -> Result<JobCompact> {
    let request = DeployRequest {
        file_id: world.file(archive(files)).await,
        deployment_params: Some(params),
        limits: None,
    };
    world.app.deploy_artifact(model, request, mode, false).await
}

/// Deploys a good package and waits for it to serve.
async fn deployed(world: &World, model: ModelId) -> Job {
    let files = [("package.py", GOOD_PACKAGE)];
    let job = deploy(world, model, Mode::Add, &files, json!({}))
        .await
        .unwrap();
    let job = world.finished(job.id).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    job
}

/// The model y = 2a + 3b + (1 when c is x), missing values counting as 0.
fn linear(row: &Map<String, Value>) -> Map<String, Value> {
    let number = |name: &str| row.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let x = f64::from(row.get("c") == Some(&json!("x")));
    let y = 2.0 * number("a") + 3.0 * number("b") + x;
    Map::from_iter([("y".to_owned(), json!(y))])
}

/// A world with a deployed model that answers by [`linear`].
async fn serving() -> (World, ModelId, FakeRunner) {
    let world = World::new().await;
    let runner = FakeRunner::start(
        &world.dir.path().join("r.sock"),
        &["y"],
        Answer::Rows(Arc::new(linear)),
    );
    world.controller.sockets(vec![runner.socket().to_owned()]);
    let model = world.model("m").await;
    deployed(&world, model).await;
    (world, model, runner)
}
