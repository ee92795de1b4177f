//! The gateway against HTTP servers on Unix sockets that keep, or break, the runner's contract.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod runner;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{Float64Array, RecordBatch, cast::AsArray as _, types::Float64Type};
use luthier_gateway::{Gateway, Options, ReplicaEndpoint, client};
use luthier_ports::Predictor as _;
use luthier_types::{
    Code, ModelId, ReplicaId,
    runner::{LoadPhase, RunnerErrorKind},
};
use runner::{Answer, Runner};

fn rows(values: &[f64]) -> RecordBatch {
    RecordBatch::try_from_iter([("x", Arc::new(Float64Array::from(values.to_vec())) as _)]).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn endpoint(runner: &Runner) -> ReplicaEndpoint {
    ReplicaEndpoint {
        id: ReplicaId::new(),
        socket: runner.socket(),
    }
}

fn serving(options: Options, runners: &[&Runner]) -> (Arc<Gateway>, ModelId) {
    let gateway = Arc::new(Gateway::new(options));
    let model = ModelId::new();
    let set = runners.iter().map(|r| endpoint(r)).collect();
    let _ = gateway.set(model, set, vec!["y".into()]);
    (gateway, model)
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn predicts_over_one_kept_connection() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    for n in 0..20 {
        let answer = gateway
            .predictor(model)
            .predict(rows(&[f64::from(n), 2.5]), soon())
            .await
            .unwrap();
        let y = answer.column(0).as_primitive::<Float64Type>();
        assert_eq!(y.values()[..], [f64::from(n) * 2.0, 5.0]);
    }
    assert_eq!((runner.connections(), runner.requests()), (1, 20));
    let stats = gateway.stats(model).unwrap();
    assert_eq!((stats.requests, stats.errors, stats.in_flight), (20, 0, 0));
}

#[tokio::test]
async fn a_large_table_comes_back_whole() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let values: Vec<f64> = (0..200_000).map(f64::from).collect();
    let answer = gateway.predict(model, rows(&values), soon()).await.unwrap();
    let y = answer.column(0).as_primitive::<Float64Type>();
    assert_eq!(y.value(199_999), 399_998.0);
}

#[tokio::test]
async fn the_models_exception_reaches_the_caller() {
    let runner = Runner::start(Answer::Error(RunnerErrorKind::PredictRaised)).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let error = gateway
        .predict(model, rows(&[1.0]), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ModelServeError);
    assert_eq!(error.message(), "the model raised ValueError: bad row");
    assert_eq!(
        error.observed().output.as_deref(),
        Some("Traceback: line 3")
    );
    // The connection is still good: the runner answered.
    let _ = gateway.predict(model, rows(&[1.0]), soon()).await;
    assert_eq!(runner.connections(), 1);
}

