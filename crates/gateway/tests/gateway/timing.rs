//! Where the time of a request is said to have gone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use luthier_gateway::{Options, Timings};
use luthier_types::{Code, runner::RunnerErrorKind};

use crate::{
    endpoint, package, rows,
    runner::{Answer, Runner},
    serving, soon, until,
};

fn millis(timings: &Timings, part: &str) -> f64 {
    let header = timings.header();
    let metric = header.split(", ").find_map(|m| m.strip_prefix(part));
    metric
        .unwrap()
        .strip_prefix(";dur=")
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_call_is_told_by_the_replicas_account() {
    let runner = Runner::start(Answer::Double).await;
    let (gateway, model) = serving(Options::default(), &[&runner]);
    let timings = Timings::default();
    let ask = || gateway.predict_timed(model, rows(&[1.0]), soon(), &timings);
    ask().await.unwrap();
    assert_eq!(
        (millis(&timings, "frame"), millis(&timings, "model")),
        (2.0, 3.0)
    );
    assert!(millis(&timings, "queue") >= 1.0);
    ask().await.unwrap();
    assert_eq!(
        (millis(&timings, "frame"), millis(&timings, "model")),
        (4.0, 6.0)
    );
    gateway
        .custom_explain(model, "h", &rows(&[1.0]), soon(), &timings)
        .await
        .unwrap();
    assert_eq!(
        (millis(&timings, "frame"), millis(&timings, "model")),
        (6.0, 9.0)
    );
}

#[tokio::test]
async fn requests_predicted_together_each_have_the_whole_call() {
    let runner = Runner::start(Answer::Held).await;
    let (gateway, model) = serving(Options::default(), &[]);
    drop(gateway.set(model, vec![endpoint(&runner)], package(true)));
    let patient = |value: f64| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            let timings = Timings::default();
            let answer = gateway.predict_timed(model, rows(&[value]), soon(), &timings);
            answer.await.unwrap();
            timings
        })
    };
    // Fill both places, so that the others wait for each other's company.
    let filling: Vec<_> = (0..2).map(|_| patient(1.0)).collect();
    until("both run", || runner.requests() == 2).await;
    let waiting: Vec<_> = (0..3).map(|_| patient(2.0)).collect();
    until("they wait", || gateway.stats(model).unwrap().waiting == 3).await;
    let began = Instant::now();
    runner.answer(Answer::Double);
    for task in filling {
        task.await.unwrap();
    }
    for task in waiting {
        let timings = task.await.unwrap();
        assert_eq!(
            (millis(&timings, "frame"), millis(&timings, "model")),
            (2.0, 3.0)
        );
        assert!(millis(&timings, "transfer") <= began.elapsed().as_secs_f64() * 1e3);
    }
    assert!(gateway.stats(model).unwrap().joined > 0);
}

#[tokio::test]
async fn what_brings_no_answer_is_told_as_well() {
    let runner = Runner::start(Answer::Error(RunnerErrorKind::PredictRaised)).await;
    let options = Options {
        in_flight: 1,
        ..Options::default()
    };
    let (gateway, model) = serving(options, &[&runner]);
    let timings = Timings::default();
    let refused = gateway.predict_timed(model, rows(&[1.0]), soon(), &timings);
    assert_eq!(refused.await.unwrap_err().code(), Code::ModelServeError);
    assert!(millis(&timings, "model") > 0.0);

    runner.answer(Answer::Held);
    let short = Duration::from_millis(40);
    let (running, queued) = (Timings::default(), Timings::default());
    let first = gateway.predict_timed(model, rows(&[1.0]), Instant::now() + short * 2, &running);
    let second = async {
        until("the first runs", || runner.requests() == 2).await;
        gateway
            .predict_timed(model, rows(&[1.0]), Instant::now() + short, &queued)
            .await
    };
    let (first, second) = tokio::join!(first, second);
    for late in [first, second] {
        assert_eq!(late.unwrap_err().code(), Code::PredictTimeout);
    }
    // Where each was when its time was over.
    assert!(millis(&running, "model") > 0.0, "{}", running.header());
    assert!(millis(&queued, "queue") > 0.0, "{}", queued.header());
    assert_eq!(millis(&queued, "model"), 0.0);
    runner.answer(Answer::Double);
}
