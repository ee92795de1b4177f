//! The deploy job under the three trials.

use std::sync::Arc;

use async_trait::async_trait;
use luthier_app::{
    App,
    deploy::{DeployJob, DeployRequest, Mode},
};
use luthier_jobs::{Job, JobKind, Queue, testing};
use luthier_store::{Store, deployments};
use luthier_testkit::{World, archive};
use luthier_types::{ArtifactStatus, JobId, JobStatus, ModelId, RevisionId};
use serde_json::json;

use crate::deployed;

const NEW_PACKAGE: &str = "def get_model():\n    return 'new'\n";

/// A model about to get its first artifact, or its second.
struct Trial {
    world: World,
    model: ModelId,
    before: Option<Before>,
}

struct Before {
    revision: RevisionId,
    generation: i64,
    packages: Vec<String>,
    files: Vec<serde_json::Value>,
}

impl Trial {
    async fn first() -> Self {
        let world = World::without_worker().await;
        let model = world.model("m").await;
        Self {
            world,
            model,
            before: None,
        }
    }

    async fn second() -> Self {
        let world = World::without_worker().await;
        let model = world.model("m").await;
        let kind = Arc::new(DeployJob::new(world.app.clone()));
        let worker = testing::start_worker(world.queue(), kind, testing::options());
        deployed(&world, model).await;
        worker.stop().await;
        let d = deployment(&world, model).await.unwrap();
        let before = Some(Before {
            revision: d.serving_revision.unwrap(),
            generation: d.generation,
            packages: world.layers("packages"),
            files: world.stored(model).await.artifact_files,
        });
        Self {
            world,
            model,
            before,
        }
    }
}

async fn deployment(world: &World, model: ModelId) -> Option<deployments::Deployment> {
    let mut db = world.store().read().await.unwrap();
    deployments::of_model(&mut db, model).await.unwrap()
}

/// Waits until the old revision serves and the controller has nothing left to do. Takes its
/// arguments by value, for a closure over references is not `Send` enough for a trait's method.
async fn serves_again(store: Store, model: ModelId, revision: RevisionId) {
    for _ in 0..3000 {
        let mut db = store.read().await.unwrap();
        let d = deployments::of_model(&mut db, model).await.unwrap();
        drop(db);
        if d.is_some_and(|d| d.is_settled() && d.serving_revision == Some(revision)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the old revision does not serve again");
}

async fn revisions(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM revisions")
        .fetch_one(world.store().pool())
        .await
        .unwrap()
}

#[async_trait]
impl testing::World for Trial {
    fn queue(&self) -> &Queue {
        self.world.queue()
    }

    fn kind(&self) -> Arc<dyn JobKind> {
        // As after a restart: a new app, whose caches are empty, over the same world.
        let app: Arc<App> = self.world.app.clone();
        Arc::new(DeployJob::new(app))
    }

    async fn enqueue(&self) -> JobId {
        let file_id = self
            .world
            .file(archive(&[
                ("package.py", NEW_PACKAGE),
                ("sub/model.txt", "1"),
            ]))
            .await;
        let request = DeployRequest {
            file_id,
            deployment_params: Some(json!({ "replicas": 2, "memory": 512 })),
            limits: None,
        };
        let mode = match self.before {
            None => Mode::Add,
            Some(_) => Mode::Update,
        };
        let job = self
            .world
            .app
            .deploy_artifact(self.model, request, mode, false)
            .await
            .unwrap();
        job.id
    }

    async fn check_success(&self, job: &Job) {
        assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
        crate::data_trials::blobs(&self.world).await;
        let d = deployment(&self.world, self.model).await.unwrap();
        let revision = RevisionId(job.id.0);
        assert_eq!(d.wanted_revision, Some(revision));
        assert_eq!(d.serving_revision, Some(revision));
        assert_eq!((d.replicas, d.resources.memory.0), (2, 512));
        let before = self.before.as_ref();
        let generation = before.map_or(0, |b| b.generation);
        assert_eq!(d.generation, generation + 1, "intent changed once");
        assert_eq!(
            revisions(&self.world).await,
            1 + i64::from(before.is_some())
        );
        let packages = before.map_or(0, |b| b.packages.len());
        assert_eq!(self.world.layers("packages").len(), packages + 1);
        assert_eq!(self.world.layers("scratch"), [""; 0]);
        let model = self.world.stored(self.model).await;
        assert_eq!(model.artifact_status, ArtifactStatus::UserUploaded);
        let names: Vec<_> = model.artifact_files.iter().map(|f| &f["name"]).collect();
        assert_eq!(names, ["package.py", "sub/model.txt"]);
    }

    async fn check_failure(&self, _job: &Job, step: &str) {
        crate::data_trials::blobs(&self.world).await;
        let model = self.world.stored(self.model).await;
        assert_eq!(self.world.layers("scratch"), [""; 0], "{step}");
        let Some(before) = &self.before else {
            assert!(
                deployment(&self.world, self.model).await.is_none(),
                "{step}"
            );
            assert_eq!(revisions(&self.world).await, 0, "{step}");
            assert_eq!(self.world.layers("packages"), [""; 0], "{step}");
            assert_eq!(model.artifact_status, ArtifactStatus::NoModel, "{step}");
            assert!(model.artifact_files.is_empty());
            return;
        };
        serves_again(self.world.store().clone(), self.model, before.revision).await;
        let d = deployment(&self.world, self.model).await.unwrap();
        assert_eq!(d.wanted_revision, Some(before.revision), "{step}");
        assert_eq!((d.replicas, d.resources.memory.0), (1, 256), "{step}");
        assert_eq!(model.artifact_status, ArtifactStatus::UserUploaded);
        assert_eq!(model.artifact_files, before.files, "{step}");
        assert_eq!(revisions(&self.world).await, 1, "{step}");
        assert_eq!(self.world.layers("packages"), before.packages, "{step}");
    }
}

#[tokio::test]
async fn a_first_deployment_with_every_step_run_twice() {
    testing::every_step_twice(Trial::first).await;
}

#[tokio::test]
async fn a_first_deployment_failing_at_each_step_leaves_nothing() {
    testing::failing_at_each_step(Trial::first).await;
}

#[tokio::test]
async fn a_first_deployment_killed_at_each_step_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    testing::killed_at_each_step(scratch.path(), Trial::first).await;
}

#[tokio::test]
async fn an_update_with_every_step_run_twice() {
    testing::every_step_twice(Trial::second).await;
}

#[tokio::test]
async fn an_update_failing_at_each_step_leaves_the_old_revision_serving() {
    testing::failing_at_each_step(Trial::second).await;
}

#[tokio::test]
async fn an_update_killed_at_each_step_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    testing::killed_at_each_step(scratch.path(), Trial::second).await;
}
