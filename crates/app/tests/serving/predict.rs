//! Predict through the gateway to a model on a socket.

use bytes::Bytes;
use luthier_app::{App, names::ModelRef, predict::Predict};
use luthier_data::Format;
use luthier_gateway::Timings;
use luthier_store::batching;
use luthier_testkit::{Answer, World};
use luthier_types::{
    Batching, BatchingVerdict, Code, ModelId, Result,
    runner::{RunnerError, RunnerErrorKind},
};
use serde_json::{Value, json};

use crate::serving;

async fn predict(app: &App, body: Value) -> Result<Value> {
    predict_text(app, None, body.to_string()).await
}

async fn predict_text(app: &App, model: Option<ModelRef>, body: String) -> Result<Value> {
    let request = Predict {
        model,
        body: Bytes::from(body),
        format: Format::Json,
        answer: Format::Json,
        chunk_size: None,
    };
    let answer = app.predict(request, vec![], &Timings::default()).await?;
    Ok(serde_json::from_slice(&answer).unwrap())
}

#[tokio::test]
async fn rows_come_back_in_order_whatever_else_they_hold() {
    let (world, model, _runner) = serving().await;
    let data = json!([
        { "c": "x", "b": 1, "a": 1.5, "extra": [1] },
        { "a": null, "b": 2.0, "c": "z" },
    ]);
    let answer = predict(&world.app, json!({ "model_id": model, "data": data }))
        .await
        .unwrap();
    assert_eq!(answer, json!([{ "y": 7.0 }, { "y": 6.0 }]));
}

#[tokio::test]
async fn chunks_are_as_large_as_asked_for_and_joined_in_order() {
    let (world, model, runner) = serving().await;
    let before = runner.calls();
    let rows: Vec<Value> = (0..10)
        .map(|i| json!({ "a": i, "b": 0, "c": "z" }))
        .collect();
    let body = json!({ "model_id": model, "data": rows, "chunk_size": 3 });
    let answer = predict(&world.app, body).await.unwrap();
    let expected: Vec<Value> = (0..10)
        .map(|i| json!({ "y": 2.0 * f64::from(i) }))
        .collect();
    assert_eq!(answer, json!(expected));
    assert_eq!(runner.calls() - before, 4);
}

#[tokio::test]
async fn no_rows_ask_nothing() {
    let (world, model, runner) = serving().await;
    let before = runner.calls();
    let answer = predict(&world.app, json!({ "model_id": model, "data": [] }))
        .await
        .unwrap();
    assert_eq!(answer, json!([]));
    assert_eq!(runner.calls(), before);
}

