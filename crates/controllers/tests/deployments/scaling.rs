//! More and fewer replicas, with more and less to use, by the user's word and by the load.

use std::{sync::Arc, time::Duration};

use luthier_types::{Code, Mebibytes, Millicpu, Phase, runner::RunnerErrorKind};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::world::{Play, World};

/// A deployment of so many replicas with 600 MiB, from where memory can go up and down in place.
async fn deployed(world: &mut World, play: Play, replicas: u32) {
    let revision = world.revision(play).await;
    world.start().await;
    world.deploy(revision, replicas).await;
    world.want(|d| d.resources.memory = Mebibytes(600)).await;
    world.settled().await;
    let specs = |w: &World| {
        let specs = w.runtime.fake.specs();
        specs.len() == replicas as usize && specs.iter().all(|s| s.memory == Mebibytes(600))
    };
    world.wait("only these run", specs).await;
}

#[tokio::test]
async fn replicas_take_other_resources_while_they_run() {
    let mut world = World::new().await;
    deployed(&mut world, Play::Answers(1.0), 2).await;
    let before: Vec<_> = world
        .runtime
        .fake
        .specs()
        .into_iter()
        .map(|s| s.id)
        .collect();
    let started = world.runtime.started();
    world
        .want(|d| {
            d.resources.memory = Mebibytes(900);
            d.resources.cpu = Millicpu(1000);
        })
        .await;
    let seen = world.settled().await;
    assert_eq!((seen.phase, seen.ready_replicas), (Phase::Ready, 2));
    let resized = |w: &World| {
        let specs = w.runtime.fake.specs();
        specs
            .iter()
            .all(|s| (s.memory, s.cpu) == (Mebibytes(900), Millicpu(1000)))
    };
    assert!(resized(&world));
    let after: Vec<_> = world
        .runtime
        .fake
        .specs()
        .into_iter()
        .map(|s| s.id)
        .collect();
    assert_eq!((after, world.runtime.started()), (before.clone(), started));

    // What a restarted server reads on them is what they may use now.
    world.stop().await;
    world.start().await;
    assert_eq!(world.settled().await.ready_replicas, 2);
    assert_eq!(world.runtime.started(), started);
    world.stop().await;
}

#[tokio::test]
async fn memory_that_is_in_use_is_taken_by_replacing_replicas_one_serving_on() {
    let mut world = World::new().await;
    deployed(&mut world, Play::Answers(1.0), 1).await;
    let old = world.runtime.fake.specs().remove(0).id;
    world.runtime.fake.used(&old, Mebibytes(580).bytes());
    world.want(|d| d.resources.memory = Mebibytes(550)).await;
    let world = Arc::new(world);
    let settling = world.clone();
    let mut settled = tokio::spawn(async move { settling.settled().await });
    let seen = loop {
        assert_eq!(world.predict().await.unwrap(), 1.0, "all the time");
        tokio::select! {
            biased;
            seen = &mut settled => break seen.unwrap(),
            () = tokio::task::yield_now() => {}
        }
    };
    assert_eq!(seen.phase, Phase::Ready);
    world
        .wait("only the new is left", |w| {
            let specs = w.runtime.fake.specs();
            specs.len() == 1 && specs[0].memory == Mebibytes(550) && specs[0].id != old
        })
        .await;
    Arc::into_inner(world).unwrap().stop().await;
}

/// A deployment that sleeps after a second.
async fn sleeping(play: Play) -> World {
    let mut world = World::new().await;
    let revision = world.revision(play).await;
    world.start().await;
    world.deploy(revision, 2).await;
    world
        .want(|d| {
            d.scaling.min_replicas = Some(0);
            d.scaling.idle_timeout = 1;
        })
        .await;
    world
        .until("it has served", |d| d.ready_replicas == 2)
        .await;
    world.until("it sleeps", |d| d.phase == Phase::Idle).await;
    world
        .wait("nothing runs", |w| w.runtime.fake.specs().is_empty())
        .await;
    world
}

