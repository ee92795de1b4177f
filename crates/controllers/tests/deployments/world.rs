//! A world for the deployment controller: a real database, blobs in memory, and containers that are
//! remembered by a fake while a server on a Unix socket plays each one's runner.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arrow_array::{Array as _, Float64Array, RecordBatch};
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use luthier_controllers::{DeploymentController, Deps, Settings};
use luthier_gateway::{Gateway, Options};
use luthier_ports::{
    BlobStore as _, ContainerId, ContainerRuntime, ContainerSpec, ContainerStatus, Exit, LogLine,
    LogPart, Resized,
    fakes::{FakeRuntime, MemoryBlobs},
};
use luthier_store::{
    Store, batching,
    deployments::{self, Deployment, Revision},
    failures::{self, Failure},
    models,
    outside::{self, Outside},
    projects,
    replica_logs::ReplicaLogs,
    rollouts::{self, Rollout},
    usage,
};
use luthier_types::{
    ArtifactStatus, ArtifactType, Batching, Cause, Comparison, DataType, DeploymentId,
    DeploymentType, Digest, EnvId, InputType, Limits, Mebibytes, Millicpu, ModelId, ModelSchema,
    ModelSpec, OutsideId, Phase, ProjectId, ReplicaId, Resources, Result, RevisionId,
    RunnerAddress, Scaling, Task,
    layout::CacheLayout,
    runner::{InputColumn, Live, LoadPhase, Ready, RunnerError, RunnerErrorKind, STACKS_PATH},
    sizing::Usage,
};
use tempfile::TempDir;
use tokio::{
    net::UnixListener,
    sync::{Notify, Semaphore},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// The value of `x` in the row of [`World::predict`].
const ASKED: f64 = 7.0;

/// How the replicas of a revision behave.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    /// They load and answer this value in column `y`.
    Answers(f64),
    /// They load, and answer 1, to [`World::predict`] only while the semaphore is open.
    Holds(Arc<Semaphore>),
    /// They load, and answer what this makes of the column `x`; where it makes nothing, they raise.
    Computes(fn(&[f64]) -> Option<Vec<f64>>),
    /// They load and answer 1, but do not want to be asked for several at once.
    Declines,
    /// They load and answer several rows, but end when they are asked for one.
    EndsAlone,
    /// The same, but never answer.
    SilentAlone,
    /// They load and answer in another column.
    WrongColumn,
    /// Loading fails.
    FailsToLoad(RunnerErrorKind),
    /// They load for ever.
    Loads,
    /// The kernel ends them while they load.
    OutOfMemoryLoading,
    /// They end as soon as they are asked to predict.
    EndsPredicting,
    /// They load and answer 1; a call of theirs may be past its time.
    Hangs(Arc<Late>),
}

/// A call that is past its time.
#[derive(Debug, Default)]
pub(crate) struct Late {
    pub(crate) overdue_ms: AtomicU64,
    /// How often the runner was asked whether it lives.
    pub(crate) asked: AtomicU64,
}

/// Ends the container that a runner is in.
type End = Arc<dyn Fn() + Send + Sync>;

/// Containers with runners.
#[derive(Default)]
pub(crate) struct Runtime {
    pub(crate) fake: Arc<FakeRuntime>,
    plays: Mutex<HashMap<String, Play>>,
    servers: Mutex<HashMap<ContainerId, (JoinHandle<()>, PathBuf)>>,
    started: Mutex<Vec<ContainerId>>,
    /// Closed, it lets resizing wait.
    resize: Mutex<Option<Arc<Semaphore>>>,
    resizing: AtomicUsize,
}

pub(crate) struct World {
    dir: TempDir,
    pub(crate) store: Store,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) gateway: Arc<Gateway>,
    blobs: Arc<MemoryBlobs>,
    wake: Arc<Notify>,
    pub(crate) settings: Settings,
    pub(crate) model: ModelId,
    pub(crate) deployment: DeploymentId,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

// === impl Runtime ===

