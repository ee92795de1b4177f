//! What nobody needs goes, whatever happened before, and nothing else does.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Cursor, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use luthier_app::deploy::{DeployRequest, Mode};
use luthier_jobs::testing;
use luthier_ports::{ContainerId, ContainerRuntime as _, ContainerSpec};
use luthier_testkit::{World, archive};
use luthier_types::{Digest, FileId, ModelId};
use proptest::prelude::*;
use serde_json::json;

use crate::{data_trials, envs::container};

/// What may happen to a server.
#[derive(Clone, Debug)]
enum Happening {
    /// A package is uploaded.
    Upload(usize),
    /// An upload is deployed to a model, by a job that waits.
    Deploy(usize, usize),
    /// A model is deleted, by a job that waits, and another of its name is made.
    Delete(usize),
    /// The jobs that wait are run.
    Work,
    /// A package is uploaded, deployed, and a replica of it starts.
    Serve(usize, usize),
    /// Replicas of models that are gone end.
    End,
    /// A day goes by.
    Day,
}

fn happening() -> impl Strategy<Value = Happening> {
    let model = 0..2_usize;
    prop_oneof![
        3 => (0..3_usize).prop_map(Happening::Upload),
        4 => (model.clone(), 0..4_usize).prop_map(|(m, f)| Happening::Deploy(m, f)),
        2 => model.clone().prop_map(Happening::Delete),
        3 => Just(Happening::Work),
        2 => (model, 0..3_usize).prop_map(|(m, kind)| Happening::Serve(m, kind)),
        1 => Just(Happening::End),
        2 => Just(Happening::Day),
    ]
}

/// A server's history.
struct History {
    world: World,
    models: Vec<ModelId>,
    files: Vec<FileId>,
    count: usize,
    /// The packages of replicas that run.
    running: BTreeSet<String>,
}

impl History {
    async fn new() -> Self {
        let world = World::without_worker().await;
        let mut history = Self {
            models: vec![],
            files: vec![],
            count: 0,
            running: BTreeSet::new(),
            world,
        };
        for _ in 0..2 {
            let model = history.model().await;
            history.models.push(model);
        }
        history
    }

    async fn model(&mut self) -> ModelId {
        self.count += 1;
        self.world.model(&format!("m{}", self.count)).await
    }

    async fn happens(&mut self, what: &Happening) {
        match what {
            Happening::Upload(kind) => {
                let text = format!("def get_model():\n    return {kind}\n");
                let bytes = archive(&[("package.py", &text)]);
                self.files.push(self.world.file(bytes).await);
            }
            Happening::Deploy(model, file) => {
                let model = self.models[*model];
                let Some(file_id) = self.files.iter().rev().nth(*file).copied() else {
                    return;
                };
                let request = DeployRequest {
                    file_id,
                    deployment_params: None,
                    limits: None,
                };
                let app = &self.world.app;
                // Refused when the file has gone, or one is being deployed.
                for mode in [Mode::Add, Mode::Update] {
                    let _ = app
                        .deploy_artifact(model, request.clone(), mode, false)
                        .await;
                }
            }
            Happening::Delete(model) => {
                let new = self.model().await;
                let old = std::mem::replace(&mut self.models[*model], new);
                self.world.app.delete_model(old).await.unwrap();
            }
            Happening::Work => self.work().await,
            Happening::Serve(model, kind) => {
                for first in [
                    Happening::Upload(*kind),
                    Happening::Deploy(*model, 0),
                    Happening::Work,
                ] {
                    Box::pin(self.happens(&first)).await;
                }
                let query = "SELECT id, package FROM revisions WHERE model_id = ? ORDER BY id DESC";
                let newest: Option<(String, String)> = sqlx::query_as(query)
                    .bind(self.models[*model].to_string())
                    .fetch_optional(self.world.store().pool())
                    .await
                    .unwrap();
                if let Some((revision, package)) = newest {
                    self.count += 1;
                    let mut spec = container(&[("luthier.revision", revision)]);
                    spec.id = ContainerId(format!("r-{}", self.count));
                    self.world.runtime.start(&spec).await.unwrap();
                    self.running.insert(package);
                }
            }
            Happening::End => self.end().await,
            Happening::Day => {
                sqlx::query("UPDATE files SET updated_at = updated_at - 86400000000")
                    .execute(self.world.store().pool())
                    .await
                    .unwrap();
            }
        }
    }

