//! Setting where the runner of a MANUAL deployment listens: requests, and the job under the three
//! trials.

use std::sync::Arc;

use async_trait::async_trait;
use luthier_app::{
    deploy::{DeployJob, Mode},
    manual::{SetAddress, SetRunnerJob},
};
use luthier_jobs::{Job, JobKind, Queue, testing};
use luthier_store::{
    deployments::{self, Deployment},
    outside::{self, Outside},
};
use luthier_testkit::{Behaviour, GOOD_PACKAGE, World};
use luthier_types::{Code, Error, JobId, JobStatus, ModelId};
use serde_json::json;

use crate::{deploy, deployed};

const FIRST: &str = "http://10.0.0.1:9000";
const SECOND: &str = "unix:/run/models/m.sock";

fn address(text: &str) -> SetAddress {
    SetAddress {
        address: Some(text.to_owned()),
    }
}

async fn set(world: &World, model: ModelId, request: SetAddress) -> Job {
    let job = world.app.set_runner(model, request).await.unwrap();
    world.finished(job.id).await
}

async fn outside(world: &World, model: ModelId) -> Option<Outside> {
    let mut db = world.store().read().await.unwrap();
    outside::of_model(&mut db, model).await.unwrap()
}

async fn deployment(world: &World, model: ModelId) -> Deployment {
    let mut db = world.store().read().await.unwrap();
    deployments::of_model(&mut db, model)
        .await
        .unwrap()
        .unwrap()
}

/// Stores an artifact without starting it.
async fn stored(world: &World, model: ModelId, params: serde_json::Value) {
    let files = [("package.py", GOOD_PACKAGE)];
    let job = deploy(world, model, Mode::Add, &files, params).await;
    let job = world.finished(job.unwrap().id).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
}

#[tokio::test]
async fn only_a_manual_deployment_has_a_runner_elsewhere() {
    let world = World::new().await;
    let model = world.model("m").await;
    let refused = async |model, request| world.app.set_runner(model, request).await.unwrap_err();
    assert_eq!(refused(model, address(FIRST)).await.code(), Code::NotFound);
    deployed(&world, model).await;
    let error = refused(model, address(FIRST)).await;
    assert_eq!(error.code(), Code::BadRequest);
    assert!(error.next_step().unwrap().contains("MANUAL"), "{error:?}");
    let error = refused(model, address("https://h:1")).await;
    assert!(error.message().contains("encryption"), "{error}");
}

#[tokio::test]
async fn one_that_an_operator_keeps_reserves_nothing_and_gives_way_with_its_type() {
    let world = World::new().await;
    let (model, other) = (world.model("m").await, world.model("n").await);
    let large = json!({ "deployment_type": "MANUAL", "replicas": 4, "memory": 1000 });
    stored(&world, model, large).await;
    let job = set(&world, model, address(FIRST)).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    let active = json!({ "active": true });
    let (_, job) = world.app.change_deployment(model, active).await.unwrap();
    world.finished(job.id).await;
    let shown = world.app.deployment(model).await.unwrap();
    assert_eq!(shown.runner_address.unwrap().to_string(), FIRST);

    // All of the machine is free for others.
    let large = json!({ "replicas": 4, "memory": 1000 });
    let files = [("package.py", GOOD_PACKAGE)];
    let job = deploy(&world, other, Mode::Add, &files, large.clone()).await;
    assert!(world.finished(job.unwrap().id).await.error.is_none());
    // And so its containers have no room.
    let job = set(&world, model, SetAddress { address: None }).await;
    assert_eq!(job.error.unwrap().code(), Code::CapacityExceeded);
    assert_eq!(
        outside(&world, model).await.unwrap().address.to_string(),
        FIRST
    );

    let base =
        json!({ "deployment_type": "BASE_CONTAINER", "replicas": 1, "memory": 200, "cpu": 10 });
    let smaller = json!({ "replicas": 1 });
    let (_, job) = world.app.change_deployment(other, smaller).await.unwrap();
    world.finished(job.id).await;
    let job = deploy(&world, model, Mode::Update, &files, base).await;
    assert!(world.finished(job.unwrap().id).await.error.is_none());
    assert_eq!(outside(&world, model).await, None, "containers serve it");
}

#[tokio::test]
async fn a_runner_that_is_not_good_leaves_the_one_before() {
    let world = World::new().await;
    let model = world.model("m").await;
    stored(&world, model, json!({ "deployment_type": "MANUAL" })).await;
    set(&world, model, address(FIRST)).await;
    let before = outside(&world, model).await;
    let active = json!({ "active": true });
    let (_, job) = world.app.change_deployment(model, active).await.unwrap();
    world.finished(job.id).await;
    // The stand-in fails what it does not serve, which a change of the address alone is not.
    sqlx::query("UPDATE deployments SET serving_revision = NULL")
        .execute(world.store().pool())
        .await
        .unwrap();
    let failure = Error::new(Code::DeploymentTimeout, "nobody answers");
    world.controller.behave(Behaviour::Fail(failure));
    let job = set(&world, model, address(SECOND)).await;
    assert_eq!(job.error.unwrap().message(), "nobody answers");
    assert_eq!(outside(&world, model).await, before);
}

/// A MANUAL deployment whose runner is about to have another address.
struct Trial {
    world: World,
    model: ModelId,
    before: Option<Outside>,
    generation: i64,
}

impl Trial {
    async fn new() -> Self {
        let world = World::without_worker().await;
        let model = world.model("m").await;
        let first = testing::start_worker(
            world.queue(),
            Arc::new(DeployJob::new(world.app.clone())),
            testing::options(),
        );
        stored(&world, model, json!({ "deployment_type": "MANUAL" })).await;
        first.stop().await;
        let kind = Arc::new(SetRunnerJob::new(world.app.clone()));
        let worker = testing::start_worker(world.queue(), kind, testing::options());
        set(&world, model, address(FIRST)).await;
        worker.stop().await;
        Self {
            before: outside(&world, model).await,
            generation: deployment(&world, model).await.generation,
            world,
            model,
        }
    }
}

#[async_trait]
impl testing::World for Trial {
    fn queue(&self) -> &Queue {
        self.world.queue()
    }

    fn kind(&self) -> Arc<dyn JobKind> {
        Arc::new(SetRunnerJob::new(self.world.app.clone()))
    }

    async fn enqueue(&self) -> JobId {
        let job = self.world.app.set_runner(self.model, address(SECOND)).await;
        job.unwrap().id
    }

    async fn check_success(&self, job: &Job) {
        assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
        let stands = outside(&self.world, self.model).await.unwrap();
        assert_eq!(stands.address.to_string(), SECOND);
        let now = deployment(&self.world, self.model).await;
        assert_eq!(now.generation, self.generation + 1, "intent changed once");
    }

    async fn check_failure(&self, _job: &Job, step: &str) {
        assert_eq!(
            outside(&self.world, self.model).await,
            self.before,
            "{step}"
        );
    }
}

#[tokio::test]
async fn every_step_twice() {
    testing::every_step_twice(Trial::new).await;
}

#[tokio::test]
async fn failing_at_each_step() {
    testing::failing_at_each_step(Trial::new).await;
}

#[tokio::test]
async fn killed_at_each_step() {
    let scratch = tempfile::tempdir().unwrap();
    testing::killed_at_each_step(scratch.path(), Trial::new).await;
}
