//! The native routes of histories, rollbacks, limits, approvals and runners kept elsewhere.

use axum::http::Method;
use luthier_testkit::{Behaviour, GOOD_PACKAGE, archive};
use luthier_types::{Code, Error};
use serde_json::{Value, json};

use super::Server;

/// Deploys a package that differs from others by its number; gives the job's answer.
async fn deploy(server: &Server, model: &str, number: u32, more: Value) -> Value {
    let weights = number.to_string();
    let content = archive(&[("package.py", GOOD_PACKAGE), ("weights.txt", &weights)]);
    let file = server.upload("files.tar.gz", &content).await;
    let path = format!("/v3/models/{model}/deploy-artifact");
    let mut body = json!({ "file_id": file });
    if let Value::Object(more) = more {
        body.as_object_mut().unwrap().extend(more);
    }
    match number {
        1 => server.post(&path, body).await,
        _ => server.ok(Method::PUT, &path, Some(body)).await,
    }
}

async fn newest(server: &Server, model: &str) -> Value {
    let path = format!("/v1/models/{model}/revisions");
    server.get(&path).await["items"][0].clone()
}

#[tokio::test]
async fn a_model_has_a_history_and_a_way_back() {
    let server = Server::new().await;
    let model = server.model("m").await;
    for number in 1..=2 {
        let answer = deploy(&server, &model, number, json!({})).await;
        server.done(&answer).await;
    }
    let path = format!("/v1/models/{model}/rollback");
    let answer = server.post(&path, json!({ "to": null })).await;
    server.done(&answer).await;
    let shown = newest(&server, &model).await;
    assert_eq!(
        (&shown["number"], &shown["cause"], &shown["outcome"]),
        (&json!(3), &json!("rollback to 1"), &json!("current"))
    );
    assert_eq!(shown["job"], answer["job"]["id"]);
    for (body, status) in [
        (json!({ "to": 9 }), 404),
        (json!({ "to": 3 }), 400),
        (json!({ "to": "x" }), 400),
        (json!({ "two": 1 }), 400),
        (json!([]), 400),
    ] {
        let refused = server
            .refused(Method::POST, &path, Some(body.clone()))
            .await;
        assert_eq!(refused.0, status, "{body}");
    }
}

#[tokio::test]
async fn limits_are_set_and_what_they_hold_is_approved() {
    let server = Server::new().await;
    let model = server.model("m").await;
    let answer = deploy(&server, &model, 1, json!({})).await;
    server.done(&answer).await;
    let path = format!("/v1/models/{model}/rollout-limits");
    assert_eq!(
        server.get(&path).await["max_prediction_change"],
        Value::Null
    );
    let set = json!({ "max_prediction_change": 0.5 });
    server.ok(Method::PUT, &path, Some(set)).await;
    assert_eq!(server.get(&path).await["max_prediction_change"], 0.5);
    for body in [
        json!({ "max_latency_ratio": -1 }),
        json!({ "most": 1 }),
        json!([]),
    ] {
        let (status, _) = server.refused(Method::PUT, &path, Some(body)).await;
        assert_eq!(status, 400);
    }
    let approve = format!("/v1/models/{model}/approve");
    let (status, _) = server.refused(Method::POST, &approve, None).await;
    assert_eq!(status, 400, "nothing is held");

    let held = Error::new(Code::RolloutHeld, "it differs").hint("Approve it.");
    server.world.controller.behave(Behaviour::Fail(held));
    let answer = deploy(&server, &model, 2, json!({ "limits": { "hold": true } })).await;
    let job = server.job(&answer).await;
    assert_eq!(job.error.unwrap().code(), Code::RolloutHeld);
    assert_eq!(newest(&server, &model).await["outcome"], "held");
    server.world.controller.behave(Behaviour::Serve);
    let answer = server.post(&approve, json!({})).await;
    server.done(&answer).await;
    assert_eq!(newest(&server, &model).await["cause"], "approval of 2");
}

#[tokio::test]
async fn a_runner_elsewhere_is_set_shown_and_removed() {
    let server = Server::new().await;
    let model = server.model("m").await;
    let manual = json!({ "deployment_params": { "deployment_type": "MANUAL" } });
    let answer = deploy(&server, &model, 1, manual).await;
    server.done(&answer).await;
    let path = format!("/v1/models/{model}/runner-address");
    for (address, shown) in [
        (json!("http://127.0.0.1:9"), json!("http://127.0.0.1:9")),
        (Value::Null, Value::Null),
    ] {
        let body = json!({ "address": address });
        let answer = server.ok(Method::PUT, &path, Some(body)).await;
        server.done(&answer).await;
        let deployment = server.get(&format!("/v3/models/{model}/deployment")).await;
        assert_eq!(deployment["runner_address"], shown);
    }
    for body in [
        json!({ "address": "ftp://x" }),
        json!({ "url": "" }),
        json!([]),
    ] {
        let (status, _) = server.refused(Method::PUT, &path, Some(body)).await;
        assert_eq!(status, 400);
    }
}