#[tokio::test]
async fn one_that_nobody_asks_sleeps_and_the_first_request_is_answered() {
    let world = Arc::new(sleeping(Play::Answers(1.0)).await);
    let seen = world.seen().await;
    assert_eq!((seen.ready_replicas, seen.target_replicas), (0, Some(0)));
    assert!(seen.is_settled() && seen.failure.is_none() && seen.crashes == 0);
    let mut asked = JoinSet::new();
    for _ in 0..8 {
        let world = world.clone();
        asked.spawn(async move { world.predict().await });
    }
    for answer in asked.join_all().await {
        assert_eq!(answer.unwrap(), 1.0);
    }
    let seen = world.until("all are back", |d| d.ready_replicas == 2).await;
    assert_eq!((seen.phase, seen.target_replicas), (Phase::Ready, Some(2)));
    world
        .until("it sleeps again", |d| d.phase == Phase::Idle)
        .await;
    Arc::into_inner(world).unwrap().stop().await;
}

#[tokio::test]
async fn it_sleeps_on_through_a_restart_and_wakes_after_it() {
    let mut world = sleeping(Play::Answers(1.0)).await;
    let started = world.runtime.started();
    world.stop().await;
    world.start().await;
    // The first pass has been made; what it would have started, it would have by now.
    assert_eq!(world.seen().await.phase, Phase::Idle);
    assert_eq!(world.runtime.started(), started);
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world.stop().await;
}

#[tokio::test]
async fn who_waits_for_one_that_cannot_wake_is_told_at_once() {
    let mut world = sleeping(Play::Answers(1.0)).await;
    world
        .replay(Play::FailsToLoad(RunnerErrorKind::GetModelRaised))
        .await;
    let error = world.predict().await.unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
    let seen = world.until("it is told", |d| d.failure.is_some()).await;
    assert_eq!(seen.failure.unwrap().code(), Code::ModelServeError);
    // It goes on being started, more slowly.
    world.replay(Play::Answers(3.0)).await;
    world.until("it is back", |d| d.ready_replicas > 0).await;
    assert_eq!(world.predict().await.unwrap(), 3.0);
    world.stop().await;
}

#[tokio::test]
async fn an_update_wakes_it_and_is_proven() {
    let mut world = sleeping(Play::Answers(1.0)).await;
    let bad = world.revision(Play::WrongColumn).await;
    let old = world.seen().await.serving_revision;
    world.want(|d| d.wanted_revision = Some(bad)).await;
    assert_eq!(world.settled().await.phase, Phase::Failed);
    world.want(|d| d.wanted_revision = old).await;
    world.settled().await;
    assert_eq!(world.predict().await.unwrap(), 1.0);
    let new = world.revision(Play::Answers(2.0)).await;
    world.until("it sleeps", |d| d.phase == Phase::Idle).await;
    world.want(|d| d.wanted_revision = Some(new)).await;
    let seen = world.settled().await;
    assert_eq!(seen.serving_revision, Some(new));
    assert_eq!(world.predict().await.unwrap(), 2.0);
    world.stop().await;
}

#[tokio::test]
async fn replicas_follow_the_load_and_each_request_is_answered() {
    let mut world = World::new().await;
    world.settings.windows.sample = Duration::from_millis(20);
    world.settings.windows.average = Duration::from_millis(100);
    world.settings.windows.stable = Duration::from_millis(400);
    let gate = Arc::new(Semaphore::new(0));
    deployed(&mut world, Play::Holds(gate.clone()), 1).await;
    world.want(|d| d.scaling.max_replicas = Some(3)).await;
    world.settled().await;
    let world = Arc::new(world);
    let mut asked = JoinSet::new();
    for _ in 0..12 {
        let world = world.clone();
        asked.spawn(async move { world.predict().await });
    }
    let seen = world.until("three serve", |d| d.ready_replicas == 3).await;
    assert_eq!((seen.replicas, seen.target_replicas), (1, Some(3)));
    assert_eq!(seen.phase, Phase::Ready);
    gate.add_permits(1000);
    for answer in asked.join_all().await {
        assert_eq!(answer.unwrap(), 1.0);
    }
    let seen = world
        .until("one serves", |d| d.target_replicas == Some(1))
        .await;
    assert_eq!(seen.phase, Phase::Ready);
    world
        .wait("one runs", |w| w.runtime.fake.specs().len() == 1)
        .await;
    Arc::into_inner(world).unwrap().stop().await;
}