impl Runtime {
    fn play_of(&self, labels: &BTreeMap<String, String>) -> Play {
        let plays = self.plays.lock().unwrap();
        plays[&labels["luthier.revision"]].clone()
    }

    /// Ends a container and its runner as the kernel would.
    pub(crate) fn kill(&self, id: &ContainerId, exit: Exit) {
        self.hang_up(id);
        self.fake.exit(id, exit);
    }

    /// Its runner no longer answers, though the container runs.
    pub(crate) fn hang_up(&self, id: &ContainerId) {
        if let Some((server, socket)) = self.servers.lock().unwrap().remove(id) {
            server.abort();
            let _ = std::fs::remove_file(socket);
        }
    }

    /// Lets resizing wait for permits.
    pub(crate) fn hold_resizing(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.resize.lock().unwrap() = Some(gate.clone());
        gate
    }

    /// How often a container was to be resized.
    pub(crate) fn resizing(&self) -> usize {
        self.resizing.load(Ordering::Relaxed)
    }

    /// Containers ever started.
    pub(crate) fn started(&self) -> usize {
        self.started.lock().unwrap().len()
    }

    /// Running or ended containers of a revision.
    pub(crate) fn of(&self, revision: RevisionId) -> Vec<ContainerId> {
        let label = revision.to_string();
        let specs = self.fake.specs().into_iter();
        specs
            .filter(|s| s.labels["luthier.revision"] == label)
            .map(|s| s.id)
            .collect()
    }
}

pub(crate) fn oom() -> Exit {
    Exit {
        code: None,
        signal: Some(9),
        out_of_memory: true,
        memory_peak: Some(256 << 20),
        error: None,
    }
}

pub(crate) fn exit(code: i32) -> Exit {
    Exit {
        code: Some(code),
        signal: None,
        out_of_memory: false,
        memory_peak: None,
        error: None,
    }
}

#[async_trait]
impl ContainerRuntime for Runtime {
    async fn start(&self, spec: &ContainerSpec) -> Result<()> {
        self.fake.start(spec).await?;
        self.started.lock().unwrap().push(spec.id.clone());
        let play = self.play_of(&spec.labels);
        if matches!(play, Play::OutOfMemoryLoading) {
            self.fake.exit(&spec.id, oom());
            return Ok(());
        }
        assert!(spec.mounts.iter().all(|mount| mount.read_only));
        let socket = spec.socket.clone().unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let (fake, id, path) = (self.fake.clone(), spec.id.clone(), socket.clone());
        let end: End = Arc::new(move || {
            let _ = std::fs::remove_file(&path);
            fake.exit(&id, oom());
        });
        let server = tokio::spawn(serve(listener, play, end));
        let mut servers = self.servers.lock().unwrap();
        servers.insert(spec.id.clone(), (server, socket));
        Ok(())
    }

    async fn resize(
        &self,
        id: &ContainerId,
        resources: Resources,
        labels: &BTreeMap<String, String>,
    ) -> Result<Resized> {
        self.resizing.fetch_add(1, Ordering::Relaxed);
        let gate = self.resize.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        self.fake.resize(id, resources, labels).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        self.hang_up(id);
        self.fake.stop(id, grace).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.hang_up(id);
        self.fake.remove(id).await
    }

    async fn list(&self) -> Result<Vec<ContainerStatus>> {
        self.fake.list().await
    }

    async fn status(&self, id: &ContainerId) -> Result<Option<ContainerStatus>> {
        self.fake.status(id).await
    }

    async fn read_log(&self, id: &ContainerId, _part: LogPart) -> Result<Vec<LogLine>> {
        Ok(match self.fake.status(id).await? {
            Some(_) => vec![LogLine {
                at: None,
                text: "the last line".to_owned(),
            }],
            None => vec![],
        })
    }
}

// === impl World ===

