//! Large requests that are predicted in parts.

use std::sync::Arc;

use luthier_gateway::{Gateway, Options};
use luthier_types::{Code, ModelId};

use crate::{
    endpoint, floats, package, rows,
    runner::{Answer, Runner},
    soon, until,
};

async fn runners(answers: [Answer; 2]) -> [Runner; 2] {
    let [one, two] = answers;
    [Runner::start(one).await, Runner::start(two).await]
}

fn serving(runners: &[Runner; 2], batching: bool) -> (Arc<Gateway>, ModelId) {
    let gateway = Arc::new(Gateway::new(Options::default()));
    let model = ModelId::new();
    let set = runners.iter().map(endpoint).collect();
    drop(gateway.set(model, set, package(batching)));
    (gateway, model)
}

fn many(first: f64) -> Vec<f64> {
    (0..5000).map(|i| first + f64::from(i)).collect()
}

#[tokio::test]
async fn a_large_request_is_shared_by_idle_replicas_and_comes_back_in_order() {
    let runners = runners([Answer::Double, Answer::Double]).await;
    let (gateway, model) = serving(&runners, true);
    let answer = gateway
        .predict(model, rows(&many(0.0)), soon())
        .await
        .unwrap();
    let expected: Vec<f64> = many(0.0).iter().map(|v| v * 2.0).collect();
    assert_eq!(floats(&answer), expected);
    assert_eq!(
        (runners[0].calls(), runners[1].calls()),
        (vec![2500], vec![2500])
    );
    let stats = gateway.stats(model).unwrap();
    assert_eq!((stats.requests, stats.calls), (1, 2));
    // A small one is not worth it.
    gateway
        .predict(model, rows(&[1.0; 1500]), soon())
        .await
        .unwrap();
    assert_eq!(gateway.stats(model).unwrap().calls, 3);
}

#[tokio::test]
async fn a_model_whose_rows_matter_to_each_other_sees_them_all() {
    let runners = runners([Answer::Double, Answer::Double]).await;
    let (gateway, model) = serving(&runners, false);
    gateway
        .predict(model, rows(&many(0.0)), soon())
        .await
        .unwrap();
    assert_eq!(gateway.stats(model).unwrap().calls, 1);
}

#[tokio::test]
async fn replicas_that_have_work_are_left_to_it() {
    let runners = runners([Answer::Held, Answer::Double]).await;
    let (gateway, model) = serving(&runners, true);
    let asking = gateway.clone();
    let busy = tokio::spawn(async move { asking.predict(model, rows(&[1.0]), soon()).await });
    until("one is busy", || runners[0].requests() == 1).await;
    gateway
        .predict(model, rows(&many(0.0)), soon())
        .await
        .unwrap();
    assert_eq!(runners[1].calls(), [5000]);
    runners[0].answer(Answer::Double);
    busy.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_error_in_one_part_is_the_answer_and_the_other_parts_are_left() {
    let runners = runners([Answer::Picky, Answer::Held]).await;
    let (gateway, model) = serving(&runners, true);
    let error = gateway
        .predict(model, rows(&many(-1.0)), soon())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::ModelServeError);
    until("the other is told", || runners[1].hang_ups() == 1).await;
    assert_eq!(gateway.stats(model).unwrap().errors, 1);
}

#[tokio::test]
async fn answers_that_do_not_fit_together_are_asked_for_as_a_whole() {
    let runners = runners([Answer::Double, Answer::Ints]).await;
    let (gateway, model) = serving(&runners, true);
    let answer = gateway
        .predict(model, rows(&many(0.0)), soon())
        .await
        .unwrap();
    assert_eq!(answer.num_rows(), 5000);
    assert_eq!(gateway.stats(model).unwrap().calls, 3);
}
