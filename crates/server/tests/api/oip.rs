//! The Open Inference Protocol: metadata, health, tensors in both forms, and errors in its shape.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use luthier_testkit::Behaviour;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Server, model_body};

const JSON_LENGTH: &str = "inference-header-content-length";

async fn send(server: &Server, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
    let response = server.router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, body)
}

async fn get(server: &Server, path: &str) -> (StatusCode, Value) {
    let request = Server::request(Method::GET, path)
        .body(Body::empty())
        .unwrap();
    let (status, _, body) = send(server, request).await;
    (status, serde_json::from_slice(&body).unwrap())
}

/// Sends JSON and perhaps tensors behind it.
async fn infer(
    server: &Server,
    path: &str,
    json: &Value,
    binary: Option<&[u8]>,
) -> (StatusCode, HeaderMap, Bytes) {
    let mut body = json.to_string().into_bytes();
    let mut request = Server::request(Method::POST, path);
    if let Some(binary) = binary {
        request = request.header(JSON_LENGTH, body.len());
        body.extend_from_slice(binary);
    }
    send(server, request.body(Body::from(body)).unwrap()).await
}

/// The answer in JSON, which has length 200.
async fn inferred(server: &Server, path: &str, json: &Value) -> Value {
    let (status, _, body) = infer(server, path, json, None).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    serde_json::from_slice(&body).unwrap()
}

/// The text of an error in the protocol's shape, which has nothing else.
fn error(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let fields = body.as_object().unwrap();
    assert_eq!(fields.len(), 1, "{body}");
    fields["error"].as_str().unwrap().to_owned()
}

fn inputs() -> Value {
    json!({ "inputs": [
        { "name": "Age", "datatype": "INT64", "shape": [2], "data": [50, 7] },
        { "name": "city", "datatype": "BYTES", "shape": [2, 1], "data": [["Zürich"], ["x"]] },
    ]})
}

#[tokio::test]
async fn tensors_in_json_come_back_in_json() {
    let (server, _model, _runner) = Server::serving().await;
    let mut request = inputs();
    request["id"] = json!("seven");
    for path in ["/v2/models/p.m/infer", "/v2/models/p.m/versions/v1/infer"] {
        let answer = inferred(&server, path, &request).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(answer, @r#"{"model_name":"p.m","model_version":"v1","id":"seven","outputs":[{"name":"score","datatype":"FP64","shape":[2],"data":[0.5,0.07]}]}"#);
        }
    }
    let none = json!({ "inputs": [
        { "name": "Age", "datatype": "INT64", "shape": [0], "data": [] },
        { "name": "city", "datatype": "BYTES", "shape": [0], "data": [] },
    ]});
    let answer = inferred(&server, "/v2/models/p.m/infer", &none).await;
    assert_eq!(answer["outputs"][0]["shape"], json!([0]));
    assert_eq!(answer["outputs"][0]["data"], json!([]));
}

#[tokio::test]
async fn tensors_in_binary_form_come_back_so() {
    let (server, _model, _runner) = Server::serving().await;
    let path = "/v2/models/p.m/infer";
    let mut binary = [50_f32, f32::NAN].map(f32::to_le_bytes).concat();
    let texts = b"\x02\0\0\0\xc3\xa9\0\0\0\0";
    binary.extend(texts);
    let mut request = json!({ "parameters": { "binary_data_output": true }, "inputs": [
        { "name": "Age", "datatype": "FP32", "shape": [2],
          "parameters": { "binary_data_size": 8 } },
        { "name": "city", "datatype": "BYTES", "shape": [2],
          "parameters": { "binary_data_size": texts.len() } },
    ]});
    let expected = [0.5_f64, f64::NAN].map(f64::to_le_bytes).concat();
    let (status, headers, body) = infer(&server, path, &request, Some(&binary)).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    assert_eq!(headers[header::CONTENT_TYPE], "application/octet-stream");
    let length: usize = headers[JSON_LENGTH].to_str().unwrap().parse().unwrap();
    let answer: Value = serde_json::from_slice(&body[..length]).unwrap();
    assert_eq!(
        answer["outputs"][0]["parameters"],
        json!({ "binary_data_size": 16 })
    );
    assert!(answer["outputs"][0].get("data").is_none());
    assert_eq!(body[length..], expected);

    // What is said of an output goes before what is said of all.
    request["outputs"] = json!([{ "name": "score", "parameters": { "binary_data": false } }]);
    let (_, headers, body) = infer(&server, path, &request, Some(&binary)).await;
    assert!(headers.get(JSON_LENGTH).is_none());
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["outputs"][0]["data"], json!([0.5, null]));

    for cut in 0..binary.len() {
        let (status, _, body) = infer(&server, path, &request, Some(&binary[..cut])).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error(&body).contains("ends within the input"), "{body:?}");
    }
    binary.push(0);
    let (status, _, body) = infer(&server, path, &request, Some(&binary)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error(&body).contains("1 bytes more"), "{body:?}");
}

