//! The audit log, metrics and request ids.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode},
};
use http_body_util::BodyExt as _;
use luthier_testkit::World;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::Server;

async fn entries(server: &Server) -> Vec<Value> {
    let listed = server.get("/v1/audit?limit=1000").await;
    let mut entries = listed["items"].as_array().unwrap().clone();
    entries.reverse();
    entries
}

/// What was entered, with whom and what not.
async fn actions(server: &Server) -> Vec<String> {
    let entries = entries(server).await;
    let action = |entry: &Value| entry["action"].as_str().unwrap().to_owned();
    entries.iter().map(action).collect()
}

#[tokio::test]
async fn changes_are_entered_and_nothing_else() {
    let (server, model, _runner) = Server::serving().await;
    let path = format!("/v3/models/{model}");
    server
        .ok(Method::PATCH, &path, Some(json!({ "description": "new" })))
        .await;
    let rows = json!({ "model_id": model, "data": [{ "Age": 1, "city": "x" }] });
    server.post("/v3/predict", rows).await;
    server
        .refused(Method::POST, "/v3/projects", Some(json!({ "name": "p" })))
        .await;
    server.get("/v3/projects").await;
    assert_eq!(
        actions(&server).await,
        [
            "project.create",
            "model.create",
            // Has no entry of its own, and so one by its route.
            "POST /v3/files/upload",
            "deployment.deploy",
            "job.success",
            "model.update",
        ]
    );
    let entries = entries(&server).await;
    let update = &entries[5];
    let change = json!({ "description": { "before": null, "after": "new" } });
    assert_eq!(update["changes"], change);
    assert_eq!(update["name"], "p/m:v1");
    assert_eq!(update["actor"], "admin");
    assert_eq!(entries[4]["actor"], "server");
    assert_eq!(entries[4]["job_id"], entries[3]["job_id"]);
    assert!(
        entries
            .iter()
            .all(|e| !e.to_string().contains(World::TOKEN))
    );

    let of_model = server
        .get(&format!("/v1/audit?model_id={model}&limit=2"))
        .await;
    assert_eq!(of_model["items"][0]["action"], "model.update");
    let before = of_model["next"].as_i64().unwrap();
    let next = server
        .get(&format!(
            "/v1/audit?model_id={model}&limit=2&before={before}"
        ))
        .await;
    assert_eq!(next["items"][0]["action"], "deployment.deploy");
}

#[tokio::test]
async fn a_change_that_is_undone_is_not_entered() {
    let server = Server::new().await;
    let project = server.project("p").await;
    let missing = format!("/v3/projects/{}", luthier_types::ProjectId::new());
    server.refused(Method::DELETE, &missing, None).await;
    server
        .ok(Method::DELETE, &format!("/v3/projects/{project}"), None)
        .await;
    assert_eq!(actions(&server).await, ["project.create", "project.delete"]);
}

async fn answer(server: &Server, request: Request<Body>) -> (http::response::Parts, String) {
    let answer = server.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn metrics_tell_of_models_that_exist_to_who_may_know() {
    let (server, model, _runner) = Server::serving().await;
    let open = Request::get("/metrics").body(Body::empty()).unwrap();
    assert_eq!(
        answer(&server, open).await.0.status,
        StatusCode::UNAUTHORIZED
    );
    let rows = |age| json!({ "model_id": model, "data": [{ "Age": age, "city": "x" }] });
    server.post("/v3/predict", rows(json!(1))).await;
    server
        .refused(Method::POST, "/v3/predict", Some(rows(json!("old"))))
        .await;
    let ask = || {
        Server::request(Method::GET, "/metrics")
            .body(Body::empty())
            .unwrap()
    };
    let (_, text) = answer(&server, ask()).await;
    let labels = r#"project="p",model="m",version="v1""#;
    for line in [
        format!(r#"luthier_requests_total{{{labels},operation="predict",code="ok"}} 1"#),
        format!(r#"luthier_requests_total{{{labels},operation="predict",code="BadRequest"}} 1"#),
        format!(r#"luthier_request_seconds_count{{{labels},operation="predict"}} 2"#),
        format!("luthier_batch_requests_count{{{labels}}} 1"),
        format!("luthier_queue_length{{{labels}}} 0"),
    ] {
        let there = text.lines().any(|l| l == line || l == format!("{line}.0"));
        assert!(there, "{line} in\n{text}");
    }
    assert!(
        text.contains(r#"route="/v3/predict",status="400"} 1"#),
        "{text}"
    );
    let job = server
        .ok(Method::DELETE, &format!("/v3/models/{model}"), None)
        .await;
    server.done(&job).await;
    let (_, text) = answer(&server, ask()).await;
    assert!(!text.contains(r#"model="m""#), "{text}");
}

#[tokio::test]
async fn requests_have_an_id() {
    let server = Server::new().await;
    let ask = |id: &str| {
        let request = Request::get("/healthz").header("x-request-id", id);
        request.body(Body::empty()).unwrap()
    };
    let (parts, _) = answer(&server, ask("mine-1")).await;
    assert_eq!(parts.headers["x-request-id"], "mine-1");
    let (parts, _) = answer(&server, ask("not plain")).await;
    assert_eq!(parts.headers["x-request-id"].len(), 32);
}
