//! The jobs that store and delete data, and the one that changes a deployment, under the three
//! trials. What a job leaves is compared with what stood before it: rows, datasets and blobs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    sync::Arc,
};

use async_trait::async_trait;
use luthier_app::{
    deploy::DeployJob,
    deployments::ApplyJob,
    events::{Accepted, DataFrom, DeleteEvents, Publish, PublishDataset, PublishEvents, Write},
    models::DeleteModel,
};
use luthier_data::{batch_to_rows, head_parquet};
use luthier_jobs::{Job, JobKind, Pause, Queue, WorkerOptions, testing};
use luthier_ports::Blob;
use luthier_store::{deployments, files};
use luthier_testkit::World;
use luthier_types::{Digest, EnvType, FileId, JobId, JobStatus, ModelId};
use serde_json::{Value, json};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::deployed;

const OLD_ROWS: &str = "a,b,c,y\n1,2,x,3\n";
const OWN_ROWS: &str = "a,b,c,y\n4,5,z,6\n";
const NEW_ROWS: &str = "a,b,c,y\n7,8,x,9\n1,1,z,2\n";
const ROWS_WITH_IDS: &str = "id,a,b,c,y\nkept,7,8,x,9\nnew,1,1,z,2\n";
const UPDATE: &str = "id,b\nkept,70\n";

/// The job on trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    PublishDataset,
    PublishEvents,
    PublishNamedEvents,
    UpdateEvents,
    DeleteEvents,
    DeleteEventsByTime,
    DeleteModel,
    ChangeDeployment,
}

/// All that jobs on data may change.
#[derive(Clone, Debug, PartialEq)]
struct Data {
    /// Model, name, rows, digest.
    datasets: BTreeSet<(String, String, i64, String)>,
    /// Model, id, values.
    events: BTreeSet<(String, String, String)>,
    /// Table and id of what belongs to a model.
    owned: BTreeSet<(String, String)>,
    blobs: BTreeSet<String>,
}

/// A deployed model with two datasets and three events, beside another with one of the same
/// datasets.
struct Trial {
    world: World,
    what: What,
    model: ModelId,
    file: FileId,
    validation: String,
    archive: String,
    own_digest: String,
    before: Data,
}

impl Trial {
    async fn of(what: What) -> Self {
        let world = World::without_worker().await;
        let other = world.model("other").await;
        world.dataset(other, "shared", OLD_ROWS).await;
        world.event(other, "kept", json!({ "a": 1.0 })).await;
        let model = world.model("m").await;
        if matches!(what, What::DeleteModel | What::ChangeDeployment) {
            let kind = Arc::new(DeployJob::new(world.app.clone()));
            let worker = testing::start_worker(world.queue(), kind, testing::options());
            deployed(&world, model).await;
            worker.stop().await;
        }
        world.dataset(model, "shared", OLD_ROWS).await;
        world.dataset(model, "own", OWN_ROWS).await;
        for (id, a) in [("kept", 1.0), ("one", 2.0), ("two", 3.0)] {
            world.event(model, id, json!({ "a": a, "b": 1.0 })).await;
        }
        let csv = match what {
            What::PublishNamedEvents => ROWS_WITH_IDS,
            What::UpdateEvents => UPDATE,
            _ => NEW_ROWS,
        };
        let content = Box::new(Cursor::new(csv.as_bytes().to_vec()));
        let file = world.app.upload_file("rows.csv".to_owned(), content);
        let file = file.await.unwrap().id;
        let validation = texts(&world, "SELECT validation FROM revisions").await;
        let archive = texts(&world, "SELECT digest FROM artifacts").await;
        let own = texts(&world, "SELECT digest FROM datasets WHERE name = 'own'").await;
        let before = data(&world).await;
        Self {
            world,
            what,
            model,
            file,
            validation: validation.first().cloned().unwrap_or_default(),
            archive: archive.first().cloned().unwrap_or_default(),
            own_digest: own[0].clone(),
            before,
        }
    }

