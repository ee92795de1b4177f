//! The app over fakes.

use std::{io::Cursor, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use luthier_app::{App, Capacity, Deps, Settings, Token};
use luthier_gateway::{Gateway, Options};
use luthier_jobs::{
    Job, Queue,
    testing::{finished, options},
};
use luthier_ports::fakes::{FakeRuntime, MemoryBlobs};
use luthier_store::{
    Store,
    models::{self, Model},
    projects::{self, Project},
    replica_logs::ReplicaLogs,
};
use luthier_types::{
    ArtifactStatus, DatasetId, Digest, FileId, InputType, JobId, Mebibytes, Millicpu, ModelId,
    ProjectId, Task, layout::CacheLayout,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Controller, FakeEnvs, FakeImages};

/// A package that is one.
pub const GOOD_PACKAGE: &str = "def get_model():\n    return object()\n";

/// The app and all it stands on. Everything goes away with it.
pub struct World {
    /// Holds the database and the layers.
    pub dir: TempDir,
    /// The use cases.
    pub app: Arc<App>,
    /// The environments.
    pub envs: Arc<FakeEnvs>,
    /// The containers.
    pub runtime: Arc<FakeRuntime>,
    /// Who writes observations.
    pub controller: Controller,
    worker: Option<(CancellationToken, JoinHandle<()>)>,
}

impl World {
    /// The token that calls need.
    pub const TOKEN: &str = "test-token";

    /// A world without a worker: jobs stay where they are.
    pub async fn without_worker() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let layout = CacheLayout::new(dir.path().join("cache"));
        let gateway = Arc::new(Gateway::new(Options::default()));
        let envs = Arc::new(FakeEnvs::new(layout.clone()));
        let runtime = Arc::new(FakeRuntime::default());
        let machine = Capacity {
            cpu: Millicpu(4000),
            memory: Mebibytes(4096),
        };
        let mut settings = Settings::new(Token::new(Self::TOKEN), machine);
        settings.deploy_timeout = Duration::from_secs(30);
        let app = App::new(Deps {
            store: store.clone(),
            blobs: Arc::new(MemoryBlobs::default()),
            images: Arc::new(FakeImages),
            envs: envs.clone(),
            runtime_logs: runtime.clone(),
            replica_logs: ReplicaLogs::new(dir.path().join("replica-logs")),
            queue: Queue::new(store.pool().clone()),
            gateway: gateway.clone(),
            wake_deployments: Arc::default(),
            layout,
            runner: Digest::of("runner"),
            settings,
        });
        Self {
            controller: Controller::start(store, gateway),
            dir,
            app,
            envs,
            runtime,
            worker: None,
        }
    }

    /// A world in which jobs run.
    pub async fn new() -> Self {
        let mut world = Self::without_worker().await;
        world.work();
        world
    }

    /// Lets jobs run from now on.
    pub fn work(&mut self) {
        let cancel = CancellationToken::new();
        let worker = luthier_jobs::Worker::new(
            self.queue().clone(),
            luthier_app::job_kinds(&self.app),
            options(),
        );
        let task = tokio::spawn(worker.run(cancel.clone()));
        self.worker = Some((cancel, task));
    }

    /// Lets no job run any more.
    pub async fn rest(&mut self) {
        if let Some((cancel, task)) = self.worker.take() {
            cancel.cancel();
            task.await.unwrap();
        }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.app.deps().queue
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.app.deps().store
    }

    /// A project with a model of the inputs a, b (numbers) and c (text), and the output y.
    pub async fn model(&self, name: &str) -> ModelId {
        self.model_with(name, Task::Regression, &["y"]).await
    }

    /// As [`World::model`], of another task and with other outputs.
    pub async fn model_with(&self, name: &str, task: Task, outputs: &[&str]) -> ModelId {
        let now = Timestamp::now();
        let project = Project {
            id: ProjectId::new(),
            name: format!("project-{name}"),
            created_at: now,
            updated_at: now,
        };
        let mut columns = vec![
            json!({ "name": "a", "data_type": "float", "min": 0, "max": 10 }),
            json!({ "name": "b", "data_type": "float" }),
            json!({ "name": "c", "data_type": "category", "categories": ["x", "z"] }),
        ];
        columns.extend(
            outputs
                .iter()
                .map(|o| json!({ "name": o, "data_type": "float" })),
        );
        let model = Model {
            id: ModelId::new(),
            project_id: project.id,
            project_name: project.name.clone(),
            name: name.to_owned(),
            version: "v1".to_owned(),
            input_type: InputType::Structured,
            task,
            task_params: json!({}),
            schema: serde_json::from_value(json!({ "columns": columns })).unwrap(),
            spec: serde_json::from_value(json!({ "inputs": ["a", "b", "c"], "outputs": outputs }))
                .unwrap(),
            description: None,
            event_id_col: Some("id".to_owned()),
            event_ts_col: None,
            event_ts_format: None,
            xai_params: Some(json!({ "custom_explain_methods": ["Tree Shap"] })),
            artifact_status: ArtifactStatus::NoModel,
            artifact_files: vec![],
            created_at: now,
            updated_at: now,
        };
        let mut db = self.store().write().await.unwrap();
        projects::insert(&mut db, &project).await.unwrap();
        models::insert(&mut db, &model).await.unwrap();
        db.commit().await.unwrap();
        model.id
    }

    /// The model as stored.
    pub async fn stored(&self, model: ModelId) -> Model {
        let mut db = self.store().read().await.unwrap();
        models::get(&mut db, model).await.unwrap().unwrap()
    }

    /// An uploaded file.
    pub async fn file(&self, bytes: Vec<u8>) -> FileId {
        let blob = self
            .app
            .deps()
            .blobs
            .put(Box::new(Cursor::new(bytes)), u64::MAX - 1)
            .await
            .unwrap();
        let id = FileId::new();
        sqlx::query(
            "INSERT INTO files (id, filename, kind, status, digest, size, created_at, updated_at)
             VALUES (?, 'files.tar.gz', 'TAR_GZ', 'SUCCESSFUL', ?, ?, ?4, ?4)",
        )
        .bind(id.to_string())
        .bind(blob.digest.as_str())
        .bind(blob.size as i64)
        .bind(Timestamp::now().as_microsecond())
        .execute(self.store().pool())
        .await
        .unwrap();
        id
    }

    /// A dataset of `rows` (CSV with a header), in the canonical form publishing gives it.
    pub async fn dataset(&self, model: ModelId, name: &str, csv: &str) -> DatasetId {
        let schema = self.stored(model).await.schema;
        let (input, out) = (self.dir.path().join("in"), self.dir.path().join("out"));
        std::fs::write(&input, csv).unwrap();
        let published =
            luthier_data::canonicalise(&input, &schema, &["id".to_owned()], &out).unwrap();
        let bytes = std::fs::read(&out).unwrap();
        std::fs::remove_file(&out).unwrap();
        let blob = self
            .app
            .deps()
            .blobs
            .put(Box::new(Cursor::new(bytes)), u64::MAX - 1)
            .await
            .unwrap();
        let id = DatasetId::new();
        sqlx::query(
            "INSERT INTO datasets (id, model_id, name, row_count, digest, created_at, updated_at)
             VALUES (?, ?, ?, ?, ?, 0, 0)",
        )
        .bind(id.to_string())
        .bind(model.to_string())
        .bind(name)
        .bind(published.rows as i64)
        .bind(blob.digest.as_str())
        .execute(self.store().pool())
        .await
        .unwrap();
        id
    }

    /// A production event.
    pub async fn event(&self, model: ModelId, id: &str, row: Value) {
        sqlx::query("INSERT INTO events (model_id, event_id, ts, row) VALUES (?, ?, 0, ?)")
            .bind(model.to_string())
            .bind(id)
            .bind(row.to_string())
            .execute(self.store().pool())
            .await
            .unwrap();
    }

    /// The end of a job.
    pub async fn finished(&self, job: JobId) -> Job {
        finished(self.queue(), job).await
    }

    /// Names below the layers' directory `kind` (`packages`, `scratch`, …).
    pub fn layers(&self, kind: &str) -> Vec<String> {
        let dir = self.app.deps().layout.root().join(kind);
        names(&dir)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some((cancel, task)) = self.worker.take() {
            cancel.cancel();
            task.abort();
        }
    }
}

/// A gzipped tar of these files, named as the stock client does.
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let gz = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    let mut tar = tar::Builder::new(gz);
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("./{name}"), content.as_bytes())
            .unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return vec![];
    };
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
