//! The fixtures of the tests: a server, requests, forms, shapes.

mod baselines;
mod events;
mod files;
mod images;
mod lists;
mod models;
mod oip;
mod projects;
mod refusals;
mod seeing;
mod starting;
mod timing;
mod updates;
mod wire;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Method, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use luthier_testkit::{Answer, FakeRunner, GOOD_PACKAGE, World, archive, finished};
use luthier_types::JobStatus;
use serde_json::{Map, Value, json};
use tower::ServiceExt as _;

/// A server and the world below it.
struct Server {
    world: World,
    router: Router,
}

const BOUNDARY: &str = "a-boundary";

impl Server {
    async fn new() -> Self {
        let world = World::new().await;
        let router = luthier_server::router(world.app.clone());
        Self { world, router }
    }

    /// A server with the model `p/m` of `Age` and `city`, whose score is a hundredth of the age.
    async fn serving() -> (Self, String, FakeRunner) {
        let server = Self::new().await;
        let hundredth =
            |row: &Map<String, Value>| json!(row["Age"].as_f64().map(|age| age / 100.0));
        let runner = server.runner(hundredth);
        let project = server.project("p").await;
        let made = server.post("/v3/models", model_body("m", &project)).await;
        let model = made["id"].as_str().unwrap().to_owned();
        let job = server.deploy(&model).await;
        server.done(&job).await;
        (server, model, runner)
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| panic!("{status} with a bare body: {bytes:?}"));
        (status, body)
    }

    fn request(method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", World::TOKEN))
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let body = body.map_or_else(Body::empty, |value| Body::from(value.to_string()));
        self.send(Self::request(method, path).body(body).unwrap())
            .await
    }

    /// A call that succeeds; gives its `data`.
    async fn ok(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, mut answer) = self.call(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer["data"].take()
    }

    async fn get(&self, path: &str) -> Value {
        self.ok(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ok(Method::POST, path, Some(body)).await
    }

    /// A call that is refused, in a whole envelope; gives the error's status and message.
    async fn refused(&self, method: Method, path: &str, body: Option<Value>) -> (u16, String) {
        let (status, answer) = self.call(method, path, body).await;
        refusal(status, &answer)
    }

    /// Ends the job of an answer and gives it.
    async fn job(&self, data: &Value) -> luthier_jobs::Job {
        let id = data["job"]["id"].as_str().unwrap().parse().unwrap();
        finished(self.world.queue(), id).await
    }

    /// Ends the job of an answer, well.
    async fn done(&self, data: &Value) {
        let job = self.job(data).await;
        assert_eq!(job.status, JobStatus::Success, "{:?}", job.error);
    }

    async fn project(&self, name: &str) -> String {
        let made = self.post("/v3/projects", json!({ "name": name })).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// A model in a project of its own.
    async fn model(&self, name: &str) -> String {
        let project = self.project(&format!("p-{name}")).await;
        let made = self.post("/v3/models", model_body(name, &project)).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// Uploads a file in one request.
    async fn upload(&self, filename: &str, content: &[u8]) -> String {
        let (status, file) = self
            .send_form("/v3/files/upload", &[], Some((filename, content)))
            .await;
        assert_eq!(status, 200, "{file}");
        file["data"]["id"].as_str().unwrap().to_owned()
    }

    /// Deploys a package to a model; gives the answer, which has the job.
    async fn deploy(&self, model: &str) -> Value {
        let package = archive(&[("package.py", GOOD_PACKAGE)]);
        let file = self.upload("model_package.tar.gz", &package).await;
        let path = format!("/v3/models/{model}/deploy-artifact");
        self.post(&path, json!({ "file_id": file })).await
    }

    /// Lets the replicas of models be one process, which gives each row this score.
    fn runner(
        &self,
        score: impl Fn(&Map<String, Value>) -> Value + Send + Sync + 'static,
    ) -> FakeRunner {
        let predict =
            move |row: &Map<String, Value>| Map::from_iter([("score".to_owned(), score(row))]);
        let socket = self.world.dir.path().join("r.sock");
        let runner = FakeRunner::start(&socket, &["score"], Answer::Rows(Arc::new(predict)));
        self.world
            .controller
            .sockets(vec![runner.socket().to_owned()]);
        runner
    }

    async fn send_form(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        file: Option<(&str, &[u8])>,
    ) -> (StatusCode, Value) {
        self.send_raw_form(path, form(fields, file)).await
    }

    async fn send_raw_form(&self, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
        let content = format!("multipart/form-data; boundary={BOUNDARY}");
        let request = Self::request(Method::POST, path)
            .header(header::CONTENT_TYPE, content)
            .body(Body::from(Bytes::from(body)))
            .unwrap();
        self.send(request).await
    }
}

/// The status and message of a refusal, whose envelope is checked.
fn refusal(status: StatusCode, answer: &Value) -> (u16, String) {
    let error = &answer["error"];
    assert_eq!(answer["kind"], "ERROR", "{answer}");
    assert_eq!(error["code"], status.as_u16(), "{answer}");
    let entry = &error["errors"][0];
    for text in [
        &error["message"],
        &entry["reason"],
        &entry["message"],
        &entry["help"],
    ] {
        assert!(text.is_string(), "{answer}");
    }
    (
        status.as_u16(),
        error["message"].as_str().unwrap().to_owned(),
    )
}

fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut body = vec![];
    for (name, value) in fields {
        body.extend(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
            .bytes(),
        );
    }
    if let Some((filename, content)) = file {
        body.extend(
            format!(
                "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; \
                 filename=\"{filename}\"\r\n\r\n"
            )
            .bytes(),
        );
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

/// The body by which the client makes a model: what is not set is null.
fn model_body(name: &str, project: &str) -> Value {
    let column = |name: &str, kind: &str, min: Value, max: Value| {
        json!({
            "name": name, "data_type": kind, "min": min, "max": max, "categories": null,
            "bins": null, "replace_with_nulls": null, "n_dimensions": null,
        })
    };
    json!({
        "name": name,
        "project_id": project,
        "schema": {
            "schema_version": 1,
            "columns": [
                column("Age", "int", json!(0), json!(100)),
                column("city", "str", Value::Null, Value::Null),
                column("score", "float", json!(0.0), json!(1.0)),
                column("label", "int", json!(0), json!(1)),
            ],
        },
        "spec": {
            "schema_version": 1,
            "inputs": ["Age", "city"], "outputs": ["score"], "targets": ["label"],
            "decisions": null, "metadata": [], "custom_features": [],
        },
        "input_type": "structured",
        "task": "binary_classification",
        "task_params": null,
        "description": null,
        "event_id_col": "event_id",
        "event_ts_col": "at",
        "event_ts_format": null,
        "xai_params": null,
    })
}

/// A document whose ids and times are replaced, so that its shape can be shown.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(text) if text.parse::<uuid::Uuid>().is_ok() => json!("[id]"),
        Value::String(text) if is_time(text) => json!("[time]"),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), shape(v))).collect(),
        other => other.clone(),
    }
}

/// Whether the text is a time as clients of every version parse it.
fn is_time(text: &str) -> bool {
    text.len() == 32
        && text.ends_with("+00:00")
        && text.as_bytes()[19] == b'.'
        && text.parse::<jiff::Timestamp>().is_ok()
}
