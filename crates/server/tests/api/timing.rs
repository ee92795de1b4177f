//! `Server-Timing` on everything that asks a model, whatever becomes of it.

use std::collections::BTreeMap;

use axum::{body::Body, http::Method};
use luthier_testkit::{Answer, FakeRunner};
use luthier_types::runner::{RunnerError, RunnerErrorKind};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Server, model_body};

/// The status of an answer and the milliseconds of each part, in order.
async fn timed(server: &Server, path: &str, body: &Value) -> (u16, Vec<(String, f64)>) {
    let request = Server::request(Method::POST, path);
    let request = request.body(Body::from(body.to_string())).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    let header = response.headers()["server-timing"].to_str().unwrap();
    let parts = header.split(", ").map(|metric| {
        let (name, millis) = metric.split_once(";dur=").unwrap();
        (name.to_owned(), millis.parse().unwrap())
    });
    (response.status().as_u16(), parts.collect())
}

fn names(parts: &[(String, f64)]) -> Vec<&str> {
    parts.iter().map(|(name, _)| name.as_str()).collect()
}

const PREDICT: [&str; 7] = [
    "parse", "queue", "transfer", "frame", "model", "encode", "total",
];

#[tokio::test]
async fn every_way_to_predict_says_where_its_time_went() {
    let (server, model, _runner) = Server::serving().await;
    let rows = json!({ "data": [{ "Age": 50, "city": "x" }], "model_id": model });
    let tensors = json!({ "inputs": [
        { "name": "Age", "datatype": "INT64", "shape": [1], "data": [50] },
        { "name": "city", "datatype": "BYTES", "shape": [1], "data": ["x"] },
    ]});
    for (path, body) in [
        ("/v3/predict".to_owned(), &rows),
        (format!("/v1/models/{model}/predict"), &rows),
        ("/v2/models/p.m/infer".to_owned(), &tensors),
    ] {
        let (status, parts) = timed(&server, &path, body).await;
        assert_eq!((status, names(&parts)), (200, PREDICT.to_vec()), "{path}");
        let of: BTreeMap<&str, f64> = parts.iter().map(|(n, ms)| (n.as_str(), *ms)).collect();
        // As the replica says.
        assert_eq!((of["frame"], of["model"]), (0.002, 0.003), "{path}");
        for part in ["parse", "transfer", "encode"] {
            assert!(of[part] > 0.0, "{path}: {part}");
        }
        let sum: f64 = parts[..6].iter().map(|(_, ms)| ms).sum();
        assert!(sum <= of["total"] + 0.01, "{path}: {parts:?}");
    }
}

#[tokio::test]
async fn an_explanation_adds_up_its_calls() {
    let server = Server::new().await;
    let _runner = server.runner(|row| json!(row["Age"].as_f64().map(|age| age / 100.0)));
    let project = server.project("p").await;
    let mut body = model_body("m", &project);
    body["spec"]["inputs"] = json!(["Age"]);
    let model = server.post("/v3/models", body).await["id"].clone();
    let job = server.deploy(model.as_str().unwrap()).await;
    server.done(&job).await;
    let explain = json!({
        "model_id": model,
        "input_data_source": { "source_type": "ROW", "row": { "Age": 50 } },
        "explanation_type": "ZERO_RESET",
    });
    let (status, parts) = timed(&server, "/v3/explain", &explain).await;
    let mut expected = PREDICT.to_vec();
    expected.insert(6, "explain");
    assert_eq!((status, names(&parts)), (200, expected));
    let of: BTreeMap<&str, f64> = parts.iter().map(|(n, ms)| (n.as_str(), *ms)).collect();
    let calls = of["model"] / 0.003;
    assert!(
        calls >= 1.0 && (calls - calls.round()).abs() < 1e-6,
        "{calls}"
    );
    for part in ["parse", "explain", "encode"] {
        assert!(of[part] > 0.0, "{part}");
    }
}

#[tokio::test]
async fn failures_say_it_too() {
    let (server, model, runner): (_, _, FakeRunner) = Server::serving().await;
    let rows = json!({ "data": [{ "Age": 50, "city": "x" }], "model_id": model });
    runner.answer(Answer::Fails(RunnerError {
        kind: RunnerErrorKind::PredictRaised,
        message: "no".to_owned(),
        exception: None,
        traceback: None,
        module: None,
    }));
    let (status, parts) = timed(&server, "/v3/predict", &rows).await;
    assert_eq!((status, names(&parts)), (400, PREDICT.to_vec()));
    assert!(parts[4].1 > 0.0, "{parts:?}");
    let (status, parts) = timed(&server, "/v3/predict", &json!({ "data": 7 })).await;
    assert_eq!((status, names(&parts)), (400, PREDICT.to_vec()));
    assert_eq!(parts[4].1, 0.0, "{parts:?}");
}
