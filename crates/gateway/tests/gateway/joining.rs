//! Requests that are predicted together, and those that are not.

use std::{sync::Arc, time::Duration};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use luthier_gateway::{Gateway, Options};
use luthier_types::{Code, ModelId, Result};
use tokio::task::JoinHandle;

use crate::{
    endpoint, floats, package, rows,
    runner::{Answer, Runner},
    soon, until,
};

/// Never takes a second place only because it has waited for long.
fn patient() -> Options {
    Options {
        patience: Duration::from_secs(3600),
        ..Options::default()
    }
}

/// A gateway in front of `runners`, with batching.
struct World {
    gateway: Arc<Gateway>,
    model: ModelId,
}

impl World {
    fn new(options: Options, runners: &[&Runner]) -> Self {
        let gateway = Arc::new(Gateway::new(options));
        let model = ModelId::new();
        let set = runners.iter().map(|r| endpoint(r)).collect();
        drop(gateway.set(model, set, package(true)));
        Self { gateway, model }
    }

    fn ask(&self, table: RecordBatch) -> JoinHandle<Result<Vec<f64>>> {
        let (gateway, model) = (self.gateway.clone(), self.model);
        tokio::spawn(async move {
            let answer = gateway.predict(model, table, soon()).await?;
            Ok(floats(&answer))
        })
    }

    fn waiting(&self) -> usize {
        self.gateway.stats(self.model).unwrap().waiting
    }

    /// Asks for each of `tables` and waits until they all wait.
    async fn queued(&self, tables: &[RecordBatch]) -> Vec<JoinHandle<Result<Vec<f64>>>> {
        let mut tasks = vec![];
        for table in tables {
            let before = self.waiting();
            tasks.push(self.ask(table.clone()));
            until("it waits", || self.waiting() == before + 1).await;
        }
        tasks
    }
}

fn singles(values: &[f64]) -> Vec<RecordBatch> {
    values.iter().map(|v| rows(&[*v])).collect()
}

#[tokio::test]
async fn what_waits_is_predicted_together_and_each_gets_its_own() {
    let runner = Runner::start(Answer::Held).await;
    let world = World::new(patient(), &[&runner]);
    let first = world.ask(rows(&[1.0]));
    until("it runs", || runner.requests() == 1).await;
    let tables: Vec<RecordBatch> = (2..11)
        .map(|n| rows(&vec![f64::from(n); (n % 3 + 1) as usize]))
        .collect();
    let tasks = world.queued(&tables).await;
    assert_eq!(runner.requests(), 1);
    runner.answer(Answer::Double);
    assert_eq!(first.await.unwrap().unwrap(), [2.0]);
    for (task, table) in tasks.into_iter().zip(&tables) {
        let expected: Vec<f64> = floats(table).iter().map(|v| v * 2.0).collect();
        assert_eq!(task.await.unwrap().unwrap(), expected);
    }
    let all: usize = tables.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(runner.calls(), [1, all]);
    let stats = world.gateway.stats(world.model).unwrap();
    assert_eq!((stats.requests, stats.calls, stats.joined), (10, 2, 9));
    assert_eq!((stats.in_flight, stats.waiting, stats.errors), (0, 0, 0));
}

/// How many calls eight clients need that ask ten times each, again as soon as they have an answer.
async fn calls_of_clients_that_ask_again(lull: Duration) -> usize {
    let runner = Runner::start(Answer::Slow(Duration::from_millis(100))).await;
    let world = World::new(Options { lull, ..patient() }, &[&runner]);
    let clients = (0..8).map(|client| {
        let (gateway, model) = (world.gateway.clone(), world.model);
        async move {
            for _ in 0..10 {
                let table = rows(&[f64::from(client)]);
                let answer = gateway.predict(model, table, soon()).await.unwrap();
                assert_eq!(floats(&answer), [f64::from(client) * 2.0]);
            }
        }
    });
    futures::future::join_all(clients).await;
    runner.calls().len()
}

#[tokio::test]
async fn clients_that_ask_again_are_joined_with_those_who_waited() {
    let apart = calls_of_clients_that_ask_again(Duration::ZERO).await;
    let together = calls_of_clients_that_ask_again(Duration::from_secs(1)).await;
    // The first goes alone; then they take turns, or all go at once.
    assert!(apart >= 19, "{apart}");
    assert!(
        together <= 15,
        "{together} calls, and {apart} without a moment between them"
    );
}

