//! Environments as a store: who uses them, and that collecting never takes one that is in use.

use luthier_app::deploy::Mode;
use luthier_jobs::Job;
use luthier_ports::{ContainerId, ContainerRuntime as _, ContainerSpec, Network};
use luthier_testkit::{GOOD_PACKAGE, IMAGE, NEW_IMAGE, World};
use luthier_types::{Code, EnvId, JobStatus, Mebibytes, Millicpu, ModelId};
use serde_json::{Value, json};

use crate::{deploy, deployed};

async fn collected(world: &World) -> Job {
    let job = world.app.collect_envs().await.unwrap();
    world.finished(job.id).await
}

/// The environment of a model's wanted revision.
async fn env_of(world: &World, model: &str) -> String {
    let statuses = world.app.deployment_statuses().await.unwrap();
    let found = statuses.iter().find(|s| s["model"] == model).unwrap();
    found["environment"].as_str().unwrap().to_owned()
}

/// An environment that nothing uses.
fn unused(world: &World) -> EnvId {
    let id = EnvId(luthier_types::Digest::of("unused"));
    std::fs::create_dir_all(world.app.deps().layout.env(&id)).unwrap();
    id
}

pub(crate) fn container(labels: &[(&str, String)]) -> ContainerSpec {
    ContainerSpec {
        id: ContainerId("r-1".to_owned()),
        rootfs: "/".into(),
        mounts: vec![],
        socket: None,
        args: vec![],
        env: [].into(),
        cwd: "/".into(),
        memory: Mebibytes(256),
        cpu: Millicpu(100),
        cpu_cap: false,
        pids: 1,
        scratch: Mebibytes(1),
        network: Network::Loopback,
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()))
            .collect(),
    }
}

async fn deployed_on(world: &World, model: ModelId, mode: Mode, image: &str) {
    let files = [("package.py", GOOD_PACKAGE)];
    let params = json!({ "image_uri": image });
    let job = deploy(world, model, mode, &files, params).await.unwrap();
    assert_eq!(world.finished(job.id).await.status, JobStatus::Success);
}

#[tokio::test]
async fn environments_tell_who_uses_them_and_what_is_in_them() {
    let world = World::new().await;
    let (one, two) = (world.model("one").await, world.model("two").await);
    deployed(&world, one).await;
    deployed(&world, two).await;
    let envs = world.app.envs().await.unwrap();
    assert_eq!(envs.len(), 1, "both have the same");
    let models: Vec<&Value> = envs[0]["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["model"])
        .collect();
    assert_eq!(models, ["one", "two"]);
    assert_eq!(envs[0]["models"][0]["current"], true);
    let id = env_of(&world, "one").await;
    for id in [&id[..], &id[..8]] {
        let sbom = world.app.sbom(id).await.unwrap();
        assert_eq!(sbom["bomFormat"], "CycloneDX");
    }
    for id in ["", "zz", "../.."] {
        assert_eq!(world.app.sbom(id).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn collecting_takes_what_nothing_uses_and_says_so_before() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed_on(&world, model, Mode::Add, IMAGE).await;
    deployed_on(&world, model, Mode::Update, NEW_IMAGE).await;
    let unused = unused(&world);
    let before = world.layers("envs");
    assert_eq!(before.len(), 3);
    let told = world.app.unused_envs().await.unwrap();
    assert_eq!(told.iter().map(|e| &e.id).collect::<Vec<_>>(), [&unused]);
    assert_eq!(world.layers("envs"), before, "asking removes nothing");
    let job = collected(&world).await;
    assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    // The environment of the earlier revision stays too: one command leads back to it.
    assert_eq!(world.layers("envs").len(), 2);
    assert!(!world.layers("envs").contains(&unused.to_string()));
    let detail = world.app.job_detail(job.id).await.unwrap();
    assert_eq!(
        detail["steps"][0]["result"]["environments"],
        json!([unused])
    );
}

#[tokio::test]
async fn a_deleted_models_environment_goes_once_its_container_has_ended() {
    let world = World::new().await;
    let model = world.model("m").await;
    deployed(&world, model).await;
    let env = env_of(&world, "m").await;
    let spec = container(&[("luthier.environment", env.clone())]);
    world.runtime.start(&spec).await.unwrap();
    let job = world.app.delete_model(model).await.unwrap();
    world.finished(job.id).await;
    collected(&world).await;
    assert_eq!(world.layers("envs"), [env]);
    world.runtime.remove(&spec.id).await.unwrap();
    collected(&world).await;
    assert_eq!(world.layers("envs"), [""; 0]);
}

#[tokio::test]
async fn nothing_is_taken_while_a_replica_cannot_be_told() {
    let world = World::new().await;
    let unused = unused(&world);
    let revision = luthier_types::RevisionId::new().to_string();
    let spec = container(&[("luthier.revision", revision)]);
    world.runtime.start(&spec).await.unwrap();
    let job = collected(&world).await;
    assert_eq!(job.error.unwrap().code(), Code::Conflict);
    assert_eq!(world.layers("envs"), [unused.to_string()]);
}

#[tokio::test]
async fn the_environment_of_an_unfinished_job_stays() {
    let world = World::without_worker().await;
    let model = world.model("m").await;
    let files = [("package.py", GOOD_PACKAGE)];
    let job = deploy(&world, model, Mode::Add, &files, json!({}))
        .await
        .unwrap();
    // As a killed server leaves it: locked and built, and not published.
    let unused = unused(&world);
    let result = json!({
        "image": {
            "info": { "uri": IMAGE, "python": "3.11", "summary": "", "libraries": [] },
            "digest": "0".repeat(64),
            "rootfs": "0".repeat(64),
            "interpreter": "0".repeat(64),
            "lock": "",
        },
        "lock": { "id": unused, "text": "", "image": "0".repeat(64) },
    });
    sqlx::query("INSERT INTO job_steps (job_id, position, name, result, started_at) VALUES (?, 2, 'lock', ?, 0)")
        .bind(job.id.to_string())
        .bind(result.to_string())
        .execute(world.store().pool())
        .await
        .unwrap();
    assert!(world.app.unused_envs().await.unwrap().is_empty());
    assert_eq!(world.app.envs().await.unwrap()[0]["jobs"], json!([job.id]));
    world.queue().cancel(job.id).await.unwrap();
    sqlx::query("UPDATE jobs SET status = 'REVOKED'")
        .execute(world.store().pool())
        .await
        .unwrap();
    assert_eq!(world.app.unused_envs().await.unwrap().len(), 1);
}
