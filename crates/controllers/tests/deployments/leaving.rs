//! What is left of replicas that are gone.

use luthier_store::{replica_counts, replica_logs::Past};
use luthier_types::Phase;

use crate::world::{Play, World, exit, oom};

async fn past(world: &World, replicas: usize) -> Vec<Past> {
    let logs = world.logs();
    world
        .wait("the logs of those that are gone", |w| {
            logs.list(w.model).unwrap().len() == replicas
        })
        .await;
    let ids = logs.list(world.model).unwrap();
    let read = |id| logs.read(world.model, id).unwrap().unwrap();
    ids.into_iter()
        .map(read)
        .map(|(past, lines)| {
            assert_eq!(lines.last().unwrap().text, "the last line");
            past
        })
        .collect()
}

#[tokio::test]
async fn the_log_and_the_end_of_a_replica_outlive_its_container() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 1).await;
    world.settled().await;
    let id = world.runtime.of(revision).remove(0);
    world.runtime.kill(&id, exit(3));
    let ended = past(&world, 1).await.remove(0);
    assert_eq!(ended.revision, revision);
    assert_eq!(ended.exit.unwrap().code, Some(3));
    world
        .wait("another was started", |w| w.runtime.started() == 2)
        .await;
    world
        .until("another serves", |d| {
            d.is_settled() && d.ready_replicas == 1
        })
        .await;

    // Also of one that a server finds which does not know its deployment.
    world.stop().await;
    world.delete().await;
    world.start().await;
    past(&world, 2).await;
    world.stop().await;
}

#[tokio::test]
async fn starts_and_failures_are_counted() {
    let mut world = World::new().await;
    let revision = world.revision(Play::Answers(1.0)).await;
    world.start().await;
    world.deploy(revision, 2).await;
    world.settled().await;
    for end in [exit(3), oom()] {
        let before = world.runtime.started();
        let id = world.runtime.of(revision).remove(0);
        world.runtime.kill(&id, end);
        world
            .wait("another was started", |w| w.runtime.started() > before)
            .await;
        world
            .until("both serve", |d| {
                d.is_settled() && d.phase == Phase::Ready && d.ready_replicas == 2
            })
            .await;
    }
    world.stop().await;
    let mut db = world.store.read().await.unwrap();
    let counts = replica_counts::all(&mut db).await.unwrap();
    let counts: Vec<_> = counts
        .iter()
        .map(|(_, what, n)| (what.as_str(), *n))
        .collect();
    assert_eq!(
        counts,
        [("ModelServeError", 2), ("out_of_memory", 1), ("started", 4)]
    );
}