    async fn work(&mut self) {
        self.world.work();
        let queue = self.world.queue().clone();
        testing::until("the jobs to end", async || {
            let jobs = queue.list(1000).await.unwrap();
            jobs.iter().all(|job| job.status.is_final())
        })
        .await;
        self.world.rest().await;
    }

    async fn end(&mut self) {
        self.running.clear();
        for spec in self.world.runtime.specs() {
            self.world.runtime.remove(&spec.id).await.unwrap();
        }
    }

    async fn texts(&self, query: &'static str) -> BTreeSet<String> {
        let pool = self.world.store().pool();
        let found: Vec<String> = sqlx::query_scalar(query).fetch_all(pool).await.unwrap();
        found.into_iter().collect()
    }

    /// Sweeps and checks that all that is needed is there, and nothing else of what may go.
    async fn sweep(&self) {
        let recent = "SELECT id FROM files WHERE updated_at > unixepoch() * 1000000 - 86000000000";
        let uploads = self.texts(recent).await;
        self.world.app.sweep().await.unwrap();
        assert_eq!(self.texts(recent).await, uploads, "no upload of today goes");
        // Every blob is mentioned, and every mentioned one is there.
        let blobs = data_trials::blobs(&self.world).await;
        for archive in self
            .texts(
                "SELECT json_extract(payload, '$.archive.digest') FROM jobs
                 WHERE kind = 'deploy_artifact' AND status = 'PENDING'",
            )
            .await
        {
            assert!(blobs.contains(&archive), "a job's archive is gone");
        }
        let needed = self.texts("SELECT package FROM revisions").await;
        let packages: BTreeSet<String> = self.world.layers("packages").into_iter().collect();
        let revisions = self.texts("SELECT id FROM revisions").await;
        let specs = self.world.runtime.specs();
        let revision = |s: &ContainerSpec| s.labels["luthier.revision"].clone();
        if specs.iter().all(|s| revisions.contains(&revision(s))) {
            assert_eq!(packages, needed);
        }
        for package in needed.iter().chain(&self.running) {
            assert!(packages.contains(package), "a replica's package is gone");
        }
        assert_eq!(self.world.layers("scratch"), [""; 0]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn what_nobody_needs_goes_and_nothing_else(
        happenings in prop::collection::vec(happening(), 1..20),
    ) {
        let executor = tokio::runtime::Runtime::new().unwrap();
        executor.block_on(async {
            let mut history = History::new().await;
            for happening in &happenings {
                history.happens(happening).await;
                history.sweep().await;
            }
            for last in [
                Happening::Work,
                Happening::Delete(0),
                Happening::Delete(1),
                Happening::Work,
                Happening::End,
                Happening::Day,
            ] {
                history.happens(&last).await;
                history.sweep().await;
            }
            assert!(data_trials::blobs(&history.world).await.is_empty());
            assert_eq!(history.world.layers("packages"), [""; 0]);
        });
    }
}

#[tokio::test]
async fn a_package_that_is_just_being_recorded_stays() {
    let world = World::without_worker().await;
    let layer = unused_package(&world, "underway", 1);
    let model = world.model("m").await;
    let file_id = world.file(archive(&[("package.py", "")])).await;
    let request = DeployRequest {
        file_id,
        deployment_params: None,
        limits: None,
    };
    let job = world
        .app
        .deploy_artifact(model, request, Mode::Add, false)
        .await
        .unwrap();
    let row =
        "INSERT INTO job_steps (job_id, position, name, started_at) VALUES (?, 0, 'unpack', 0)";
    sqlx::query(row)
        .bind(job.id.to_string())
        .execute(world.store().pool())
        .await
        .unwrap();
    let swept = world.app.sweep().await.unwrap();
    assert!(swept.is_left && swept.packages.is_empty(), "{swept:?}");
    let result = json!({ "package": layer, "before": {
        "intent": null, "artifact": null, "artifact_status": "no_model", "artifact_files": [],
    } });
    sqlx::query("UPDATE job_steps SET result = ?")
        .bind(result.to_string())
        .execute(world.store().pool())
        .await
        .unwrap();
    let other = unused_package(&world, "other", 1);
    let swept = world.app.sweep().await.unwrap();
    assert_eq!(swept.packages, [other], "that of the job stays");
    assert!(!swept.is_left);
}

#[tokio::test]
async fn an_upload_that_does_not_end_holds_up_neither_a_sweep_nor_other_uploads() {
    let world = World::without_worker().await;
    let (endless, _open) = tokio::io::duplex(16);
    let app = world.app.clone();
    let upload = tokio::spawn(async move {
        app.upload_file("slow.csv".to_owned(), Box::new(endless))
            .await
    });
    // On this one thread it is then waiting for the bytes that never come.
    tokio::task::yield_now().await;
    let begun = Instant::now();
    let swept = world.app.sweep().await.unwrap();
    assert!(swept.is_left, "blobs are left to the next sweep");
    let quick = Box::new(Cursor::new(b"a\n1\n".to_vec()));
    world
        .app
        .upload_file("quick.csv".to_owned(), quick)
        .await
        .unwrap();
    assert!(begun.elapsed().as_secs() < 60);
    upload.abort();
}

#[tokio::test]
async fn a_start_removes_what_was_being_made_or_removed() {
    let world = World::without_worker().await;
    let scratch = world.app.deps().layout.scratch();
    std::fs::create_dir_all(scratch.join("gone-1/half")).unwrap();
    std::fs::write(scratch.join(".tmpx"), "").unwrap();
    world.app.clear_scratch().await.unwrap();
    assert_eq!(world.layers("scratch"), [""; 0]);
}

/// A package of `files` files that nothing has.
fn unused_package(world: &World, name: &str, files: usize) -> Digest {
    let digest = Digest::of(name);
    let layer = world.app.deps().layout.package(&digest);
    std::fs::create_dir_all(&layer).unwrap();
    for file in 0..files {
        std::fs::write(layer.join(file.to_string()), "x").unwrap();
    }
    digest
}

const FILES: usize = 2000;

/// What the process does that is killed. It keeps all it makes in its TMPDIR.
#[tokio::test]
async fn as_the_process_that_is_killed() {
    if std::env::var_os("LUTHIER_TEST_CHILD").is_none() {
        return;
    }
    let world = World::without_worker().await;
    for name in ["one", "two", "three"] {
        unused_package(&world, name, FILES);
    }
    println!("\nready {}", world.app.deps().layout.root().display());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    world.app.sweep().await.unwrap();
}

#[test]
fn killed_at_any_moment_a_package_is_whole_or_gone() {
    let mut caught = 0;
    for gone in 1..=3 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "sweep::as_the_process_that_is_killed",
                "--nocapture",
            ])
            .env("LUTHIER_TEST_CHILD", "1")
            .env("TMPDIR", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let root = lines
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("ready ").map(str::to_owned))
            .unwrap();
        let (packages, scratch) = (
            Path::new(&root).join("packages"),
            Path::new(&root).join("scratch"),
        );
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        while entries(&packages).len() > 3 - gone && child.try_wait().unwrap().is_none() {
            whole(&packages);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        whole(&packages);
        caught += usize::from(!entries(&scratch).is_empty());
    }
    assert!(caught > 0, "it was never killed in the middle");
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Checks that every package that is there has all its files.
fn whole(packages: &Path) {
    for package in entries(packages) {
        let files = std::fs::read_dir(&package).map_or(0, Iterator::count);
        // One that was moved away while it was read is no longer there.
        assert!(
            files == FILES || !package.exists(),
            "{files} files are left"
        );
    }
}
