//! Deployments kept as they are wanted.

use std::{sync::Arc, time::Duration};

use luthier_types::{Code, Mebibytes, Phase, runner::RunnerErrorKind};
use tokio::sync::Semaphore;

use crate::world::{Play, World, exit};

#[tokio::test]
async fn a_first_deployment_is_proven_and_serves() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 2).await;
    let seen = world.settled().await;
    assert_eq!((seen.phase, seen.ready_replicas), (Phase::Ready, 2));
    assert_eq!(seen.serving_revision, Some(revision));
    assert!(seen.failure.is_none());
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world.stop().await;
}

#[tokio::test]
async fn the_container_is_closed_and_made_of_the_revisions_layers() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    let spec = world.runtime.fake.specs().remove(0);
    assert!(spec.mounts.iter().all(|m| m.read_only));
    assert!(spec.socket.is_some_and(|s| s.ends_with("runner.sock")));
    assert_eq!(spec.network, luthier_ports::Network::Loopback);
    assert_eq!(spec.memory, Mebibytes(256));
    let config = spec
        .mounts
        .iter()
        .find(|m| m.target.ends_with("config"))
        .unwrap();
    let json = std::fs::read(config.source.join("runner.json")).unwrap();
    let config: luthier_types::runner::RunnerConfig = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        config.listen,
        format!("fd:{}", luthier_types::runner::LISTENER)
    );
    assert_eq!(config.outputs, ["y"]);
    world.stop().await;
}

/// Deploys what cannot come up and gives the failure; nothing may be left of it.
async fn failing(play: Play, change: impl FnOnce(&mut World)) -> luthier_types::Error {
    let mut world = World::new().await;
    change(&mut world);
    let revision = world.revision(play).await;
    world.start().await;
    world.deploy(revision, 2).await;
    let seen = world.settled().await;
    assert_eq!((seen.phase, seen.ready_replicas), (Phase::Failed, 0));
    assert_eq!(seen.serving_revision, None);
    world
        .wait("its container is removed", |w| {
            w.runtime.of(revision).is_empty()
        })
        .await;
    world
        .wait("its directory is removed", |w| {
            std::fs::read_dir(w.run_dir()).unwrap().count() == 0
        })
        .await;
    // One replica was enough to know.
    assert_eq!(world.runtime.started(), 1);
    let error = world.predict().await.unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
    world.stop().await;
    seen.failure.unwrap()
}

