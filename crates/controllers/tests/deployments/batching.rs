//! What the controller finds out about predicting rows together, and what comes of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use luthier_types::{BatchingVerdict, Phase};
use tokio::sync::Semaphore;

use crate::world::{Play, World};

/// Deploys, and gives what was found with its detail. Whatever it is, the model serves.
async fn found(play: Play) -> (BatchingVerdict, String) {
    let mut world = World::new().await;
    let revision = world.revision(play).await;
    world.start().await;
    world.deploy(revision, 2).await;
    let seen = world.settled().await;
    assert_eq!((seen.phase, seen.ready_replicas), (Phase::Ready, 2));
    let batching = world.batching(revision).await.unwrap();
    world.stop().await;
    (batching.verdict, batching.detail.unwrap_or_default())
}

#[tokio::test]
async fn a_model_of_single_rows_is_batched() {
    let (verdict, detail) = found(Play::Computes(|x| {
        Some(x.iter().map(|v| v * 3.0).collect())
    }))
    .await;
    assert_eq!((verdict, detail.as_str()), (BatchingVerdict::Batched, ""));
}

#[tokio::test]
async fn a_model_that_looks_at_other_rows_is_not() {
    let mean = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        Some(x.iter().map(|v| v - mean).collect())
    };
    let (verdict, detail) = found(Play::Computes(mean)).await;
    assert_eq!(verdict, BatchingVerdict::DependsOnNeighbours);
    assert_eq!(detail, "row 0, output `y` was -0.5 and is 0 alone");
    let first = |x: &[f64]| Some(vec![x[0]; x.len()]);
    let (verdict, detail) = found(Play::Computes(first)).await;
    assert_eq!(verdict, BatchingVerdict::DependsOnNeighbours);
    assert_eq!(detail, "row 0, output `y` was 1 and is 2 in another order");
}

#[tokio::test]
async fn a_model_that_answers_differently_each_time_is_not() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let count = |x: &[f64]| {
        Some(vec![
            f64::from(CALLS.fetch_add(1, Ordering::SeqCst));
            x.len()
        ])
    };
    let (verdict, detail) = found(Play::Computes(count)).await;
    assert_eq!(verdict, BatchingVerdict::NotDeterministic);
    assert_eq!(
        detail,
        "row 0, output `y` was 0 and is 1 when it was asked again"
    );
}

#[tokio::test]
async fn a_package_can_decline() {
    assert_eq!(found(Play::Declines).await.0, BatchingVerdict::Declined);
}

#[tokio::test]
async fn a_model_that_fails_in_other_company_is_not_batched_but_serves() {
    let several = |x: &[f64]| (x.len() > 1).then(|| vec![1.0; x.len()]);
    let (verdict, detail) = found(Play::Computes(several)).await;
    assert_eq!(verdict, BatchingVerdict::Failed);
    assert_eq!(detail, "the model raised ValueError: cannot be loaded");
}

#[tokio::test]
async fn a_model_that_ends_while_it_is_tried_does_not_serve() {
    let mut world = World::new().await;
    let revision = world.revision(Play::EndsAlone).await;
    world.start().await;
    world.deploy(revision, 1).await;
    let seen = world.settled().await;
    assert_eq!(seen.phase, Phase::Failed);
    assert!(seen.failure.unwrap().message().contains("out of memory"));
    assert_eq!(world.batching(revision).await, None);
    world.stop().await;
}

#[tokio::test]
async fn trying_is_bounded_in_time() {
    let mut world = World::new().await;
    world.settings.batching_timeout = Duration::from_millis(50);
    let revision = world.revision(Play::SilentAlone).await;
    world.start().await;
    world.deploy(revision, 1).await;
    assert_eq!(world.settled().await.phase, Phase::Ready);
    let batching = world.batching(revision).await.unwrap();
    assert_eq!(batching.verdict, BatchingVerdict::TooSlow);
    world.stop().await;
}

#[tokio::test]
async fn requests_are_joined_also_after_a_restart() {
    let mut world = World::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let revision = world.revision(Play::Holds(gate.clone())).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    for _ in 0..2 {
        let shared = Arc::new(world);
        let ask = || {
            let world = shared.clone();
            tokio::spawn(async move { world.predict().await })
        };
        let stats = |w: &World| w.gateway.stats(w.model).unwrap();
        let first = ask();
        shared.wait("it runs", |w| stats(w).in_flight == 1).await;
        let others = [ask(), ask(), ask()];
        shared
            .wait("the others ask", |w| stats(w).requests == 4)
            .await;
        gate.add_permits(1);
        first.await.unwrap().unwrap();
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), 1.0);
        }
        assert!(stats(&shared).joined > 0, "{:?}", stats(&shared));
        world = Arc::into_inner(shared).unwrap();
        world.stop().await;
        gate.forget_permits(9);
        world.start().await;
        assert_eq!(world.runtime.started(), 1, "the replica was adopted");
    }
    world.stop().await;
}
