//! Queues, deadlines, and those that leave before they are answered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use luthier_gateway::{Gateway, Options};
use luthier_types::Code;

use crate::{
    endpoint, package, rows,
    runner::{Answer, Runner},
    serving, soon, until,
};

#[tokio::test]
async fn a_slow_answer_ends_at_the_deadline_and_frees_its_place() {
    let runner = Runner::start(Answer::Never).await;
    let options = Options {
        in_flight: 1,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let deadline = Instant::now() + Duration::from_millis(50);
    let error = gateway
        .predict(model, rows(&[1.0]), deadline)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PredictTimeout);
    runner.answer(Answer::Double);
    gateway.predict(model, rows(&[1.0]), soon()).await.unwrap();
}

#[tokio::test]
async fn past_the_queue_requests_are_refused_and_the_queued_are_served() {
    let runner = Runner::start(Answer::Held).await;
    let options = Options {
        in_flight: 2,
        waiting: 3,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let ask =
        |gateway: Arc<Gateway>| async move { gateway.predict(model, rows(&[1.0]), soon()).await };
    let tasks: Vec<_> = (0..5).map(|_| tokio::spawn(ask(gateway.clone()))).collect();
    until("two run and three wait", || {
        gateway
            .stats(model)
            .is_some_and(|s| (s.in_flight, s.waiting) == (2, 3))
    })
    .await;
    until("both reached the replica", || runner.requests() == 2).await;
    let error = ask(gateway.clone()).await.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded);
    assert_eq!(runner.requests(), 2);
    runner.answer(Answer::Double);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let stats = gateway.stats(model).unwrap();
    assert_eq!((stats.in_flight, stats.waiting), (0, 0));
    assert_eq!(runner.most_at_once(), 2);
}

#[tokio::test]
async fn load_goes_to_the_least_busy_replica() {
    let runners = [
        Runner::start(Answer::Held).await,
        Runner::start(Answer::Held).await,
    ];
    let options = Options {
        in_flight: 4,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &runners.each_ref());
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.predict(model, rows(&[1.0]), soon()).await })
        })
        .collect();
    until("four run in each", || {
        runners.iter().all(|r| r.requests() == 4)
    })
    .await;
    for runner in &runners {
        runner.answer(Answer::Double);
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn replicas_taken_out_finish_what_they_have_and_the_queue_moves_on() {
    let old = Runner::start(Answer::Held).await;
    let new = Runner::start(Answer::Double).await;
    let options = Options {
        in_flight: 1,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&old]);
    let ask = || {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.predict(model, rows(&[1.0]), soon()).await })
    };
    let running = ask();
    until("it runs", || old.requests() == 1).await;
    let waiting = ask();
    until("it waits", || gateway.stats(model).unwrap().waiting == 1).await;
    let retired = gateway.set(model, vec![endpoint(&new)], package(false));
    waiting.await.unwrap().unwrap();
    assert_eq!(new.requests(), 1);
    old.answer(Answer::Double);
    assert!(retired.drained(Duration::from_secs(20)).await);
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn draining_is_bounded() {
    let old = Runner::start(Answer::Never).await;
    let (gateway, model) = serving(Options::default(), &[&old]);
    let asking = gateway.clone();
    let task = tokio::spawn(async move { asking.predict(model, rows(&[1.0]), soon()).await });
    until("it runs", || old.requests() == 1).await;
    assert!(
        !gateway
            .clear(model)
            .drained(Duration::from_millis(20))
            .await
    );
    task.abort();
}

#[tokio::test]
async fn a_cleared_model_is_unavailable_and_those_waiting_learn_it() {
    let runner = Runner::start(Answer::Never).await;
    let options = Options {
        in_flight: 1,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let ask = || {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.predict(model, rows(&[1.0]), soon()).await })
    };
    let running = ask();
    until("it runs", || runner.requests() == 1).await;
    let waiting = ask();
    until("it waits", || gateway.stats(model).unwrap().waiting == 1).await;
    drop(gateway.clear(model).drained(Duration::ZERO));
    assert_eq!(
        waiting.await.unwrap().unwrap_err().code(),
        Code::ModelUnavailable
    );
    let error = gateway
        .predict(model, rows(&[1.0]), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
    running.abort();
}