#[tokio::test]
async fn out_of_memory_while_loading_is_told_with_figures_and_a_suggestion() {
    let error = failing(Play::OutOfMemoryLoading, |_| {}).await;
    assert_eq!(error.code(), Code::ModelServeError);
    let evidence = error.observed();
    assert_eq!(evidence.out_of_memory, Some(true));
    assert_eq!(evidence.memory_limit, Some(256 << 20));
    assert_eq!(evidence.log, ["the last line"]);
    assert!(
        error.message().contains("out of memory at 256 MiB"),
        "{error}"
    );
    assert!(
        error.next_step().unwrap().contains("memory=384"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_missing_module_is_the_packages_fault() {
    let error = failing(Play::FailsToLoad(RunnerErrorKind::MissingModule), |_| {}).await;
    assert_eq!(error.code(), Code::InvalidPackage);
    assert!(error.message().contains("`xgboost`"), "{error}");
}

#[tokio::test]
async fn a_raising_get_model_is_told_with_its_traceback() {
    let error = failing(Play::FailsToLoad(RunnerErrorKind::GetModelRaised), |_| {}).await;
    assert_eq!(error.code(), Code::ModelServeError);
    assert_eq!(
        error.observed().output.as_deref(),
        Some("Traceback: line 3")
    );
}

#[tokio::test]
async fn one_that_never_loads_times_out() {
    let error = failing(Play::Loads, |w| {
        w.settings.load_timeout = Duration::from_millis(60);
    })
    .await;
    assert_eq!(error.code(), Code::DeploymentTimeout);
    assert!(
        error.message().contains("`get_model()` was still running"),
        "{error}"
    );
}

#[tokio::test]
async fn one_that_answers_in_other_columns_is_not_valid() {
    let error = failing(Play::WrongColumn, |_| {}).await;
    assert_eq!(error.code(), Code::InvalidPrediction);
    assert!(error.message().contains("[z]"), "{error}");
}

#[tokio::test]
async fn a_container_that_cannot_start_is_told_with_the_runtimes_cause() {
    let error = {
        let mut world = World::new().await;
        let revision = world.revision(Play::Answers(1.0)).await;
        world.runtime.fake.refuse(Some("no cgroups here"));
        world.start().await;
        world.deploy(revision, 1).await;
        let seen = world.settled().await;
        world.stop().await;
        assert_eq!(seen.phase, Phase::Failed);
        seen.failure.unwrap()
    };
    assert_eq!(
        (error.code(), error.message()),
        (Code::ContainerFailed, "no cgroups here")
    );
}

#[tokio::test]
async fn a_process_that_ends_at_the_validation_predict_is_told_by_its_end() {
    let error = failing(Play::EndsPredicting, |_| {}).await;
    assert_eq!(error.code(), Code::ModelServeError);
    assert_eq!(error.observed().out_of_memory, Some(true));
    assert!(error.message().contains("validation predict"), "{error}");
}

#[tokio::test]
async fn an_update_switches_without_an_unserved_request() {
    let mut world = World::new().await;
    let old = world.revision(Play::Answers(1.0)).await;
    let new = world.revision(Play::Answers(2.0)).await;
    world.start().await;
    world.deploy(old, 1).await;
    world.settled().await;
    world.want(|d| d.wanted_revision = Some(new)).await;
    let mut seen_new = false;
    for _ in 0..5000 {
        let y = world.predict().await.unwrap();
        assert!(y == 1.0 || y == 2.0);
        // Once switched, never back.
        assert!(!(seen_new && y == 1.0));
        seen_new |= y == 2.0;
        if seen_new && world.runtime.of(old).is_empty() {
            break;
        }
    }
    let seen = world.settled().await;
    assert_eq!(
        (seen.phase, seen.serving_revision),
        (Phase::Ready, Some(new))
    );
    world
        .wait("the old is removed", |w| w.runtime.of(old).is_empty())
        .await;
    assert_eq!(world.predict().await.unwrap(), 2.0);
    world.stop().await;
}

#[tokio::test]
async fn a_request_underway_is_answered_before_its_replica_stops() {
    let mut world = World::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let old = world.revision(Play::Holds(gate.clone())).await;
    let new = world.revision(Play::Answers(2.0)).await;
    world.start().await;
    world.deploy(old, 1).await;
    world.settled().await;
    let world = Arc::new(world);
    let asking = world.clone();
    let underway = tokio::spawn(async move { asking.predict().await });
    let in_flight = |w: &World| w.gateway.stats(w.model).is_some_and(|s| s.in_flight == 1);
    world.wait("it is underway", in_flight).await;
    world.want(|d| d.wanted_revision = Some(new)).await;
    let seen = world.settled().await;
    assert_eq!(
        (seen.phase, seen.serving_revision),
        (Phase::Ready, Some(new))
    );
    assert_eq!(world.predict().await.unwrap(), 2.0);
    assert_eq!(world.runtime.of(old).len(), 1);
    gate.add_permits(1);
    assert_eq!(underway.await.unwrap().unwrap(), 1.0);
    world
        .wait("the old is removed", |w| w.runtime.of(old).is_empty())
        .await;
    Arc::into_inner(world).unwrap().stop().await;
}

#[tokio::test]
async fn a_failing_update_leaves_the_old_serving() {
    let mut world = World::new().await;
    let old = world.revision(Play::Answers(1.0)).await;
    let bad = world.revision(Play::WrongColumn).await;
    world.start().await;
    world.deploy(old, 1).await;
    world.settled().await;
    world.want(|d| d.wanted_revision = Some(bad)).await;
    let seen = world.settled().await;
    assert_eq!(
        (seen.phase, seen.serving_revision),
        (Phase::Failed, Some(old))
    );
    assert_eq!(seen.ready_replicas, 1);
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world
        .wait("the bad is removed", |w| w.runtime.of(bad).is_empty())
        .await;
    // As a failed job's compensation does.
    world.want(|d| d.wanted_revision = Some(old)).await;
    let seen = world.settled().await;
    assert_eq!(seen.phase, Phase::Ready);
    assert!(seen.failure.is_none());
    assert_eq!(world.runtime.started(), 2);
    world.stop().await;
}

#[tokio::test]
async fn a_crashed_replica_is_replaced_and_the_reason_kept() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 2).await;
    world.settled().await;
    let crashed = world.runtime.of(revision)[0].clone();
    world.runtime.kill(&crashed, exit(3));
    let seen = world
        .until("one is missed", |d| d.ready_replicas == 1)
        .await;
    assert_eq!(seen.phase, Phase::Ready);
    assert_eq!(seen.failure.unwrap().observed().exit_code, Some(3));
    assert_eq!(seen.crashes, 1);
    assert_eq!(world.predict().await.unwrap(), 1.0);
    let seen = world
        .until("it is replaced", |d| d.ready_replicas == 2)
        .await;
    assert!(seen.failure.is_some());
    assert!(!world.runtime.of(revision).contains(&crashed));
    world.stop().await;
}

#[tokio::test]
async fn a_request_that_finds_a_replica_gone_has_the_controller_look_at_once() {
    let mut world = World::new().await;
    // The timers alone would not see it within the test.
    world.settings.liveness_interval = Duration::from_secs(3600);
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    world.runtime.kill(&world.runtime.of(revision)[0], exit(1));
    world.predict().await.unwrap_err();
    world.until("it is seen", |d| d.ready_replicas == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn a_replica_that_stops_answering_is_replaced() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    world.runtime.hang_up(&world.runtime.of(revision)[0]);
    let seen = world.until("it is seen", |d| d.ready_replicas == 0).await;
    assert!(seen.failure.unwrap().message().contains("health checks"));
    world
        .until("it is replaced", |d| d.ready_replicas == 1)
        .await;
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world.stop().await;
}

#[tokio::test]
async fn inactive_runs_nothing_and_active_serves_again() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 2).await;
    world.settled().await;
    world.want(|d| d.active = false).await;
    let seen = world.settled().await;
    assert_eq!((seen.phase, seen.ready_replicas), (Phase::Stopped, 0));
    world
        .wait("all are removed", |w| w.runtime.fake.specs().is_empty())
        .await;
    assert_eq!(
        world.predict().await.unwrap_err().code(),
        Code::ModelUnavailable
    );
    world.want(|d| d.active = true).await;
    assert_eq!(world.settled().await.phase, Phase::Ready);
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world.stop().await;
}

