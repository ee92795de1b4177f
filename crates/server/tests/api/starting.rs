//! A model that does not answer: what clients wait for, and what they do not.

use axum::{
    body::Body,
    http::{Method, header},
};
use http_body_util::BodyExt as _;
use luthier_testkit::Behaviour;
use luthier_types::{Code, Error};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Server, model_body, refusal};

/// What predict and explain, which are refused alike, answer: status, `Retry-After`, reason, message.
async fn asked(server: &Server, model: &str) -> (u16, Option<String>, String, String) {
    let row = json!({ "Age": 1 });
    let predict = json!({ "model_id": model, "data": [row] });
    let explain = json!({
        "model_id": model,
        "input_data_source": { "source_type": "ROW", "row": row },
        "explanation_type": "ZERO_RESET",
    });
    let predicted = answer(server, "/v3/predict", predict).await;
    assert_eq!(predicted, answer(server, "/v3/explain", explain).await);
    predicted
}

async fn answer(server: &Server, path: &str, body: Value) -> (u16, Option<String>, String, String) {
    let request = Server::request(Method::POST, path)
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let retry = response.headers().get(header::RETRY_AFTER).cloned();
    let retry = retry.map(|value| value.to_str().unwrap().to_owned());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    let (status, message) = refusal(status, &body);
    let reason = body["error"]["errors"][0]["reason"].as_str().unwrap();
    (status, retry, reason.to_owned(), message)
}

/// Checks that both are to be asked again, and gives the message.
async fn starting(server: &Server, model: &str) -> String {
    let (status, retry, reason, message) = asked(server, model).await;
    assert_eq!((status, reason.as_str()), (503, "ModelStarting"));
    assert_eq!(retry.as_deref(), Some("1"));
    message
}

/// Checks that neither is to be asked again, and gives the message.
async fn unavailable(server: &Server, model: &str) -> String {
    let (status, retry, reason, message) = asked(server, model).await;
    assert_eq!((status, reason.as_str()), (400, "ModelUnavailable"));
    assert_eq!(retry, None);
    message
}

/// A model with a number as its input, which any method explains.
async fn model(server: &Server) -> String {
    let project = server.project("p").await;
    let mut body = model_body("m", &project);
    body["spec"]["inputs"] = json!(["Age"]);
    let made = server.post("/v3/models", body).await;
    made["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_model_on_its_way_is_waited_for_and_one_that_is_not_is_refused() {
    let server = Server::new().await;
    let model = model(&server).await;
    let message = unavailable(&server, &model).await;
    assert!(message.contains("no artifact"), "{message}");
    assert!(message.contains("add_artifact"), "{message}");

    // Being built or started, until the controller says more.
    server.world.controller.behave(Behaviour::Hang);
    let job = server.deploy(&model).await;
    starting(&server, &model).await;

    let failed = Error::new(Code::ModelServeError, "the model raised ValueError");
    server.world.controller.behave(Behaviour::Fail(failed));
    assert_eq!(
        server.job(&job).await.status,
        luthier_types::JobStatus::Failure
    );
    let message = unavailable(&server, &model).await;
    assert!(message.contains("no artifact"), "{message}");

    let serves = server.runner(|_| json!(0.5));
    server.world.controller.behave(Behaviour::Serve);
    let job = server.deploy(&model).await;
    server.done(&job).await;
    // Its only replica ends, which the controller has not seen.
    drop(serves);
    let message = starting(&server, &model).await;
    assert!(message.contains("started again"), "{message}");

    let path = format!("/v3/models/{model}/deployment");
    let off = json!({ "active": false });
    let job = server.ok(Method::PATCH, &path, Some(off)).await;
    server.done(&job).await;
    let message = unavailable(&server, &model).await;
    assert!(message.contains("`active`"), "{message}");
}

#[tokio::test]
async fn before_its_first_revision_a_model_is_waited_for_as_long_as_its_job_is_open() {
    let mut server = Server::new().await;
    server.world = luthier_testkit::World::without_worker().await;
    server.router = luthier_server::router(server.world.app.clone());
    let model = model(&server).await;
    let job = server.deploy(&model).await;
    let message = starting(&server, &model).await;
    let id = job["job"]["id"].as_str().unwrap();
    assert!(message.contains(id), "{message}");
}
