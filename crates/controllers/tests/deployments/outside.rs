//! Runners that an operator keeps: validated before traffic reaches them, watched, never started or
//! stopped.

use std::time::Duration;

use luthier_types::{Code, Phase, RunnerAddress, runner::RunnerErrorKind};

use crate::world::{Play, World};

/// A world in which a container serves that answers 1.
async fn contained() -> World {
    let mut world = World::new().await;
    world.settings.load_timeout = Duration::from_millis(300);
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 2).await;
    assert_eq!(world.settled().await.phase, Phase::Ready);
    world
}

#[tokio::test]
async fn a_runner_outside_takes_the_place_of_the_containers_and_gives_it_back() {
    let mut world = contained().await;
    let started = world.runtime.started();
    let (address, runner) = world.outside("a.sock", Play::Answers(2.0));
    world.keep_outside(Some(address)).await;
    let seen = world.settled().await;
    assert_eq!((seen.phase, seen.ready_replicas), (Phase::Ready, 1));
    assert_eq!(world.predict().await.unwrap(), 2.0);
    world
        .wait("the containers are gone", |w| {
            w.runtime.fake.specs().is_empty()
        })
        .await;
    assert_eq!(world.runtime.started(), started, "none is started for it");

    // A restarted server takes it over before the first request.
    world.stop().await;
    world.start().await;
    assert_eq!(world.predict().await.unwrap(), 2.0);

    world.keep_outside(None).await;
    assert_eq!(world.settled().await.ready_replicas, 2);
    assert_eq!(world.predict().await.unwrap(), 1.0);
    assert!(!runner.is_finished(), "it is its operator's to stop");
    runner.abort();
    world.stop().await;
}

#[tokio::test]
async fn a_runner_that_is_not_good_leaves_what_serves() {
    let mut world = contained().await;
    let nobody: RunnerAddress = "unix:/nonexistent/r.sock".parse().unwrap();
    let (wrong, _wrong) = world.outside("w.sock", Play::WrongColumn);
    let (loads, _loads) = world.outside("l.sock", Play::Loads);
    let failed = Play::FailsToLoad(RunnerErrorKind::GetModelRaised);
    let (fails, _fails) = world.outside("f.sock", failed);
    for (address, code, text) in [
        (nobody, Code::DeploymentTimeout, "does not answer"),
        (wrong, Code::InvalidPrediction, "[z]"),
        (loads, Code::DeploymentTimeout, "still loading"),
        (fails, Code::ModelServeError, "cannot be loaded"),
    ] {
        world.keep_outside(Some(address.clone())).await;
        let seen = world.settled().await;
        assert_eq!((seen.phase, seen.ready_replicas), (Phase::Failed, 2));
        let failure = seen.failure.unwrap();
        assert_eq!(failure.code(), code, "{address}");
        assert!(failure.message().contains(text), "{failure}");
        assert!(failure.next_step().is_some(), "{address}");
        assert_eq!(world.predict().await.unwrap(), 1.0);
    }
    world.stop().await;
}

#[tokio::test]
async fn one_that_goes_away_is_taken_out_and_taken_back() {
    let mut world = contained().await;
    let (address, runner) = world.outside("a.sock", Play::Answers(2.0));
    world.keep_outside(Some(address)).await;
    world.settled().await;
    runner.abort();
    let gone = world
        .until("it is taken out", |d| d.ready_replicas == 0)
        .await;
    assert!(gone.failure.unwrap().message().contains("health checks"));
    let (_, runner) = world.outside("a.sock", Play::Answers(3.0));
    world
        .until("it is taken back", |d| d.ready_replicas == 1)
        .await;
    assert_eq!(world.predict().await.unwrap(), 3.0);
    assert!(
        world.runtime.fake.specs().is_empty(),
        "no container stands in"
    );
    runner.abort();
    world.stop().await;
}