#[tokio::test]
async fn metadata_says_how_to_ask() {
    let (server, _model, _runner) = Server::serving().await;
    let (status, answer) = get(&server, "/v2/models/p.m").await;
    assert_eq!(status, StatusCode::OK);
    insta::assert_snapshot!(answer, @r#"{"name":"p.m","versions":["v1"],"platform":"luthier","inputs":[{"name":"Age","datatype":"INT64","shape":[-1]},{"name":"city","datatype":"BYTES","shape":[-1]}],"outputs":[{"name":"score","datatype":"FP64","shape":[-1]}]}"#);
    assert_eq!(
        get(&server, "/v2/models/p.m/versions/v1").await,
        (status, answer)
    );
    let (status, answer) = get(&server, "/v2").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["extensions"], json!(["binary_tensor_data"]));
}

#[tokio::test]
async fn health_is_open_and_nothing_else() {
    let (server, _model, _runner) = Server::serving().await;
    let open = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    for (path, expected) in [
        ("/v2/health/live", json!({ "live": true })),
        ("/v2/health/ready", json!({ "ready": true })),
    ] {
        let (status, _, body) = send(&server, open(path)).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
    }
    for path in [
        "/v2",
        "/v2/models/p.m",
        "/v2/models/p.m/ready",
        "/v2/health/else",
    ] {
        let (status, headers, body) = send(&server, open(path)).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer");
        assert!(error(&body).contains("no token"), "{body:?}");
    }
}