#[tokio::test]
async fn of_changes_that_overtake_each_other_the_last_is_what_serves() {
    let mut world = World::new().await;
    deployed(&mut world, Play::Answers(1.0), 2).await;
    let never = world.revision(Play::Loads).await;
    let last = world.revision(Play::Answers(3.0)).await;
    world.want(|d| d.wanted_revision = Some(never)).await;
    world
        .wait("the first comes up", |w| !w.runtime.of(never).is_empty())
        .await;
    world.want(|d| d.replicas = 3).await;
    assert_eq!(world.predict().await.unwrap(), 1.0);
    world
        .want(|d| {
            d.wanted_revision = Some(last);
            d.resources.memory = Mebibytes(900);
        })
        .await;
    let seen = world.settled().await;
    assert_eq!((seen.phase, seen.ready_replicas), (Phase::Ready, 3));
    assert_eq!(seen.serving_revision, Some(last));
    for _ in 0..20 {
        assert_eq!(world.predict().await.unwrap(), 3.0);
    }
    world
        .wait("only the last runs", |w| {
            let specs = w.runtime.fake.specs();
            let right = |s: &luthier_ports::ContainerSpec| s.memory == Mebibytes(900);
            specs.len() == 3 && specs.iter().all(right) && w.runtime.of(last).len() == 3
        })
        .await;
    world.stop().await;
}

/// Deletes the deployment and waits until nothing of it is left.
async fn deleted(world: World) {
    let mut world = world;
    world.delete().await;
    world
        .wait("its containers go", |w| w.runtime.fake.specs().is_empty())
        .await;
    world
        .wait("its directories too", |w| {
            std::fs::read_dir(w.run_dir()).unwrap().count() == 0
        })
        .await;
    let error = world.predict().await.unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
    world.stop().await;
}

#[tokio::test]
async fn deleted_while_replicas_load_or_are_validated_it_leaves_nothing() {
    for play in [Play::Loads, Play::SilentAlone] {
        let mut world = World::new().await;
        let revision = world.revision(play).await;
        world.start().await;
        world.deploy(revision, 2).await;
        world
            .wait("one comes up", |w| !w.runtime.of(revision).is_empty())
            .await;
        deleted(world).await;
    }
}

#[tokio::test]
async fn deleted_while_it_drains_it_answers_what_is_underway_and_leaves_nothing() {
    let mut world = World::new().await;
    let gate = Arc::new(Semaphore::new(0));
    deployed(&mut world, Play::Holds(gate.clone()), 2).await;
    let world = Arc::new(world);
    let mut asked = JoinSet::new();
    for _ in 0..2 {
        let world = world.clone();
        asked.spawn(async move { world.predict().await });
    }
    let all = |w: &World| w.gateway.stats(w.model).is_some_and(|s| s.in_flight == 2);
    world.wait("all are underway", all).await;
    world.want(|d| d.replicas = 1).await;
    world.until("one drains", |d| d.ready_replicas == 1).await;
    world.delete().await;
    world
        .wait("no traffic", |w| w.gateway.stats(w.model).is_none())
        .await;
    gate.add_permits(2);
    for answer in asked.join_all().await {
        assert_eq!(answer.unwrap(), 1.0);
    }
    deleted(Arc::into_inner(world).unwrap()).await;
}

#[tokio::test]
async fn deleted_while_it_is_resized_it_leaves_nothing() {
    let mut world = World::new().await;
    deployed(&mut world, Play::Answers(1.0), 2).await;
    let gate = world.runtime.hold_resizing();
    world.want(|d| d.resources.memory = Mebibytes(900)).await;
    world
        .wait("both are asked", |w| w.runtime.resizing() == 2)
        .await;
    world.delete().await;
    gate.add_permits(2);
    deleted(world).await;
}

#[tokio::test]
async fn deleted_in_its_sleep_or_while_it_wakes_it_leaves_nothing() {
    deleted(sleeping(Play::Answers(1.0)).await).await;

    let world = sleeping(Play::Answers(1.0)).await;
    world.replay(Play::Loads).await;
    let world = Arc::new(world);
    let asking = world.clone();
    let asked = tokio::spawn(async move { asking.predict().await });
    world
        .wait("it wakes", |w| !w.runtime.fake.specs().is_empty())
        .await;
    world.delete().await;
    let error = asked.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
    deleted(Arc::into_inner(world).unwrap()).await;
}