#[tokio::test]
async fn scaling_keeps_the_replicas_that_run() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    let first = world.runtime.of(revision);
    world.want(|d| d.replicas = 3).await;
    assert_eq!(world.settled().await.ready_replicas, 3);
    assert_eq!(world.runtime.started(), 3);
    world.want(|d| d.replicas = 1).await;
    assert_eq!(world.settled().await.ready_replicas, 1);
    world
        .wait("the others are removed", |w| {
            w.runtime.of(revision) == first
        })
        .await;
    world.stop().await;
}

#[tokio::test]
async fn changed_resources_are_proven_in_a_new_replica() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    world.want(|d| d.resources.memory = Mebibytes(512)).await;
    assert_eq!(world.settled().await.phase, Phase::Ready);
    world
        .wait("only the new is left", |w| {
            let specs = w.runtime.fake.specs();
            specs.len() == 1 && specs[0].memory == Mebibytes(512)
        })
        .await;
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world.stop().await;
}

#[tokio::test]
async fn a_deleted_deployment_and_orphans_leave_nothing() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    let orphan = world.leave_orphan(revision).await;
    world.start().await;
    world.deploy(revision, 2).await;
    world.settled().await;
    world
        .wait("the orphan is removed", |w| {
            !w.runtime.of(revision).contains(&orphan)
        })
        .await;
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world.delete().await;
    world
        .wait("all are removed", |w| w.runtime.fake.specs().is_empty())
        .await;
    world
        .wait("all directories too", |w| {
            std::fs::read_dir(w.run_dir()).unwrap().count() == 0
        })
        .await;
    assert_eq!(
        world.predict().await.unwrap_err().code(),
        Code::ModelUnavailable
    );
    world.stop().await;
}