#[tokio::test]
async fn a_model_that_is_starting_is_waited_for_and_the_newest_with_an_artifact_is_meant() {
    let (server, _model, _runner) = Server::serving().await;
    let ready = "/v2/models/p.m/ready";
    assert_eq!(
        get(&server, ready).await.1,
        json!({ "name": "p.m", "ready": true })
    );

    let project = server.get("/v3/projects").await["items"][0]["id"].clone();
    let mut body = model_body("m", project.as_str().unwrap());
    body["version"] = json!("v2");
    let second = server.post("/v3/models", body).await["id"].clone();
    let second = second.as_str().unwrap();
    let version = async || {
        let answer = inferred(&server, "/v2/models/p.m/infer", &inputs()).await;
        answer["model_version"].as_str().unwrap().to_owned()
    };
    // Made, but without an artifact, and then one that is being tried.
    assert_eq!(version().await, "v1");
    server.world.controller.behave(Behaviour::Hang);
    let job = server.deploy(second).await;
    assert_eq!(version().await, "v1");
    for path in [
        "/v2/models/p.m/versions/v2/ready",
        "/v2/models/p.m/versions/v2/infer",
    ] {
        let method = if path.ends_with("ready") {
            Method::GET
        } else {
            Method::POST
        };
        let request = Server::request(method, path).body(Body::from(inputs().to_string()));
        let (status, headers, body) = send(&server, request.unwrap()).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers[header::RETRY_AFTER], "1");
        assert!(error(&body).contains("try again"), "{body:?}");
    }
    server.world.controller.behave(Behaviour::Serve);
    server.done(&job).await;
    assert_eq!(version().await, "v2");
    assert_eq!(get(&server, ready).await.0, StatusCode::OK);

    let path = format!("/v3/models/{second}/deployment");
    let off = server
        .ok(Method::PATCH, &path, Some(json!({ "active": false })))
        .await;
    server.done(&off).await;
    let (status, answer) = get(&server, ready).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer["error"].as_str().unwrap().contains("not active"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_wrong_comes_in_the_protocols_shape() {
    let (server, _model, runner) = Server::serving().await;
    let before = runner.calls();
    let path = "/v2/models/p.m/infer";
    let with = |change: &dyn Fn(&mut Value)| {
        let mut request = inputs();
        change(&mut request);
        request
    };
    for (path, request, status, expected) in [
        ("/v2/models/p.x/infer", inputs(), 404, "Model not found"),
        ("/v2/models/x.m/infer", inputs(), 404, "Project not found"),
        ("/v2/models/m/infer", inputs(), 404, "Model not found"),
        (
            "/v2/models/p.m/versions/v9/infer",
            inputs(),
            404,
            "Model not found",
        ),
        ("/v2/models/p.m/config", inputs(), 404, "there is no POST"),
        ("/v2/models/p.m", inputs(), 405, "does not take POST"),
        ("/v2/repository/index", json!({}), 404, "there is no POST"),
        (path, json!({}), 400, "`inputs`"),
        (path, json!([]), 400, "not an inference request"),
        (
            path,
            with(&|r| r["inputs"][0]["shape"] = json!([2, 2])),
            400,
            "the shape [2, 2]",
        ),
        (
            path,
            with(&|r| r["inputs"][0]["shape"] = json!([-1])),
            400,
            "-1",
        ),
        (
            path,
            with(&|r| r["inputs"][0]["data"] = json!([1])),
            400,
            "has 1 elements",
        ),
        (
            path,
            with(&|r| r["inputs"][0]["data"] = json!([1, "x"])),
            400,
            "row 1: input `Age`",
        ),
        (
            path,
            with(&|r| r["inputs"][0]["name"] = json!("age")),
            400,
            "`Age`",
        ),
        (
            path,
            with(&|r| r["inputs"][0]["datatype"] = json!("FP8")),
            400,
            "FP64",
        ),
        (
            path,
            with(&|r| r["inputs"][0]["parameters"] = json!({ "shared_memory_region": "x" })),
            400,
            "shared memory",
        ),
        (
            path,
            with(&|r| r["inputs"][0]["parameters"] = json!({ "binary_data_size": 16 })),
            400,
            "no data, or two",
        ),
        (
            path,
            with(&|r| r["outputs"] = json!([{ "name": "else" }])),
            400,
            "no output `else`",
        ),
        (
            path,
            with(&|r| {
                r["outputs"] = json!([{ "name": "score", "parameters": { "classification": 1 } }]);
            }),
            400,
            "classes",
        ),
    ] {
        let (got, _, body) = infer(&server, path, &request, None).await;
        let text = error(&body);
        assert_eq!(got.as_u16(), status, "{path}: {text}");
        assert!(text.contains(expected), "{path}: {text}");
    }
    let lengths = ["x", "-1", "99999"];
    for length in lengths {
        let request = Server::request(Method::POST, path).header(JSON_LENGTH, length);
        let request = request.body(Body::from(inputs().to_string())).unwrap();
        let (status, _, body) = send(&server, request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error(&body).contains(JSON_LENGTH), "{body:?}");
    }
    let request = Server::request(Method::POST, path).header(header::CONTENT_ENCODING, "gzip");
    let (status, _, body) = send(&server, request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    error(&body);
    let big = vec![b' '; 64 * 1024 * 1024 + 1];
    let request = Server::request(Method::POST, path)
        .body(Body::from(big))
        .unwrap();
    let (status, _, body) = send(&server, request).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    error(&body);
    assert_eq!(runner.calls(), before, "the model was asked");
}