#[tokio::test]
async fn the_model_may_be_named_before_or_after_the_rows_or_beside_the_body() {
    let (world, model, _runner) = serving().await;
    let rows = r#"[{"a": 1, "b": 1, "c": "x"}]"#;
    let beside = || Some(ModelRef::Id(model));
    for (named, body) in [
        (
            None,
            format!(r#"{{"model_id": "{model}", "data": {rows}}}"#),
        ),
        (
            None,
            format!(r#"{{"data": {rows}, "more": [{{}}], "model_id": "{model}"}}"#),
        ),
        (
            beside(),
            format!(r#"{{"data": {rows}, "model_id": "{model}"}}"#),
        ),
        (beside(), format!(r#"{{"model_id": null, "data": {rows}}}"#)),
        (beside(), format!(r#"{{"data": {rows}}}"#)),
    ] {
        let answer = predict_text(&world.app, named, body.clone()).await;
        assert_eq!(answer.unwrap(), json!([{ "y": 6.0 }]), "{body}");
    }
    let other = ModelId::new();
    for (named, body, text) in [
        (None, format!(r#"{{"data": {rows}}}"#), "names no model"),
        (
            beside(),
            format!(r#"{{"data": {rows}, "model_id": "{other}"}}"#),
            "another model",
        ),
        (
            beside(),
            format!(r#"{{"data": {rows}, "data": {rows}}}"#),
            "duplicate field `data`",
        ),
        (
            beside(),
            format!(r#"{{"data": {rows}}} x"#),
            "trailing characters",
        ),
    ] {
        let error = predict_text(&world.app, named, body.clone())
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::BadRequest, "{body}");
        assert!(error.message().contains(text), "{body}: {error}");
    }
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let (world, model, _runner) = serving().await;
    for (body, text) in [
        (
            json!({ "model_id": model, "data": [{ "a": 1, "b": 1 }] }),
            "c",
        ),
        (
            json!({ "model_id": model, "data": [{ "a": "q", "b": 1, "c": "x" }] }),
            "a",
        ),
        (json!({ "model_id": model, "data": { "a": 1 } }), ""),
        (json!({ "model_id": model }), "data"),
        (json!({ "model_id": "m", "data": [] }), ""),
        (
            json!({ "model_id": model, "data": [], "chunk_size": 0 }),
            "chunk_size",
        ),
        (
            json!({ "model_id": model, "data": [], "chunk_size": -1 }),
            "",
        ),
    ] {
        let error = predict(&world.app, body.clone()).await.unwrap_err();
        assert_eq!(error.code(), Code::BadRequest, "{body}");
        assert!(error.message().contains(text), "{body}: {error}");
        assert!(error.next_step().is_some(), "{body}");
    }
    let error = predict(
        &world.app,
        json!({ "model_id": ModelId::new(), "data": [] }),
    )
    .await
    .unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
}

#[tokio::test]
async fn a_model_that_does_not_serve_says_why() {
    let world = World::new().await;
    let model = world.model("bare").await;
    let body = json!({ "model_id": model, "data": [{ "a": 1, "b": 1, "c": "x" }] });
    let error = predict(&world.app, body).await.unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
    assert!(error.message().contains("no artifact"), "{error}");

    let (world, model, _runner) = serving().await;
    let (_, job) = world
        .app
        .change_deployment(model, json!({ "active": false }))
        .await
        .unwrap();
    world.finished(job.id).await;
    let body = json!({ "model_id": model, "data": [{ "a": 1, "b": 1, "c": "x" }] });
    let error = predict(&world.app, body).await.unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
    assert!(error.message().contains("not active"), "{error}");
}

#[tokio::test]
async fn a_models_exception_reaches_the_caller() {
    let (world, model, runner) = serving().await;
    runner.answer(Answer::Fails(RunnerError {
        kind: RunnerErrorKind::PredictRaised,
        message: "could not convert".to_owned(),
        exception: Some("ValueError".to_owned()),
        traceback: Some("package.py, line 7".to_owned()),
        module: None,
    }));
    let body = json!({ "model_id": model, "data": [{ "a": 1, "b": 1, "c": "x" }] });
    let error = predict(&world.app, body).await.unwrap_err();
    assert_eq!(error.code(), Code::ModelServeError);
    assert!(error.message().contains("ValueError: could not convert"));
    assert!(error.public_text().contains("line 7"));
}

#[tokio::test]
async fn a_changed_model_is_read_again_once_it_is_forgotten() {
    let (world, model, _runner) = serving().await;
    let body = json!({ "model_id": model, "data": [{ "a": 1, "b": 1 }] });
    predict(&world.app, body.clone()).await.unwrap_err();
    let mut changed = world.stored(model).await;
    changed.spec.inputs.retain(|name| name != "c");
    let mut db = world.store().write().await.unwrap();
    luthier_store::models::update(&mut db, &changed)
        .await
        .unwrap();
    db.commit().await.unwrap();
    world.app.forget_model(model);
    let answer = predict(&world.app, body).await.unwrap();
    assert_eq!(answer, json!([{ "y": 5.0 }]));
}

#[tokio::test]
async fn a_deployment_says_whether_it_is_batched_and_how_its_traffic_is() {
    let (world, model, _runner) = serving().await;
    let body = json!({ "model_id": model, "data": [{ "a": 1, "b": 1, "c": "x" }] });
    predict(&world.app, body).await.unwrap();
    let view = world.app.deployment(model).await.unwrap();
    assert_eq!(view.batching, None, "not tried yet");
    let found = Batching {
        verdict: BatchingVerdict::DependsOnNeighbours,
        detail: Some("row 0".to_owned()),
    };
    let revision = view.deployment.serving_revision.unwrap();
    let mut db = world.store().write().await.unwrap();
    for found in [found.clone(), BatchingVerdict::Batched.into()] {
        batching::insert(&mut db, revision, &found).await.unwrap();
    }
    db.commit().await.unwrap();
    let view = world.app.deployment(model).await.unwrap();
    assert_eq!(view.batching, Some(found), "what was found first stays");
    let statuses = world.app.deployment_statuses().await.unwrap();
    assert_eq!(
        statuses[0]["batching"],
        json!({ "verdict": "depends_on_neighbours", "detail": "row 0" })
    );
    let traffic = &statuses[0]["traffic"];
    assert_eq!(
        (&traffic["calls"], &traffic["waiting"]),
        (&json!(1), &json!(0))
    );
}