    /// What an undisturbed run leaves.
    async fn expected(&self, job: &Job) -> Data {
        let mut data = self.before.clone();
        let model = self.model.to_string();
        match self.what {
            What::PublishDataset => {
                let digest = self.published_digest().await;
                data.blobs.insert(digest.clone());
                let id = job.payload["dataset_id"].as_str().unwrap().to_owned();
                data.owned.insert(("datasets".to_owned(), id));
                data.datasets.insert((model, "new".to_owned(), 2, digest));
            }
            What::PublishEvents => {
                let ids = self.new_events().await;
                let rows = [
                    r#"{"a":7.0,"b":8.0,"c":"x","y":9.0}"#,
                    r#"{"a":1.0,"b":1.0,"c":"z","y":2.0}"#,
                ];
                assert_eq!(ids.len(), rows.len(), "each row is stored once");
                for (id, row) in ids.into_iter().zip(rows) {
                    data.events.insert((model.clone(), id, row.to_owned()));
                }
            }
            What::PublishNamedEvents => {
                data.events
                    .retain(|e| (&e.0, e.1.as_str()) != (&model, "kept"));
                for (id, row) in [
                    ("kept", r#"{"a":7.0,"b":8.0,"c":"x","id":"kept","y":9.0}"#),
                    ("new", r#"{"a":1.0,"b":1.0,"c":"z","id":"new","y":2.0}"#),
                ] {
                    let event = (model.clone(), id.to_owned(), row.to_owned());
                    data.events.insert(event);
                }
            }
            What::UpdateEvents => {
                data.events
                    .retain(|e| (&e.0, e.1.as_str()) != (&model, "kept"));
                let row = r#"{"a":1.0,"b":70.0,"id":"kept"}"#.to_owned();
                data.events.insert((model, "kept".to_owned(), row));
            }
            What::DeleteEvents => {
                data.events.retain(|e| e.0 != model || e.1 == "kept");
            }
            What::DeleteEventsByTime => data.events.retain(|e| e.0 != model),
            What::DeleteModel => {
                data.events.retain(|e| e.0 != model);
                data.datasets.retain(|d| d.0 != model);
                data.blobs.remove(&self.own_digest);
                data.blobs.remove(&self.validation);
                data.blobs.remove(&self.archive);
                // All but the other model and its dataset.
                let kept = texts(&self.world, "SELECT id FROM models").await;
                assert_eq!(kept.len(), 1);
                data.owned.retain(|(table, id)| match table.as_str() {
                    "models" => kept.contains(id),
                    _ => false,
                });
                let shared = texts(&self.world, "SELECT id FROM datasets").await;
                assert_eq!(shared.len(), 1);
                data.owned
                    .insert(("datasets".to_owned(), shared[0].clone()));
            }
            What::ChangeDeployment => {}
        }
        data
    }

    /// The digest of the rows of [`NEW_ROWS`] as a dataset, read back to be sure of them.
    async fn published_digest(&self) -> String {
        let query = "SELECT digest FROM datasets WHERE name = 'new'";
        let digest = texts(&self.world, query).await.remove(0);
        let parsed: Digest = digest.parse().unwrap();
        let mut reader = self.world.app.deps().blobs.get(&parsed).await.unwrap();
        let mut bytes = vec![];
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes)
            .await
            .unwrap();
        let file = self.world.dir.path().join("published");
        std::fs::write(&file, bytes).unwrap();
        let schema = self.world.stored(self.model).await.schema;
        let columns: Vec<_> = schema.columns.iter().collect();
        let rows = batch_to_rows(&head_parquet(&file, &columns, 10).unwrap());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(
            json!(rows),
            json!([
                { "a": 7.0, "b": 8.0, "c": "x", "y": 9.0 },
                { "a": 1.0, "b": 1.0, "c": "z", "y": 2.0 },
            ])
        );
        digest
    }

    /// The ids of the events that the server has named, in order.
    async fn new_events(&self) -> Vec<String> {
        let query = "SELECT event_id FROM events WHERE event_id NOT IN ('kept', 'one', 'two')
                     ORDER BY seq";
        texts(&self.world, query).await
    }

    async fn check_deployment(&self, changed: bool) {
        if self.what != What::ChangeDeployment {
            return;
        }
        let (store, model) = (self.world.store().clone(), self.model);
        testing::until("the deployment to settle", async move || {
            let mut db = store.read().await.unwrap();
            let d = deployments::of_model(&mut db, model)
                .await
                .unwrap()
                .unwrap();
            d.is_settled() && d.serving_revision == d.wanted_revision
        })
        .await;
        let mut db = self.world.store().read().await.unwrap();
        let d = deployments::of_model(&mut db, model)
            .await
            .unwrap()
            .unwrap();
        let (old, new) = ((1, 256, 1), (2, 512, 2));
        let is = (d.replicas, d.resources.memory.0, d.generation);
        assert!(is == new || !changed && is == old, "{is:?}");
    }
}

async fn texts(world: &World, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query)
        .fetch_all(world.store().pool())
        .await
        .unwrap()
}

