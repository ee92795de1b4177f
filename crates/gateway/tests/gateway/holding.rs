//! Requests that wait for a model that has no replica now, and what is known of who asks.

use std::time::{Duration, Instant};

use luthier_gateway::{Gateway, Options};
use luthier_types::{Code, ModelId};

use crate::{
    endpoint, package, rows,
    runner::{Answer, Runner},
    serving, soon, until,
};

#[tokio::test]
async fn who_asks_a_held_model_waits_for_its_replica() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    drop(gateway.hold(model));
    assert!(gateway.stats(model).unwrap().holds);
    let asked: Vec<_> = (0..5)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.predict(model, rows(&[1.0]), soon()).await })
        })
        .collect();
    gateway.wanted().notified().await;
    until("all wait", || gateway.stats(model).unwrap().waiting == 5).await;
    assert_eq!(gateway.stats(model).unwrap().active, 5);
    assert_eq!(gateway.idle(model), Some(Duration::ZERO));
    assert_eq!(runner.requests(), 0);
    drop(gateway.set(model, vec![endpoint(&runner)], package(false)));
    for task in asked {
        task.await.unwrap().unwrap();
    }
    let stats = gateway.stats(model).unwrap();
    assert_eq!((stats.active, stats.holds), (0, false));
}

#[tokio::test]
async fn it_is_told_to_come_back_when_the_replica_takes_too_long() {
    let gateway = Gateway::new(Options::default());
    let model = ModelId::new();
    drop(gateway.hold(model));
    let deadline = Instant::now() + Duration::from_millis(30);
    let answer = gateway.predict(model, rows(&[1.0]), deadline).await;
    assert_eq!(answer.unwrap_err().code(), Code::ModelStarting);
    assert_eq!(gateway.stats(model).unwrap().waiting, 0);
}

#[tokio::test]
async fn it_is_refused_when_the_model_is_not_held_any_more_and_when_too_many_wait() {
    let options = Options {
        waiting: 1,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[]);
    drop(gateway.hold(model));
    let asking = gateway.clone();
    let waits = tokio::spawn(async move { asking.predict(model, rows(&[1.0]), soon()).await });
    until("it waits", || gateway.stats(model).unwrap().waiting == 1).await;
    let full = gateway.predict(model, rows(&[1.0]), soon()).await;
    assert_eq!(full.unwrap_err().code(), Code::Overloaded);
    drop(gateway.clear(model));
    let refused = waits.await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ModelUnavailable);
}

#[tokio::test]
async fn what_is_underway_when_it_is_held_is_answered() {
    let runner = Runner::start(Answer::Held).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let asking = gateway.clone();
    let underway = tokio::spawn(async move { asking.predict(model, rows(&[1.0]), soon()).await });
    until("it runs", || runner.requests() == 1).await;
    let retired = gateway.hold(model);
    assert_eq!(gateway.idle(model), Some(Duration::ZERO), "somebody asks");
    runner.answer(Answer::Double);
    assert!(retired.drained(Duration::from_secs(20)).await);
    underway.await.unwrap().unwrap();
}

#[tokio::test]
async fn time_without_requests_is_counted_from_the_last_answer() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let idle = || gateway.idle(model).unwrap();
    until("nobody asks", || idle() >= Duration::from_millis(40)).await;
    gateway.predict(model, rows(&[1.0]), soon()).await.unwrap();
    let since = Instant::now();
    assert!(
        idle() <= since.elapsed() + Duration::from_millis(30),
        "{:?}",
        idle()
    );
    assert_eq!(gateway.idle(ModelId::new()), None);
}