impl World {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(&dir.path().join("luthier.db")).await.unwrap();
        let model = ModelId::new();
        insert_model(&store, model).await;
        let settings = Settings {
            poll: Duration::from_millis(5),
            liveness_interval: Duration::from_millis(20),
            liveness_timeout: Duration::from_millis(500),
            usage_interval: Duration::ZERO,
            interval: Duration::from_millis(100),
            ..Settings::default()
        };
        Self {
            dir,
            store,
            runtime: Arc::default(),
            gateway: Arc::new(Gateway::new(Options::default())),
            blobs: Arc::default(),
            wake: Arc::default(),
            settings,
            model,
            deployment: DeploymentId::new(),
            running: None,
        }
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub(crate) fn logs(&self) -> ReplicaLogs {
        ReplicaLogs::new(self.dir.path().join("logs"))
    }

    pub(crate) fn controller(&self) -> DeploymentController {
        DeploymentController::new(self.deps()).unwrap()
    }

    pub(crate) fn deps(&self) -> Deps {
        Deps {
            store: self.store.clone(),
            runtime: self.runtime.clone(),
            gateway: self.gateway.clone(),
            blobs: self.blobs.clone(),
            layout: CacheLayout::new(self.dir.path().join("cache")),
            run_dir: self.run_dir(),
            logs: self.logs(),
            wake: self.wake.clone(),
            settings: self.settings.clone(),
        }
    }

    /// Starts the controller, as a server does.
    pub(crate) async fn start(&mut self) {
        let mut controller = self.controller();
        controller.first_pass().await.unwrap();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(controller.run(cancel.clone()));
        self.running = Some((cancel, task));
    }

    /// Ends the controller and forgets what the gateway knew, as a server's end does.
    pub(crate) async fn stop(&mut self) {
        if let Some((cancel, task)) = self.running.take() {
            cancel.cancel();
            task.await.unwrap();
        }
        self.gateway = Arc::new(Gateway::new(Options::default()));
    }