async fn rows<T: Ord>(
    world: &World,
    query: &'static str,
    read: impl Fn(&SqliteRow) -> T,
) -> BTreeSet<T> {
    let pool = world.store().pool();
    let rows = sqlx::query(query).fetch_all(pool).await.unwrap();
    let count = rows.len();
    let set: BTreeSet<T> = rows.iter().map(read).collect();
    assert_eq!(set.len(), count, "no row is there twice");
    set
}

/// The blobs, having checked that every one is mentioned and every mentioned one is there.
pub(crate) async fn blobs(world: &World) -> BTreeSet<String> {
    let blobs = world.app.deps().blobs.list().await.unwrap();
    let mut db = world.store().read().await.unwrap();
    for Blob { digest, .. } in &blobs {
        let used = files::blob_in_use(&mut db, digest).await.unwrap();
        assert!(used, "nothing refers to blob {digest}");
    }
    drop(db);
    let blobs: BTreeSet<String> = blobs.iter().map(|b| b.digest.to_string()).collect();
    let mentioned = "SELECT digest FROM datasets UNION SELECT digest FROM files
         UNION SELECT digest FROM artifacts UNION SELECT validation FROM revisions
         UNION SELECT archive FROM rollouts WHERE archive IS NOT NULL
         UNION SELECT sample FROM rollouts WHERE sample IS NOT NULL";
    for digest in texts(world, mentioned).await {
        assert!(blobs.contains(&digest), "blob {digest} is missing");
    }
    blobs
}

async fn data(world: &World) -> Data {
    let blobs = blobs(world).await;
    assert_eq!(world.layers("scratch"), [""; 0]);
    let events = "SELECT model_id, event_id, row FROM events";
    let owned = "SELECT 'models', id FROM models UNION SELECT 'datasets', id FROM datasets
         UNION SELECT 'deployments', id FROM deployments UNION SELECT 'revisions', id FROM revisions
         UNION SELECT 'artifacts', model_id FROM artifacts";
    Data {
        datasets: rows(
            world,
            "SELECT model_id, name, row_count, digest FROM datasets",
            |row| (row.get(0), row.get(1), row.get(2), row.get(3)),
        )
        .await,
        events: rows(world, events, |row| {
            let values: BTreeMap<String, Value> = serde_json::from_str(row.get(2)).unwrap();
            (row.get(0), row.get(1), json!(values).to_string())
        })
        .await,
        owned: rows(world, owned, |row| (row.get(0), row.get(1))).await,
        blobs,
    }
}

#[async_trait]
impl testing::World for Trial {
    fn queue(&self) -> &Queue {
        self.world.queue()
    }

    fn kind(&self) -> Arc<dyn JobKind> {
        let app = self.world.app.clone();
        match self.what {
            What::PublishDataset => Arc::new(PublishDataset(app)),
            What::PublishEvents | What::PublishNamedEvents | What::UpdateEvents => {
                Arc::new(PublishEvents(app))
            }
            What::DeleteEvents | What::DeleteEventsByTime => Arc::new(DeleteEvents(app)),
            What::DeleteModel => Arc::new(DeleteModel(app)),
            What::ChangeDeployment => Arc::new(ApplyJob::new(app)),
        }
    }