#[tokio::test]
async fn nothing_waits_while_a_replica_is_idle() {
    let runners = [
        Runner::start(Answer::Held).await,
        Runner::start(Answer::Held).await,
    ];
    let world = World::new(patient(), &runners.each_ref());
    let tasks = [world.ask(rows(&[1.0])), world.ask(rows(&[2.0]))];
    until("one runs in each", || {
        runners.iter().all(|r| r.requests() == 1)
    })
    .await;
    for runner in &runners {
        runner.answer(Answer::Double);
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for value in [3.0, 4.0, 5.0] {
        world.ask(rows(&[value])).await.unwrap().unwrap();
    }
    assert_eq!(world.gateway.stats(world.model).unwrap().joined, 0);
}

#[tokio::test]
async fn a_model_that_is_not_batched_is_asked_one_by_one() {
    let runner = Runner::start(Answer::Held).await;
    let world = World::new(patient(), &[]);
    drop(
        world
            .gateway
            .set(world.model, vec![endpoint(&runner)], package(false)),
    );
    let running = [world.ask(rows(&[1.0])), world.ask(rows(&[1.0]))];
    until("two run", || runner.requests() == 2).await;
    let tasks = world.queued(&singles(&[2.0, 3.0, 4.0])).await;
    runner.answer(Answer::Double);
    for task in running.into_iter().chain(tasks) {
        task.await.unwrap().unwrap();
    }
    assert_eq!(runner.calls(), [1; 5]);
}

#[tokio::test]
async fn only_what_looks_alike_to_the_model_is_joined() {
    let runner = Runner::start(Answer::Held).await;
    let world = World::new(patient(), &[&runner]);
    let first = world.ask(rows(&[1.0]));
    until("it runs", || runner.requests() == 1).await;
    let table = |columns: Vec<(&str, ArrayRef)>| {
        let nullable = columns.into_iter().map(|(name, array)| (name, array, true));
        RecordBatch::try_from_iter_with_nullable(nullable).unwrap()
    };
    let x = || ("x", Arc::new(Float64Array::from(vec![1.0])) as ArrayRef);
    let int = |value: Option<i64>| ("n", Arc::new(Int64Array::from(vec![value])) as ArrayRef);
    let hole = Arc::new(Float64Array::from(vec![None])) as ArrayRef;
    let tables = [
        // pandas makes floats of integers where one is missing, of the neighbours' too.
        table(vec![x(), int(Some(1))]),
        table(vec![x(), int(None)]),
        table(vec![x(), int(Some(2))]),
        table(vec![x(), int(None)]),
        // Floats have a value for it.
        table(vec![("x", hole), int(Some(3))]),
        // Other columns.
        table(vec![int(Some(3)), x()]),
        rows(&[1.0]),
    ];
    let tasks = world.queued(&tables).await;
    runner.answer(Answer::Double);
    for task in [first].into_iter().chain(tasks) {
        task.await.unwrap().unwrap();
    }
    assert_eq!(runner.calls(), [1, 3, 2, 1, 1]);
}

#[tokio::test]
async fn large_requests_go_alone_and_beside_small_ones() {
    let runner = Runner::start(Answer::Held).await;
    let world = World::new(patient(), &[&runner]);
    let small = world.ask(rows(&[1.0]));
    until("it runs", || runner.requests() == 1).await;
    let waits = world.queued(&singles(&[2.0])).await;
    let large = world.ask(rows(&[1.0; 100]));
    until("it runs too", || runner.requests() == 2).await;
    runner.answer(Answer::Double);
    for task in [small, large].into_iter().chain(waits) {
        task.await.unwrap().unwrap();
    }
    let mut calls = runner.calls();
    calls.sort_unstable();
    assert_eq!(calls, [1, 1, 100]);
}

#[tokio::test]
async fn waiting_is_bounded() {
    let runner = Runner::start(Answer::Held).await;
    let options = Options {
        patience: Duration::from_millis(200),
        ..Options::default()
    };
    let world = World::new(options, &[&runner]);
    let first = world.ask(rows(&[1.0]));
    until("it runs", || runner.requests() == 1).await;
    let tasks = world.queued(&singles(&[2.0, 3.0, 4.0])).await;
    // The first call has not ended, and never does before these have begun.
    until("they run beside it", || runner.requests() == 2).await;
    runner.answer(Answer::Double);
    for task in [first].into_iter().chain(tasks) {
        task.await.unwrap().unwrap();
    }
    let mut calls = runner.calls();
    calls.sort_unstable();
    assert_eq!(calls, [1, 3]);
}

#[tokio::test]
async fn one_that_is_refused_does_not_fail_its_neighbours() {
    let runner = Runner::start(Answer::Held).await;
    let world = World::new(patient(), &[&runner]);
    let first = world.ask(rows(&[1.0]));
    until("it runs", || runner.requests() == 1).await;
    let tasks = world.queued(&singles(&[2.0, 3.0, -1.0, 4.0])).await;
    runner.answer(Answer::Picky);
    first.await.unwrap().unwrap();
    let mut answers = vec![];
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    let error = answers.remove(2).unwrap_err();
    assert_eq!(error.code(), Code::ModelServeError);
    // Its own error, of a call of its own.
    assert_eq!(
        error.observed().output.as_deref(),
        Some("Traceback: line 3")
    );
    let good: Vec<f64> = answers.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(good, [4.0, 6.0, 8.0]);
    assert_eq!(runner.calls(), [1, 4, 1, 1, 1, 1]);
    assert_eq!(world.gateway.stats(world.model).unwrap().errors, 1);
}

#[tokio::test]
async fn one_that_ends_replicas_does_not_take_its_neighbours_along() {
    let runners = [
        Runner::start(Answer::Held).await,
        Runner::start(Answer::Held).await,
    ];
    let world = World::new(patient(), &runners.each_ref());
    let running = [world.ask(rows(&[1.0])), world.ask(rows(&[1.0]))];
    until("one runs in each", || {
        runners.iter().all(|r| r.requests() == 1)
    })
    .await;
    let tasks = world.queued(&singles(&[2.0, -1.0, 3.0])).await;
    for runner in &runners {
        runner.answer(Answer::Mortal);
    }
    for task in running {
        task.await.unwrap().unwrap();
    }
    let mut answers = vec![];
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    let error = answers.remove(1).unwrap_err();
    assert_eq!(error.code(), Code::ModelServeError);
    let good: Vec<f64> = answers.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(good, [4.0, 6.0]);
    // Together once, and alone once more.
    let fatal: usize = runners.iter().map(Runner::requests).sum::<usize>() - 2 - 2;
    assert_eq!(fatal, 2);
}

#[tokio::test]
async fn those_that_reach_no_replica_stay_together() {
    let runner = Runner::start(Answer::Held).await;
    let world = World::new(patient(), &[&runner]);
    let first = world.ask(rows(&[1.0]));
    until("it runs", || runner.requests() == 1).await;
    let tasks = world.queued(&singles(&[2.0, 3.0, 4.0])).await;
    let gone = Runner::start(Answer::Double).await;
    gone.kill();
    let failures = world.gateway.failures();
    let mut set = world.gateway.endpoints(world.model);
    set.push(endpoint(&gone));
    drop(world.gateway.set(world.model, set, package(true)));
    failures.notified().await;
    until("they wait again", || world.waiting() == 3).await;
    runner.answer(Answer::Double);
    for task in [first].into_iter().chain(tasks) {
        task.await.unwrap().unwrap();
    }
    assert_eq!(runner.calls(), [1, 3]);
}

#[tokio::test]
async fn rows_of_those_who_leave_are_not_sent_and_the_rest_is_answered() {
    let runner = Runner::start(Answer::Held).await;
    let world = World::new(patient(), &[&runner]);
    let first = world.ask(rows(&[1.0]));
    until("it runs", || runner.requests() == 1).await;
    let mut tasks = world.queued(&singles(&[2.0, 3.0, 4.0])).await;
    tasks.remove(1).abort();
    until("it left", || world.waiting() == 2).await;
    runner.answer(Answer::Double);
    first.await.unwrap().unwrap();
    let mut good = vec![];
    for task in tasks {
        good.extend(task.await.unwrap().unwrap());
    }
    assert_eq!(good, [4.0, 8.0]);
    assert_eq!(runner.calls(), [1, 2]);
}

#[tokio::test]
async fn a_joined_call_goes_on_for_those_who_stay_and_is_left_with_the_last() {
    for stay in [true, false] {
        let runner = Runner::start(Answer::Held).await;
        let world = World::new(patient(), &[&runner]);
        let first = world.ask(rows(&[1.0]));
        until("it runs", || runner.requests() == 1).await;
        let mut tasks = world.queued(&singles(&[2.0, 3.0])).await;
        runner.answer(Answer::HeldJoined);
        first.await.unwrap().unwrap();
        until("the joined call runs", || runner.requests() == 2).await;
        tasks.remove(0).abort();
        if stay {
            runner.answer(Answer::Double);
            assert_eq!(tasks.remove(0).await.unwrap().unwrap(), [6.0]);
        } else {
            tasks.remove(0).abort();
            until("the replica is told", || runner.hang_ups() == 1).await;
        }
    }
}
