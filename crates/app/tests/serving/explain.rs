//! Explain through the engine and the gateway, on a model whose attributions are known in closed
//! form.

use std::sync::Arc;

use luthier_app::explain::ExplainRequest;
use luthier_testkit::{Answer, FakeRunner, World};
use luthier_types::{Code, Error, ModelId, Result, Task};
use serde_json::{Map, Value, json};

use crate::{deployed, serving};

const CSV: &str = "id,a,b,c,y\ne1,1,1,z,5\ne2,3,2,x,13\n";

async fn explain(world: &World, body: Value) -> Result<Value> {
    let request: ExplainRequest = serde_json::from_value(body).unwrap();
    world.app.explain(request, &Arc::default()).await
}

fn row() -> Value {
    json!({ "source_type": "ROW", "row": { "a": 5, "b": 1, "c": "x" } })
}

/// Attributions by input of the output y.
fn attributions(answer: &Value) -> Vec<f64> {
    answer["explanations"]["y"]["GEM"]["contents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["attribution"].as_f64().unwrap())
        .collect()
}

fn close(found: &[f64], expected: &[f64]) {
    let far = |(f, e): (&f64, &f64)| (f - e).abs() > 1e-9;
    assert_eq!(found.len(), expected.len());
    assert!(
        !found.iter().zip(expected).any(far),
        "{found:?} is not {expected:?}"
    );
}

#[tokio::test]
async fn a_linear_model_is_explained_exactly() {
    let (world, model, _runner) = serving().await;
    world.dataset(model, "base", CSV).await;
    for method in ["FIDDLER_SHAP", "SHAP"] {
        let body = json!({
            "model_id": model, "input_data_source": row(), "explanation_type": method,
        });
        let answer = explain(&world, body).await.unwrap();
        assert_eq!(answer["explanation_type"], method);
        assert_eq!(answer["num_refs"], 2);
        let y = &answer["explanations"]["y"];
        // f = 2·5 + 3·1 + 1; the reference gives 5 and 13.
        assert_eq!(y["model_prediction"], 14.0);
        assert_eq!(y["baseline_prediction"], 9.0);
        close(&attributions(&answer), &[6.0, -1.5, 0.5]);
        let gem = &y["GEM"];
        assert_eq!(gem["type"], "container");
        assert_eq!(gem["contents"][0]["type"], "simple");
        assert_eq!(gem["contents"][0]["feature-name"], "a");
        assert_eq!(gem["contents"][2]["value"], "x");
        assert!((gem["attribution"].as_f64().unwrap() - 5.0).abs() < 1e-9);
        let uncertainty = gem["contents"][0].get("attribution-uncertainty");
        assert_eq!(uncertainty.is_some(), method == "FIDDLER_SHAP");
    }
}

#[tokio::test]
async fn the_same_request_has_the_same_receipt_and_numbers() {
    let (world, model, runner) = serving().await;
    world.dataset(model, "base", CSV).await;
    let body = json!({
        "model_id": model, "input_data_source": row(), "explanation_type": "FIDDLER_SHAP",
        "num_permutations": 50, "ci_level": 0.9,
    });
    let before = runner.rows();
    let first = explain(&world, body.clone()).await.unwrap();
    let asked = runner.rows() - before;
    let second = explain(&world, body).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(first["receipt"]["model_rows"], asked);
    assert_eq!(first["receipt"]["method"], "FIDDLER_SHAP");
    assert_eq!(first["receipt"]["parameters"]["num_permutations"], 50);
    assert!(first["receipt"]["revision"].is_string());
    assert_eq!(
        (&first["ci_level"], &first["explanation_ci_level"]),
        (&json!(0.9), &json!(0.9))
    );
    let other = json!({
        "model_id": model, "explanation_type": "FIDDLER_SHAP", "num_permutations": 51,
        "input_data_source": row(),
    });
    let other = explain(&world, other).await.unwrap();
    assert_ne!(first["receipt"]["seed"], other["receipt"]["seed"]);
}

#[tokio::test]
async fn of_fewer_rows_than_it_takes_an_explanation_tells_what_they_say() {
    let (world, model, runner) = serving().await;
    let rows: String = (0..50).map(|n| format!("e{n},{n},{n},z,{n}\n")).collect();
    world
        .dataset(model, "base", &format!("id,a,b,c,y\n{rows}"))
        .await;
    let body = json!({
        "model_id": model, "explanation_type": "SHAP", "input_data_source": row(),
        "max_model_rows": 100,
    });
    let before = runner.rows();
    let answer = explain(&world, body).await.unwrap();
    assert_eq!(runner.rows() - before, 100);
    let stopped = &answer["stopped"];
    assert_eq!(stopped["of"], 50);
    let done = stopped["done"].as_u64().unwrap();
    assert!((10..50).contains(&done), "{stopped}");
    assert_eq!(answer["receipt"]["model_rows"], 100);
    assert_eq!(answer["ci_level"], 0.95);
    let first = &answer["explanations"]["y"]["GEM"]["contents"][0];
    assert!(
        first["attribution-uncertainty"].as_f64().unwrap() > 0.0,
        "{first}"
    );
}

#[tokio::test]
async fn rows_and_references_come_from_datasets_and_events_too() {
    let (world, model, _runner) = serving().await;
    let base = world.dataset(model, "base", CSV).await;
    world
        .event(model, "p1", json!({ "a": 5, "b": 1, "c": "x", "y": 14 }))
        .await;
    world
        .event(model, "p2", json!({ "a": 1, "b": 1, "c": "z" }))
        .await;
    let production = json!({ "source_type": "EVENT_ID", "event_id": "p1", "env_type": "PRODUCTION", "env_id": null });
    let dataset = json!({ "source_type": "EVENT_ID", "event_id": "e2", "env_type": "PRE_PRODUCTION", "env_id": base });
    let references = [
        (json!(null), 9.0),
        (
            json!({ "source_type": "ENVIRONMENT", "env_type": "PRE-PRODUCTION" }),
            9.0,
        ),
        (
            json!({ "source_type": "ENVIRONMENT", "env_type": "PRE_PRODUCTION", "dataset_id": base }),
            9.0,
        ),
        (
            json!({ "source_type": "ENVIRONMENT", "env_type": "PRODUCTION" }),
            9.5,
        ),
    ];
    for (source, prediction) in [(production, 14.0), (dataset, 13.0)] {
        for (reference, baseline) in &references {
            let body = json!({
                "model_id": model, "input_data_source": source, "ref_data_source": reference,
            });
            let answer = explain(&world, body).await.unwrap();
            let y = &answer["explanations"]["y"];
            assert_eq!(y["model_prediction"], prediction);
            assert_eq!(y["baseline_prediction"], *baseline, "{reference}");
        }
    }
    let one =
        json!({ "source_type": "ENVIRONMENT", "env_type": "PRE_PRODUCTION", "num_samples": 1 });
    let body = json!({ "model_id": model, "input_data_source": row(), "ref_data_source": one });
    assert_eq!(explain(&world, body).await.unwrap()["num_refs"], 1);
}

#[tokio::test]
async fn what_a_request_may_not_say() {
    let (world, model, _runner) = serving().await;
    let with = |key: &str, value: Value| {
        let mut body = json!({ "model_id": model, "input_data_source": row() });
        body[key] = value;
        body
    };
    let unknown = "00000000-0000-7000-8000-000000000000";
    let cases = [
        (
            with("num_permutations", json!(2)),
            Code::BadRequest,
            "no dataset",
        ),
        (
            with("num_permutations", json!(0)),
            Code::BadRequest,
            "num_permutations is 0",
        ),
        (
            with("num_permutations", json!(10001)),
            Code::BadRequest,
            "10001",
        ),
        (
            with("ci_level", json!(1.5)),
            Code::BadRequest,
            "ci_level is 1.5",
        ),
        (
            with("explanation_type", json!("IG")),
            Code::NotSupported,
            "integrated",
        ),
        (
            with("explanation_type", json!("LIME")),
            Code::BadRequest,
            "LIME",
        ),
        (
            with(
                "input_data_source",
                json!({ "source_type": "SQL_SLICE_QUERY", "query": "x" }),
            ),
            Code::NotSupported,
            "SQL",
        ),
        (
            with("input_data_source", json!({ "source_type": "FQL" })),
            Code::NotSupported,
            "FQL",
        ),
        (
            with("input_data_source", json!({ "source_type": "CLOUD" })),
            Code::BadRequest,
            "CLOUD",
        ),
        (
            with("input_data_source", json!({ "source_type": "ROW" })),
            Code::BadRequest,
            "row",
        ),
        (
            with(
                "input_data_source",
                json!({ "source_type": "ROW", "row": { "a": 1 } }),
            ),
            Code::BadRequest,
            "b",
        ),
        (
            with(
                "input_data_source",
                json!({ "source_type": "EVENT_ID", "event_id": "none" }),
            ),
            Code::NotFound,
            "none",
        ),
        (
            with("input_data_source", json!({ "source_type": "ENVIRONMENT" })),
            Code::BadRequest,
            "one row",
        ),
        (
            with(
                "ref_data_source",
                json!({ "source_type": "ENVIRONMENT", "env_id": unknown }),
            ),
            Code::NotFound,
            "Environment",
        ),
        (
            with(
                "ref_data_source",
                json!({ "source_type": "ENVIRONMENT", "num_samples": 0 }),
            ),
            Code::BadRequest,
            "num_samples",
        ),
        (
            with(
                "ref_data_source",
                json!({ "source_type": "ENVIRONMENT", "env_type": "PRODUCTION" }),
            ),
            Code::BadRequest,
            "no production events",
        ),
        (
            with("ref_data_source", row()),
            Code::BadRequest,
            "single row",
        ),
        (
            with("max_seconds", json!(0)),
            Code::BadRequest,
            "max_seconds",
        ),
        (
            with("max_seconds", json!(-1.5)),
            Code::BadRequest,
            "max_seconds",
        ),
        (
            with("max_model_rows", json!(0)),
            Code::BadRequest,
            "max_model_rows",
        ),
        (
            with("model_id", json!(ModelId::new())),
            Code::NotFound,
            "Model",
        ),
    ];
    for (body, code, text) in cases {
        let error = explain(&world, body.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{body}: {error}");
        assert!(error.message().contains(text), "{body}: {error}");
        assert!(error.next_step().is_some(), "{body}");
    }
    world.dataset(model, "base", CSV).await;
    world.dataset(model, "other", CSV).await;
    let body = with("ref_data_source", json!({ "source_type": "ENVIRONMENT" }));
    let error = explain(&world, body).await.unwrap_err();
    assert!(error.message().contains("base, other"), "{error}");
}

#[tokio::test]
async fn a_packages_own_method_is_called_by_its_name() {
    let (world, model, _runner) = serving().await;
    let body = json!({
        "model_id": model, "input_data_source": row(), "explanation_type": "Tree Shap",
    });
    let answer = explain(&world, body).await.unwrap();
    assert_eq!(answer["explanation_type"], "Tree Shap");
    let y = &answer["explanations"]["y"];
    assert_eq!(y["model_prediction"], 1.0);
    assert_eq!(y["GEM"]["type"], "container");
}

fn classes(row: &Map<String, Value>) -> Map<String, Value> {
    let a = row["a"].as_f64().unwrap_or(0.0) / 10.0;
    Map::from_iter([
        ("low".to_owned(), json!(0.6 * (1.0 - a))),
        ("middle".to_owned(), json!(0.4 * (1.0 - a))),
        ("high".to_owned(), json!(a)),
    ])
}

#[tokio::test]
async fn the_top_classes_are_those_with_the_largest_predictions() {
    let world = World::new().await;
    let outputs = ["low", "middle", "high"];
    let socket = world.dir.path().join("r.sock");
    let _runner = FakeRunner::start(&socket, &outputs, Answer::Rows(Arc::new(classes)));
    world.controller.sockets(vec![socket.clone()]);
    let task = Task::MulticlassClassification;
    let model = world.model_with("m", task, &outputs).await;
    deployed(&world, model).await;
    world
        .dataset(model, "base", "id,a,b,c\n1,1,1,z\n2,3,2,x\n")
        .await;
    for (top, expected) in [
        (json!(null), vec!["low", "middle", "high"]),
        (json!(2), vec!["low", "high"]),
        (json!(1), vec!["high"]),
        (json!(9), vec!["low", "middle", "high"]),
    ] {
        let body = json!({
            "model_id": model, "explanation_type": "PERMUTE", "top_n_class": top,
            "num_permutations": 2,
            "input_data_source": { "source_type": "ROW", "row": { "a": 6, "b": 0, "c": "x" } },
        });
        let answer = explain(&world, body).await.unwrap();
        let found: Vec<_> = answer["explanations"].as_object().unwrap().keys().collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn tasks_without_a_meaning_are_not_explained() {
    let world = World::new().await;
    for (name, task) in [("unset", Task::NotSet), ("llm", Task::Llm)] {
        let model = world.model_with(name, task, &["y"]).await;
        let body = json!({ "model_id": model, "input_data_source": row() });
        let error = explain(&world, body).await.unwrap_err();
        assert_eq!(error.code(), Code::BadRequest);
        assert!(error.message().contains("task"), "{error}");
    }
}

#[tokio::test]
async fn a_model_that_does_not_serve_says_why() {
    let world = World::new().await;
    let model = world.model("m").await;
    world.dataset(model, "base", CSV).await;
    let body = json!({ "model_id": model, "input_data_source": row() });
    let error: Error = explain(&world, body).await.unwrap_err();
    assert_eq!(error.code(), Code::ModelUnavailable);
    assert!(error.message().contains("no artifact"), "{error}");
}