    async fn enqueue(&self) -> JobId {
        let app = &self.world.app;
        let publish = |env_type, write| {
            let request = Publish {
                source: DataFrom::File { file_id: self.file },
                model_id: self.model,
                env_type,
                env_name: Some("new".to_owned()),
            };
            app.publish_data(request, write, false)
        };
        let delete = |mut which: Value| {
            which["model_id"] = json!(self.model);
            app.delete_events(serde_json::from_value(which).unwrap())
        };
        let accepted = match self.what {
            What::PublishDataset => publish(EnvType::PreProduction, Write::Publish).await,
            What::PublishEvents | What::PublishNamedEvents => {
                publish(EnvType::Production, Write::Publish).await
            }
            What::UpdateEvents => publish(EnvType::Production, Write::Update).await,
            What::DeleteEvents => {
                let ids = json!({ "event_ids": ["one", "two", "never was"] });
                return delete(ids).await.unwrap().id;
            }
            What::DeleteEventsByTime => {
                let range = json!({ "time_range": { "end_time": "2000-01-01T00:00:00Z" } });
                return delete(range).await.unwrap().id;
            }
            What::DeleteModel => return app.delete_model(self.model).await.unwrap().id,
            What::ChangeDeployment => {
                let change = json!({ "replicas": 2, "memory": 512 });
                let changed = app.change_deployment(self.model, change);
                return changed.await.unwrap().1.id;
            }
        };
        match accepted.unwrap() {
            Accepted::Job(job) => job.id,
            Accepted::Events(_) => panic!("a file is published by a job"),
        }
    }

    async fn check_success(&self, job: &Job) {
        assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
        assert_eq!(data(&self.world).await, self.expected(job).await);
        self.check_deployment(true).await;
    }

    async fn check_failure(&self, _job: &Job, step: &str) {
        assert_eq!(data(&self.world).await, self.before, "{step}");
        // A change that was made stays: it is what the user wants.
        self.check_deployment(step == "await_ready").await;
    }
}

#[tokio::test]
async fn converted_rows_that_were_swept_away_are_made_again() {
    let trial = Trial::of(What::PublishDataset).await;
    let job = testing::World::enqueue(&trial).await;
    let marker = trial.world.dir.path().join("paused");
    let pause_after = Some(Pause {
        step: "publish_dataset.convert".to_owned(),
        marker: marker.clone(),
    });
    let options = WorkerOptions {
        pause_after,
        ..testing::options()
    };
    let kind = || testing::World::kind(&trial);
    let doomed = testing::start_worker(trial.world.queue(), kind(), options);
    testing::until("the pause", async || marker.exists()).await;
    doomed.kill().await;
    // As if its result had been recorded just before the kill.
    sqlx::query("UPDATE job_steps SET result = ? WHERE name = 'convert'")
        .bind(json!({ "digest": Digest::of("swept away"), "rows": 1 }).to_string())
        .execute(trial.world.store().pool())
        .await
        .unwrap();
    assert_eq!(trial.world.app.sweep().await.unwrap().blobs, 1);
    trial.world.queue().reclaim().await.unwrap();
    let worker = testing::start_worker(trial.world.queue(), kind(), testing::options());
    let job = testing::finished(trial.world.queue(), job).await;
    worker.stop().await;
    testing::World::check_success(&trial, &job).await;
}

#[tokio::test]
async fn deleting_a_project_removes_the_blobs_of_its_models() {
    let trial = Trial::of(What::DeleteModel).await;
    let project = trial.world.stored(trial.model).await.project_id;
    trial.world.app.delete_project(project).await.unwrap();
    let swept = trial.world.app.sweep().await.unwrap();
    let left = blobs(&trial.world).await;
    for gone in [&trial.own_digest, &trial.validation, &trial.archive] {
        assert!(!left.contains(gone));
    }
    assert_eq!((swept.blobs, swept.packages.len()), (3, 1));
    assert!(!swept.is_left);
    assert_eq!(trial.world.layers("packages"), [""; 0]);
}

/// All three trials of each job.
macro_rules! trials {
    ($($name:ident: $what:expr;)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn with_every_step_run_twice() {
                testing::every_step_twice(async || Trial::of($what).await).await;
            }

            #[tokio::test]
            async fn failing_at_each_step() {
                testing::failing_at_each_step(async || Trial::of($what).await).await;
            }

            #[tokio::test]
            async fn killed_at_each_step() {
                let scratch = tempfile::tempdir().unwrap();
                let make = async || Trial::of($what).await;
                testing::killed_at_each_step(scratch.path(), make).await;
            }
        }
    )*};
}

trials! {
    publishing_a_dataset: What::PublishDataset;
    publishing_events: What::PublishEvents;
    publishing_events_with_ids: What::PublishNamedEvents;
    updating_events: What::UpdateEvents;
    deleting_events: What::DeleteEvents;
    deleting_events_by_time: What::DeleteEventsByTime;
    deleting_a_model: What::DeleteModel;
    changing_a_deployment: What::ChangeDeployment;
}
