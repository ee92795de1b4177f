//! A new revision is compared with the one that serves, and held if it differs too much.

use std::{sync::Arc, time::Duration};

use arrow_array::{Float64Array, RecordBatch};
use luthier_types::{Code, Limits, Phase};

use crate::world::{Play, World};

const X: [f64; 4] = [1.0, 2.0, 3.0, 4.0];
const NONE: Limits = Limits {
    max_prediction_change: None,
    max_decision_change: None,
    max_latency_ratio: None,
    hold: false,
};

fn double(x: &[f64]) -> Option<Vec<f64>> {
    Some(x.iter().map(|x| x * 2.0).collect())
}

fn triple(x: &[f64]) -> Option<Vec<f64>> {
    Some(x.iter().map(|x| x * 3.0).collect())
}

/// A world in which a revision serves that doubles.
async fn doubling(settle: impl FnOnce(&mut World)) -> World {
    let mut world = World::new().await;
    settle(&mut world);
    let old = world.revision(Play::Computes(double)).await;
    world.start().await;
    world.deploy(old, 1).await;
    assert_eq!(world.settled().await.phase, Phase::Ready);
    world
}

#[tokio::test]
async fn what_an_update_changes_is_found_before_it_serves() {
    let mut world = doubling(|_| {}).await;
    world.gateway.remember(world.model, &rows(&[10.0]));
    let new = world
        .rollout(Play::Computes(triple), Some(X.into()), NONE)
        .await;
    world.want(|d| d.wanted_revision = Some(new)).await;
    let seen = world.settled().await;
    assert_eq!(seen.serving_revision, Some(new));
    let found = world.comparison(new).await.unwrap();
    assert_eq!((found.dataset_rows, found.recent_rows), (4, 1));
    let y = &found.outputs[0];
    // The differences are the values of x.
    assert_eq!((y.mean, y.max), (Some(4.0), Some(10.0)));
    assert_eq!((y.changed, y.missing), (1.0, 0));
    assert!((y.correlation.unwrap() - 1.0).abs() < 1e-9);
    assert_eq!(found.latency.unwrap().asked, 30);
    let attributions = found.attributions.unwrap();
    // x less the mean of 3 and 4, for 1 and 2: what one factor more makes of it.
    assert_eq!((attributions.rows, attributions.most.len()), (2, 1));
    assert!((attributions.mean - 2.0).abs() < 1e-6, "{attributions:?}");
    assert_eq!(found.omitted, [""; 0]);
    world.stop().await;
}

fn rows(x: &[f64]) -> RecordBatch {
    let x = Arc::new(Float64Array::from(x.to_vec())) as _;
    RecordBatch::try_from_iter([("x", x)]).unwrap()
}

#[tokio::test]
async fn an_update_past_its_limits_is_held_and_the_old_serves_on() {
    let mut world = doubling(|_| {}).await;
    let old = world.seen().await.serving_revision.unwrap();
    for limits in [
        Limits {
            max_prediction_change: Some(3.5),
            ..NONE
        },
        Limits { hold: true, ..NONE },
    ] {
        let new = world
            .rollout(Play::Computes(triple), Some(X.into()), limits)
            .await;
        world.want(|d| d.wanted_revision = Some(new)).await;
        let seen = world.settled().await;
        assert_eq!(seen.phase, Phase::Failed);
        assert_eq!(seen.serving_revision, Some(old));
        let failure = seen.failure.unwrap();
        assert_eq!(failure.code(), Code::RolloutHeld);
        let next = failure.next_step().unwrap();
        assert!(next.contains("luthier approve p/m:v1"), "{next}");
        let evidence = failure.observed().output.as_deref().unwrap();
        assert!(
            evidence.contains("`y` differs by 2.500 on average"),
            "{evidence}"
        );
        assert_eq!(world.predict().await.unwrap(), 14.0, "the old one answers");
        world
            .wait("its replica is gone", |w| w.runtime.of(new).is_empty())
            .await;
    }
    // Within its limits it is let through.
    let limits = Limits {
        max_prediction_change: Some(4.0),
        ..NONE
    };
    let new = world
        .rollout(Play::Computes(triple), Some(X.into()), limits)
        .await;
    world.want(|d| d.wanted_revision = Some(new)).await;
    assert_eq!(world.settled().await.serving_revision, Some(new));
    world.stop().await;
}

#[tokio::test]
async fn what_was_found_is_not_asked_again() {
    let mut world = doubling(|_| {}).await;
    let limits = Limits {
        max_prediction_change: Some(1.0),
        ..NONE
    };
    let new = world
        .rollout(Play::Computes(triple), Some(X.into()), limits)
        .await;
    world.want(|d| d.wanted_revision = Some(new)).await;
    assert_eq!(world.settled().await.phase, Phase::Failed);
    let first = world.comparison(new).await;
    world.want(|d| d.wanted_revision = Some(new)).await;
    let seen = world.settled().await;
    assert_eq!(seen.failure.unwrap().code(), Code::RolloutHeld);
    assert_eq!(world.comparison(new).await, first);
    world.stop().await;
}

#[tokio::test]
async fn that_nothing_can_be_compared_is_told_and_stops_nothing() {
    let limits = Limits {
        max_prediction_change: Some(0.0),
        ..NONE
    };
    for (x, change, text) in [
        (None, None, "no rows to compare on"),
        (Some(X.to_vec()), Some(Duration::ZERO), "deadline"),
    ] {
        let mut world = doubling(|w| {
            w.settings.comparison_timeout = change.unwrap_or(w.settings.comparison_timeout);
        })
        .await;
        let new = world.rollout(Play::Computes(triple), x, limits).await;
        world.want(|d| d.wanted_revision = Some(new)).await;
        let seen = world.settled().await;
        assert_eq!(
            (seen.phase, seen.serving_revision),
            (Phase::Ready, Some(new))
        );
        let found = world.comparison(new).await.unwrap();
        assert!(found.outputs.is_empty());
        assert!(found.omitted[0].contains(text), "{:?}", found.omitted);
        world.stop().await;
    }
}

#[tokio::test]
async fn a_first_revision_has_nothing_to_be_compared_with() {
    let mut world = World::new().await;
    let limits = Limits { hold: true, ..NONE };
    let first = world
        .rollout(Play::Computes(double), Some(X.into()), limits)
        .await;
    world.start().await;
    world.deploy(first, 1).await;
    assert_eq!(world.settled().await.phase, Phase::Ready);
    assert_eq!(world.comparison(first).await, None);
    world.stop().await;
}
