//! Calls, and replicas that break the contract or their connections.

use std::sync::Arc;

use luthier_gateway::{Options, Timings, client};
use luthier_ports::Predictor as _;
use luthier_types::{
    Code,
    runner::{LoadPhase, RunnerErrorKind},
};

use crate::{
    floats, rows,
    runner::{Answer, Runner},
    serving, soon, until,
};

#[tokio::test]
async fn predicts_over_one_kept_connection() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    for n in 0..20 {
        let answer = gateway
            .predictor(model, Arc::default())
            .predict(rows(&[f64::from(n), 2.5]), soon())
            .await
            .unwrap();
        assert_eq!(floats(&answer), [f64::from(n) * 2.0, 5.0]);
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
    assert_eq!(floats(&answer)[199_999], 399_998.0);
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
async fn the_handshake_tells_the_phase_and_a_missing_socket_is_unavailable() {
    let runner = Runner::start(Answer::Double).await;
    runner.phase(LoadPhase::Loading);
    let ready = client::ready(&runner.socket().into(), soon())
        .await
        .unwrap();
    assert_eq!(ready.phase, LoadPhase::Loading);
    runner.phase(LoadPhase::Ready);
    let ready = client::ready(&runner.socket().into(), soon())
        .await
        .unwrap();
    assert_eq!(ready.phase, LoadPhase::Ready);
    client::live(&runner.socket().into(), soon()).await.unwrap();
    let answer = client::predict(
        &runner.socket().into(),
        &rows(&[4.0]),
        &["y".into()],
        soon(),
    )
    .await
    .unwrap();
    assert_eq!(answer.num_rows(), 1);
    runner.kill();
    until("it is gone", || runner.is_gone()).await;
    let error = client::ready(&runner.socket().into(), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
}

#[tokio::test]
async fn hooks_answer_json_and_their_names_cannot_leave_the_path() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let answer = gateway
        .custom_explain(model, "lime", &rows(&[1.0]), soon(), &Timings::default())
        .await
        .unwrap();
    assert_eq!(answer, serde_json::json!({"hook": "lime"}));
    for (name, sent) in [
        ("Tree Shap", "Tree%20Shap"),
        ("../predict", "%2E%2E%2Fpredict"),
    ] {
        let answer = gateway
            .custom_explain(model, name, &rows(&[1.0]), soon(), &Timings::default())
            .await
            .unwrap();
        assert_eq!(answer, serde_json::json!({ "hook": sent }));
    }
    runner.answer(Answer::Error(RunnerErrorKind::NoSuchHook));
    let error = gateway
        .custom_explain(model, "lime", &rows(&[1.0]), soon(), &Timings::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::NotSupported);
}