#[tokio::test]
async fn the_replica_is_told_how_long_its_answer_is_waited_for() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let deadline = Instant::now() + Duration::from_secs(5);
    gateway
        .predict(model, rows(&[1.0]), deadline)
        .await
        .unwrap();
    let told = runner.timeout().unwrap();
    assert!((1..=5000).contains(&told), "{told}");
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_too() {
    let runner = Runner::start(Answer::Held).await;
    let options = Options {
        in_flight: 1,
        waiting_bytes: 10_000,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let ask = |n: usize| {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.predict(model, rows(&vec![1.0; n]), soon()).await })
    };
    let running = ask(10_000);
    until("it runs", || runner.requests() == 1).await;
    let small = ask(10);
    until("one waits", || gateway.stats(model).unwrap().waiting == 1).await;
    let error = ask(10_000).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Overloaded);
    runner.answer(Answer::Double);
    for task in [running, small, ask(10)] {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_leaves_the_queue_is_never_sent_and_makes_room() {
    let runner = Runner::start(Answer::Held).await;
    let options = Options {
        in_flight: 1,
        waiting: 1,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let ask = |value: f64| {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.predict(model, rows(&[value]), soon()).await })
    };
    let running = ask(1.0);
    until("it runs", || runner.requests() == 1).await;
    let leaves = ask(2.0);
    until("one waits", || gateway.stats(model).unwrap().waiting == 1).await;
    leaves.abort();
    until("it left", || gateway.stats(model).unwrap().waiting == 0).await;
    let stays = ask(3.0);
    until("another waits", || {
        gateway.stats(model).unwrap().waiting == 1
    })
    .await;
    runner.answer(Answer::Double);
    running.await.unwrap().unwrap();
    stays.await.unwrap().unwrap();
    assert_eq!(runner.requests(), 2);
}

#[tokio::test]
async fn a_call_that_is_left_keeps_its_place_until_it_has_ended() {
    let runner = Runner::start(Answer::Deaf).await;
    let options = Options {
        in_flight: 1,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let ask = || {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.predict(model, rows(&[1.0]), soon()).await })
    };
    let leaves = ask();
    until("it runs", || runner.requests() == 1).await;
    leaves.abort();
    until("the replica is told", || runner.hang_ups() == 1).await;
    let next = ask();
    until("the next waits", || {
        gateway.stats(model).unwrap().waiting == 1
    })
    .await;
    assert_eq!(gateway.stats(model).unwrap().in_flight, 1);
    runner.answer(Answer::Double);
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_never_ends_keeps_its_place_for_a_bounded_time() {
    let runner = Runner::start(Answer::Deaf).await;
    let options = Options {
        in_flight: 1,
        linger: Duration::from_millis(50),
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let asking = gateway.clone();
    let task = tokio::spawn(async move { asking.predict(model, rows(&[1.0]), soon()).await });
    until("it runs", || runner.requests() == 1).await;
    task.abort();
    until("the replica is told", || runner.hang_ups() == 1).await;
    until("it is given up", || {
        gateway.stats(model).unwrap().in_flight == 0
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_failed_is_left_alone_while_another_is_only_busy() {
    let torn = Runner::start(Answer::Torn).await;
    let good = Runner::start(Answer::Held).await;
    let options = Options {
        in_flight: 1,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&torn, &good]);
    let ask = || {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.predict(model, rows(&[1.0]), soon()).await })
    };
    let first = ask();
    until("it is tried again", || good.requests() == 1).await;
    let second = ask();
    until("the second waits", || {
        gateway.stats(model).unwrap().waiting == 1
    })
    .await;
    assert_eq!(torn.requests(), 1);
    good.answer(Answer::Double);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
}