#[tokio::test]
async fn wrong_columns_wrong_rows_and_what_is_not_arrow_are_refused() {
    for answer in [
        Answer::Columns(vec!["z"]),
        Answer::Columns(vec!["y", "extra"]),
        Answer::Columns(vec![]),
        Answer::OneRow,
        Answer::Bytes(b"not arrow at all".to_vec()),
        Answer::Bytes(vec![]),
        Answer::Bytes(vec![0xff; 64]),
    ] {
        let runner = Runner::start(answer.clone()).await;
        let (gateway, model) = serving(Options::default(), &[&runner]);
        let error = gateway
            .predict(model, rows(&[1.0, 2.0]), soon())
            .await
            .unwrap_err();
        assert_eq!(
            error.code(),
            Code::InvalidPrediction,
            "{answer:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_past_the_limit_is_refused() {
    let runner = Runner::start(Answer::Double).await;
    let options = Options {
        max_answer: 1000,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let error = gateway
        .predict(model, rows(&[1.0; 500]), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidPrediction);
    gateway.predict(model, rows(&[1.0]), soon()).await.unwrap();
}

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
async fn a_torn_answer_is_tried_on_another_replica() {
    let torn = Runner::start(Answer::Torn).await;
    let good = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&torn, &good]);
    for _ in 0..4 {
        gateway.predict(model, rows(&[1.0]), soon()).await.unwrap();
    }
    // Found wanting once, it is not asked again while another is free.
    assert_eq!(torn.requests(), 1);
}

#[tokio::test]
async fn a_request_that_breaks_replicas_reaches_only_two() {
    let runners = [
        Runner::start(Answer::Torn).await,
        Runner::start(Answer::Torn).await,
        Runner::start(Answer::Torn).await,
    ];
    let (gateway, model) = serving(Options::default(), &runners.each_ref());
    let failures = gateway.failures();
    let error = gateway
        .predict(model, rows(&[1.0]), soon())
        .await
        .unwrap_err();
    // Not what clients repeat.
    assert_eq!(error.code(), Code::ModelServeError);
    assert_eq!(runners.iter().map(Runner::requests).sum::<usize>(), 2);
    // The controller is told.
    failures.notified().await;
}

#[tokio::test]
async fn a_request_that_ends_the_only_replica_is_told_so() {
    let runner = Runner::start(Answer::Held).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let asking = gateway.clone();
    let task = tokio::spawn(async move { asking.predict(model, rows(&[1.0]), soon()).await });
    until("it runs", || runner.requests() == 1).await;
    runner.kill();
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::ModelServeError);
    assert!(error.message().contains("ended while it answered"));
    // Who comes later did not end it.
    let error = gateway
        .predict(model, rows(&[1.0]), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
}

#[tokio::test]
async fn a_replica_that_is_gone_is_left_for_another() {
    let gone = Runner::start(Answer::Double).await;
    let good = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&gone, &good]);
    gone.kill();
    for _ in 0..5 {
        gateway.predict(model, rows(&[1.0]), soon()).await.unwrap();
    }
    good.kill();
    until("the last replica is gone", || good.is_gone()).await;
    let error = gateway
        .predict(model, rows(&[1.0]), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
}

#[tokio::test]
async fn kept_connections_that_went_stale_are_replaced_without_a_failure() {
    let runner = Runner::start(Answer::Held).await;
    let options = Options {
        in_flight: 4,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let ask = || {
        let gateway = gateway.clone();
        tokio::spawn(async move { gateway.predict(model, rows(&[1.0]), soon()).await })
    };
    let tasks = [ask(), ask(), ask(), ask()];
    until("four connections are open", || runner.requests() == 4).await;
    runner.answer(Answer::Double);
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    runner.restart().await;
    // More went stale than a request is tried again.
    gateway.predict(model, rows(&[1.0]), soon()).await.unwrap();
    assert_eq!(gateway.stats(model).unwrap().errors, 0);
    assert_eq!((runner.connections(), runner.requests()), (5, 5));
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
    let retired = gateway.set(model, vec![endpoint(&new)], vec!["y".into()]);
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
async fn the_handshake_tells_the_phase_and_a_missing_socket_is_unavailable() {
    let runner = Runner::start(Answer::Double).await;
    runner.phase(LoadPhase::Loading);
    let ready = client::ready(&runner.socket(), soon()).await.unwrap();
    assert_eq!(ready.phase, LoadPhase::Loading);
    runner.phase(LoadPhase::Ready);
    let ready = client::ready(&runner.socket(), soon()).await.unwrap();
    assert_eq!(ready.phase, LoadPhase::Ready);
    client::live(&runner.socket(), soon()).await.unwrap();
    let answer = client::predict(&runner.socket(), &rows(&[4.0]), &["y".into()], soon())
        .await
        .unwrap();
    assert_eq!(answer.num_rows(), 1);
    runner.kill();
    until("it is gone", || runner.is_gone()).await;
    let error = client::ready(&runner.socket(), soon()).await.unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
}

#[tokio::test]
async fn hooks_answer_json_and_their_names_cannot_leave_the_path() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let answer = gateway
        .custom_explain(model, "lime", &rows(&[1.0]), soon())
        .await
        .unwrap();
    assert_eq!(answer, serde_json::json!({"hook": "lime"}));
    for (name, sent) in [
        ("Tree Shap", "Tree%20Shap"),
        ("../predict", "%2E%2E%2Fpredict"),
    ] {
        let answer = gateway
            .custom_explain(model, name, &rows(&[1.0]), soon())
            .await
            .unwrap();
        assert_eq!(answer, serde_json::json!({ "hook": sent }));
    }
    runner.answer(Answer::Error(RunnerErrorKind::NoSuchHook));
    let error = gateway
        .custom_explain(model, "lime", &rows(&[1.0]), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotSupported);
}