    /// Stores a revision whose replicas play `play`.
    pub(crate) async fn revision(&self, play: Play) -> RevisionId {
        let rows =
            RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(vec![1.0, 2.0])) as _)])
                .unwrap();
        let bytes = luthier_data::to_ipc(&rows).unwrap();
        let validation = Digest::of(&bytes);
        let reader = Box::new(std::io::Cursor::new(bytes));
        self.blobs.put(reader, 1 << 20).await.unwrap();
        let revision = Revision {
            id: RevisionId::new(),
            model_id: self.model,
            image_uri: "md-base/python/python-39:2.0.2".into(),
            image: Digest::of("image"),
            rootfs: Digest::of("rootfs"),
            interpreter: Digest::of("interpreter"),
            variables: [].into(),
            env: EnvId(Digest::of("env")),
            package: Digest::of("package"),
            runner: Digest::of("runner"),
            inputs: vec![InputColumn {
                name: "x".into(),
                data_type: DataType::Float,
            }],
            outputs: vec!["y".into()],
            validation,
            created_at: jiff::Timestamp::now(),
        };
        let id = revision.id.to_string();
        self.runtime.plays.lock().unwrap().insert(id, play);
        let mut db = self.store.write().await.unwrap();
        deployments::insert_revision(&mut db, &revision)
            .await
            .unwrap();
        db.commit().await.unwrap();
        revision.id
    }

    /// Stores a revision as one that is rolled out, with values of `x` to compare it on, if any.
    pub(crate) async fn rollout(
        &self,
        play: Play,
        x: Option<Vec<f64>>,
        limits: Limits,
    ) -> RevisionId {
        let revision = self.revision(play).await;
        let sample = match x {
            Some(x) => {
                let rows =
                    RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(x)) as _)]);
                let bytes = luthier_data::to_ipc(&rows.unwrap()).unwrap();
                let reader = Box::new(std::io::Cursor::new(bytes));
                Some(self.blobs.put(reader, 1 << 20).await.unwrap().digest)
            }
            None => None,
        };
        let rollout = Rollout {
            revision,
            model: self.model,
            number: 0,
            cause: Cause::Update,
            image_uri: "image".to_owned(),
            env: EnvId(Digest::of("env")),
            package: Digest::of("package"),
            archive: None,
            sample,
            limits,
            comparison: None,
            failure: None,
            served: false,
            created_at: jiff::Timestamp::now(),
        };
        let mut db = self.store.write().await.unwrap();
        rollouts::insert(&mut db, &rollout).await.unwrap();
        db.commit().await.unwrap();
        revision
    }

    /// How a revision was found to differ.
    pub(crate) async fn comparison(&self, revision: RevisionId) -> Option<Comparison> {
        let mut db = self.store.read().await.unwrap();
        let rollout = rollouts::get(&mut db, revision).await.unwrap();
        rollout.unwrap().comparison
    }

    /// Sets who keeps the deployment's runner, of which the type becomes MANUAL.
    pub(crate) async fn keep_outside(&self, address: Option<RunnerAddress>) {
        let outside = address.map(|address| Outside {
            id: OutsideId::new(),
            address,
        });
        let mut db = self.store.write().await.unwrap();
        outside::set(&mut db, self.deployment, outside.as_ref())
            .await
            .unwrap();
        db.commit().await.unwrap();
        self.want(|d| d.deployment_type = DeploymentType::Manual)
            .await;
    }

    /// A runner that an operator keeps, which plays `play`; ends when it is aborted.
    pub(crate) fn outside(&self, name: &str, play: Play) -> (RunnerAddress, JoinHandle<()>) {
        let socket = self.dir.path().join(name);
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let task = tokio::spawn(serve(listener, play, Arc::new(|| ())));
        (socket.into(), task)
    }

    /// Lets replicas of the serving revision that start from now on play `play`.
    pub(crate) async fn replay(&self, play: Play) {
        let serving = self.seen().await.serving_revision.unwrap();
        let mut plays = self.runtime.plays.lock().unwrap();
        plays.insert(serving.to_string(), play);
    }

    /// Stores the deployment of `revision`.
    pub(crate) async fn deploy(&self, revision: RevisionId, replicas: u32) {
        let now = jiff::Timestamp::now();
        let deployment = Deployment {
            id: self.deployment,
            model_id: self.model,
            artifact_type: ArtifactType::PythonPackage,
            deployment_type: DeploymentType::BaseContainer,
            active: true,
            replicas,
            resources: Resources {
                cpu: Millicpu(100),
                memory: Mebibytes(256),
            },
            scaling: Scaling::default(),
            wanted_revision: Some(revision),
            generation: 1,
            serving_revision: None,
            observed_generation: 0,
            phase: Phase::Starting,
            ready_replicas: 0,
            target_replicas: None,
            failure: None,
            crashes: 0,
            created_at: now,
            updated_at: now,
        };
        let mut db = self.store.write().await.unwrap();
        deployments::insert(&mut db, &deployment).await.unwrap();
        db.commit().await.unwrap();
        self.wake.notify_one();
    }

    /// Changes intent.
    pub(crate) async fn want(&self, change: impl FnOnce(&mut Deployment)) {
        let mut db = self.store.write().await.unwrap();
        let mut deployment = deployments::of_model(&mut db, self.model)
            .await
            .unwrap()
            .unwrap();
        change(&mut deployment);
        deployment.generation += 1;
        deployments::update_intent(&mut db, &deployment)
            .await
            .unwrap();
        db.commit().await.unwrap();
        self.wake.notify_one();
    }

    pub(crate) async fn delete(&self) {
        let mut db = self.store.write().await.unwrap();
        deployments::delete(&mut db, self.deployment).await.unwrap();
        db.commit().await.unwrap();
        self.wake.notify_one();
    }

    pub(crate) async fn seen(&self) -> Deployment {
        let mut db = self.store.read().await.unwrap();
        deployments::of_model(&mut db, self.model)
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until the stored deployment is as told.
    pub(crate) async fn until(
        &self,
        what: &str,
        condition: impl Fn(&Deployment) -> bool,
    ) -> Deployment {
        for _ in 0..2000 {
            let seen = self.seen().await;
            if condition(&seen) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never seen: {what}; last {:?}", self.seen().await);
    }

    pub(crate) async fn settled(&self) -> Deployment {
        self.until("settled", Deployment::is_settled).await
    }

    /// Waits until `condition` holds.
    pub(crate) async fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..2000 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never happened: {what}");
    }

    /// What the model answers for one row now.
    pub(crate) async fn predict(&self) -> Result<f64> {
        let rows =
            RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(vec![ASKED])) as _)])
                .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let answer = self.gateway.predict(self.model, rows, deadline).await?;
        let y = answer.column(0).as_any();
        Ok(y.downcast_ref::<Float64Array>().unwrap().value(0))
    }

    /// What was found of a revision.
    pub(crate) async fn batching(&self, revision: RevisionId) -> Option<Batching> {
        let mut db = self.store.read().await.unwrap();
        batching::of_revision(&mut db, revision).await.unwrap()
    }

    /// How replicas failed, newest first.
    pub(crate) async fn failures(&self) -> Vec<Failure> {
        let mut db = self.store.read().await.unwrap();
        failures::latest(&mut db, self.model, 100).await.unwrap()
    }

    /// Waits until the replicas of a revision were seen to use what is told.
    pub(crate) async fn used(
        &self,
        revision: RevisionId,
        what: &str,
        condition: impl Fn(&Usage) -> bool,
    ) -> Usage {
        let mut seen = None;
        for _ in 0..2000 {
            let mut db = self.store.read().await.unwrap();
            seen = usage::of_revision(&mut db, revision).await.unwrap();
            if let Some(usage) = &seen
                && condition(usage)
            {
                return *usage;
            }
            drop(db);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never seen: {what}; last {seen:?}");
    }

    /// A container that looks like a replica of a deployment that is no more.
    pub(crate) async fn leave_orphan(&self, revision: RevisionId) -> ContainerId {
        let replica = ReplicaId::new();
        let labels = [
            ("luthier.deployment", DeploymentId::new().to_string()),
            ("luthier.model", ModelId::new().to_string()),
            ("luthier.revision", revision.to_string()),
            ("luthier.replica", replica.to_string()),
            ("luthier.cpu", "100".to_owned()),
            ("luthier.memory", "256".to_owned()),
        ]
        .map(|(k, v)| (k.to_owned(), v));
        let id = ContainerId(format!("r-{}", replica.0.simple()));
        let spec = ContainerSpec {
            id: id.clone(),
            rootfs: "/".into(),
            mounts: vec![],
            socket: None,
            args: vec![],
            env: BTreeMap::new(),
            cwd: "/".into(),
            memory: Mebibytes(256),
            cpu: Millicpu(100),
            cpu_cap: false,
            pids: 1,
            scratch: Mebibytes(1),
            network: luthier_ports::Network::Loopback,
            labels: labels.into(),
        };
        self.runtime.fake.start(&spec).await.unwrap();
        id
    }
}