#[tokio::test]
async fn a_new_server_adopts_what_runs() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 2).await;
    world.settled().await;
    let running = world.runtime.of(revision);
    world.stop().await;
    assert_eq!(world.runtime.of(revision), running);
    // The first pass alone is enough to answer.
    let mut controller = world.controller();
    controller.first_pass().await.unwrap();
    assert_eq!(world.predict().await.unwrap(), 1.0);
    assert_eq!(world.gateway.stats(world.model).unwrap().replicas, 2);
    assert_eq!(world.runtime.of(revision), running);
    assert_eq!(world.runtime.started(), 2);
    assert_eq!(world.seen().await.phase, Phase::Ready);
}

#[tokio::test]
async fn a_new_server_finishes_an_update_underway() {
    let mut world = World::new().await;
    let old = world.revision(Play::Answers(1.0)).await;
    let new = world.revision(Play::Answers(2.0)).await;
    world.start().await;
    world.deploy(old, 1).await;
    world.settled().await;
    world.stop().await;
    world.want(|d| d.wanted_revision = Some(new)).await;
    let mut controller = world.controller();
    controller.first_pass().await.unwrap();
    // The unproven does not serve; the old does.
    assert_eq!(world.predict().await.unwrap(), 1.0);
    drop(controller);
    world.start().await;
    world.settled().await;
    assert_eq!(world.predict().await.unwrap(), 2.0);
    world.stop().await;
}

#[tokio::test]
async fn a_new_server_remembers_what_failed() {
    let mut world = World::new().await;
    let old = world.revision(Play::Answers(1.0)).await;
    let bad = world.revision(Play::WrongColumn).await;
    world.start().await;
    world.deploy(old, 1).await;
    world.settled().await;
    world.want(|d| d.wanted_revision = Some(bad)).await;
    world.settled().await;
    world.stop().await;
    let started = world.runtime.started();
    world.start().await;
    let seen = world.settled().await;
    assert_eq!((seen.phase, seen.ready_replicas), (Phase::Failed, 1));
    assert_eq!(world.predict().await.unwrap(), 1.0);
    assert_eq!(world.runtime.started(), started);
    world.stop().await;
}

#[tokio::test]
async fn after_a_reboot_replicas_start_anew() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 2).await;
    world.settled().await;
    world.stop().await;
    for id in world.runtime.of(revision) {
        world.runtime.kill(&id, exit(255));
    }
    world.start().await;
    world.until("all are back", |d| d.ready_replicas == 2).await;
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world
        .wait("what was left is removed", |w| {
            w.runtime.of(revision).len() == 2
        })
        .await;
    world.stop().await;
}

#[tokio::test]
async fn a_run_directory_too_deep_for_sockets_is_refused_in_plain_words() {
    let dir = std::path::PathBuf::from(format!("/{}", "d".repeat(80)));
    let world = World::new().await;
    let deps = luthier_controllers::Deps {
        run_dir: dir,
        ..world.deps()
    };
    let error = luthier_controllers::DeploymentController::new(deps)
        .err()
        .unwrap();
    assert!(error.message().contains("too long"), "{error}");
    assert!(error.next_step().unwrap().contains("--data"));
}
