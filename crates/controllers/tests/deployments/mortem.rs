//! What is kept of a replica's end, and what replicas were seen to use.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use luthier_types::{Code, Mebibytes, Moment};

use crate::world::{Late, Play, World, exit, oom};

#[tokio::test]
async fn a_replica_whose_call_hangs_is_replaced_and_the_failure_says_where() {
    let mut world = World::new().await;
    let late = Arc::new(Late::default());
    let revision = world.revision(Play::Hangs(late.clone())).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    let before = world.runtime.of(revision)[0].clone();
    late.overdue_ms.store(35_000, Ordering::Relaxed);
    let seen = world.until("it is seen", |d| d.failure.is_some()).await;
    late.overdue_ms.store(0, Ordering::Relaxed);
    let error = seen.failure.unwrap();
    assert_eq!(error.code(), Code::ModelServeError);
    insta::assert_snapshot!(error.message(), @"the model hangs: a call has run for 95 s, 35 s past its deadline, at package.py line 12 in predict; the replica is being replaced");
    let stacks = error.observed().output.as_deref().unwrap();
    assert!(stacks.contains("line 12 in predict") && !stacks.contains("line 300"));
    world
        .until("it is replaced", |d| d.ready_replicas == 1)
        .await;
    assert!(!world.runtime.of(revision).contains(&before));
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_is_late_but_not_too_late_harms_nobody() {
    let mut world = World::new().await;
    world.settings.hang_timeout = Duration::from_secs(36);
    let late = Arc::new(Late::default());
    late.overdue_ms.store(35_000, Ordering::Relaxed);
    let revision = world.revision(Play::Hangs(late.clone())).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    let enough = |_: &World| late.asked.load(Ordering::Relaxed) >= 10;
    world.wait("it was looked at", enough).await;
    assert!(world.failures().await.is_empty());
    assert_eq!(world.runtime.started(), 1);
    world.stop().await;
}

#[tokio::test]
async fn failures_are_kept_with_their_time_newest_first_and_no_more_than_twenty() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    let bad = world.revision(Play::WrongColumn).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    world.runtime.kill(&world.runtime.of(revision)[0], exit(3));
    world.until("it is seen", |d| d.failure.is_some()).await;
    for _ in 0..21 {
        world.want(|d| d.wanted_revision = Some(bad)).await;
        world.settled().await;
        world.want(|d| d.wanted_revision = Some(revision)).await;
        world.settled().await;
    }
    let failures = world.failures().await;
    assert_eq!(failures.len(), 20);
    assert!(failures.is_sorted_by_key(|f| std::cmp::Reverse(f.at)));
    assert!(failures.iter().all(|f| f.revision == bad));
    let newest = failures[0].error.observed();
    assert_eq!(newest.phase, Some(Moment::Validating));
    world.stop().await;
}

#[tokio::test]
async fn what_is_used_is_written_down_when_a_replica_is_ready_and_when_memory_ran_out() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    let usage = world
        .used(revision, "loaded", |u| u.load_peak.is_some())
        .await;
    assert_eq!(usage.memory_limit, Mebibytes(256));
    assert_eq!((usage.requests, usage.oom_limit), (0, None));
    for _ in 0..3 {
        world.predict().await.unwrap();
    }
    world.used(revision, "requests", |u| u.requests == 3).await;
    world.runtime.kill(&world.runtime.of(revision)[0], oom());
    let ended = |u: &luthier_types::sizing::Usage| u.oom_limit == Some(Mebibytes(256));
    let usage = world.used(revision, "the end", ended).await;
    assert_eq!(usage.requests, 3, "what was known stays");
    world.stop().await;
}