/// The project and the model that the deployment belongs to.
async fn insert_model(store: &Store, id: ModelId) {
    let now = jiff::Timestamp::now();
    let project = projects::Project {
        id: ProjectId::new(),
        name: "p".into(),
        created_at: now,
        updated_at: now,
    };
    let model = models::Model {
        id,
        project_id: project.id,
        project_name: project.name.clone(),
        name: "m".into(),
        version: "v1".into(),
        input_type: InputType::Structured,
        task: Task::NotSet,
        task_params: serde_json::json!({}),
        schema: ModelSchema {
            schema_version: 1,
            columns: vec![],
        },
        spec: ModelSpec::default(),
        description: None,
        event_id_col: None,
        event_ts_col: None,
        event_ts_format: None,
        xai_params: None,
        artifact_status: ArtifactStatus::NoModel,
        artifact_files: vec![],
        created_at: now,
        updated_at: now,
    };
    let mut db = store.write().await.unwrap();
    projects::insert(&mut db, &project).await.unwrap();
    models::insert(&mut db, &model).await.unwrap();
    db.commit().await.unwrap();
}

async fn serve(listener: UnixListener, play: Play, end: End) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (play, end) = (play.clone(), end.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, play.clone(), end.clone()));
            let io = TokioIo::new(stream);
            http1::Builder::new().serve_connection(io, service).await
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    play: Play,
    end: End,
) -> std::result::Result<Response<Full<Bytes>>, std::io::Error> {
    let path = request.uri().path().to_owned();
    if path == "/v2/health/live" {
        return Ok(live(&play));
    }
    if path == STACKS_PATH {
        return Ok(Response::new(Full::new(Bytes::from_static(STACKS))));
    }
    if path == "/v2/health/ready" {
        return Ok(ready(&play));
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let rows = luthier_data::from_ipc(body).unwrap();
    let x = rows.column(0).as_any();
    let x = x.downcast_ref::<Float64Array>().unwrap().values();
    let constant = |value: f64| vec![value; x.len()];
    let (name, values) = match play {
        Play::Answers(value) => ("y", constant(value)),
        Play::Holds(gate) => {
            if x[0] == ASKED {
                let _ = gate.acquire().await;
            }
            ("y", constant(1.0))
        }
        Play::Computes(compute) => match compute(x) {
            Some(values) => ("y", values),
            None => return Ok(refused(&error(RunnerErrorKind::PredictRaised))),
        },
        Play::Declines | Play::Hangs(_) => ("y", constant(1.0)),
        Play::EndsAlone | Play::SilentAlone if x.len() > 1 => ("y", constant(1.0)),
        Play::SilentAlone => std::future::pending().await,
        Play::EndsPredicting | Play::EndsAlone => {
            end();
            return Err(std::io::Error::other("ended"));
        }
        _ => ("z", constant(0.0)),
    };
    let column = Arc::new(Float64Array::from(values)) as _;
    let batch = RecordBatch::try_from_iter([(name, column)]).unwrap();
    let bytes = luthier_data::to_ipc(&batch).unwrap();
    Ok(Response::new(Full::new(bytes.into())))
}

/// What `faulthandler` writes of a runner with a call that hangs.
const STACKS: &[u8] = b"Thread 0x01 (most recent call first):
  File \"/opt/luthier/package/package.py\", line 12 in predict
  File \"/opt/luthier/runner/luthier_host.py\", line 200 in predict

Thread 0x02 (most recent call first):
  File \"/opt/luthier/runner/luthier_host.py\", line 300 in run
";

fn live(play: &Play) -> Response<Full<Bytes>> {
    let mut live = Live {
        live: true,
        ..Live::default()
    };
    if let Play::Hangs(late) = play {
        late.asked.fetch_add(1, Ordering::Relaxed);
        live.overdue_ms = late.overdue_ms.load(Ordering::Relaxed);
        live.overdue_running_ms = live.overdue_ms + 60_000;
    }
    Response::new(Full::new(serde_json::to_vec(&live).unwrap().into()))
}

fn error(kind: RunnerErrorKind) -> RunnerError {
    RunnerError {
        kind,
        message: "cannot be loaded".into(),
        exception: Some("ValueError".into()),
        traceback: Some("Traceback: line 3".into()),
        module: Some("xgboost".into()),
    }
}

fn refused(body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(serde_json::to_vec(body).unwrap().into()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn ready(play: &Play) -> Response<Full<Bytes>> {
    let (phase, error) = match play {
        Play::Loads => (LoadPhase::Loading, None),
        Play::FailsToLoad(kind) => (LoadPhase::Failed, Some(error(*kind))),
        _ => (LoadPhase::Ready, None),
    };
    let ready = Ready {
        phase,
        import_seconds: None,
        load_seconds: None,
        memory_bytes: 1,
        python: "3.9.18".into(),
        packages: serde_json::Map::new(),
        declines_batching: matches!(play, Play::Declines),
        error,
    };
    if phase == LoadPhase::Ready {
        return Response::new(Full::new(serde_json::to_vec(&ready).unwrap().into()));
    }
    refused(&ready)
}
