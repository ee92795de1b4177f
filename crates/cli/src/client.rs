//! Calls to a running server.

use std::time::Duration;

use bytes::Bytes;
use luthier_types::{Code, Error, Evidence, Result};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::Value;

// Where the server is and how to be let in. (A doc comment here would stand in for that of each command.)
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Server")]
pub(crate) struct Connection {
    /// Address of the server.
    #[arg(long, env = "LUTHIER_URL", default_value = "http://127.0.0.1:8580")]
    url: String,
    /// Token; a server keeps its own in DATA/admin-token.
    #[arg(long, env = "LUTHIER_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

/// A client of one server.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    /// A client for `connection`.
    pub(crate) fn new(connection: &Connection) -> Result<Self> {
        let token = connection.token.clone().ok_or_else(|| {
            Error::new(Code::Unauthorized, "no token is set").hint(
                "Set LUTHIER_TOKEN; on the server's machine it is in the file admin-token of its \
                 data directory.",
            )
        })?;
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|e| Error::internal("setting up the HTTP client", e))?;
        Ok(Self {
            http,
            base: connection.url.trim_end_matches('/').to_owned(),
            token,
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
            .header(
                "x-luthier-client",
                concat!("luthier ", env!("CARGO_PKG_VERSION")),
            )
    }

    /// GETs `path` and gives `data` of the answer.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.data(self.request(Method::GET, path)).await
    }

    /// GETs `path` with query parameters and gives `data` of the answer.
    pub(crate) async fn get_with(&self, path: &str, query: &[(&str, &str)]) -> Result<Value> {
        let query: Vec<String> = query
            .iter()
            .map(|(key, value)| format!("{key}={}", escape(value)))
            .collect();
        self.get(&format!("{path}?{}", query.join("&"))).await
    }

    /// POSTs a JSON body and gives `data` of the answer.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.data(self.request(Method::POST, path).json(body)).await
    }

    /// PUTs a JSON body and gives `data` of the answer.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.data(self.request(Method::PUT, path).json(body)).await
    }

    /// PATCHes with a JSON body and gives `data` of the answer.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.data(self.request(Method::PATCH, path).json(body))
            .await
    }

    /// Uploads a file and gives its id.
    pub(crate) async fn upload(&self, path: &std::path::Path, name: &str) -> Result<String> {
        let file = tokio::fs::File::open(path).await.map_err(|e| {
            Error::new(Code::BadRequest, format!("cannot read {}", path.display())).source(e)
        })?;
        let part = reqwest::multipart::Part::stream(file).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new().part("file", part);
        let file = self
            .data(
                self.request(Method::POST, "/v3/files/upload")
                    .multipart(form),
            )
            .await?;
        text(&file, "id")
    }

    /// POSTs a body of the type `sent` and gives the answer as it came, of the type `wanted`.
    pub(crate) async fn exchange(
        &self,
        path: &str,
        sent: &str,
        wanted: &str,
        body: Vec<u8>,
    ) -> Result<Bytes> {
        let request = self
            .request(Method::POST, path)
            .header(CONTENT_TYPE, sent)
            .header(ACCEPT, wanted)
            .body(body);
        let response = self.send(request).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(refusal(status, &read(response).await?));
        }
        response
            .bytes()
            .await
            .map_err(|e| Error::internal("reading the server's answer", e))
    }

    /// GETs what comes as it is made.
    pub(crate) async fn stream(&self, path: &str) -> Result<Response> {
        let response = self.send(self.request(Method::GET, path)).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(refusal(status, &read(response).await?))
    }

    async fn data(&self, request: RequestBuilder) -> Result<Value> {
        let response = self.send(request).await?;
        let status = response.status();
        let mut body = read(response).await?;
        if status.is_success() {
            return Ok(body["data"].take());
        }
        Err(refusal(status, &body))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|e| {
            Error::new(
                Code::ModelUnavailable,
                format!("no server answers at {}", self.base),
            )
            .hint("Start one with `luthier serve`, or set LUTHIER_URL.")
            .source(e)
        })
    }
}

async fn read(response: Response) -> Result<Value> {
    let bytes = response
        .bytes()
        .await
        .map_err(|e| Error::internal("reading the server's answer", e))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(Code::Internal, "the answer is not JSON")
            .hint("Check that LUTHIER_URL names a Luthier server.")
            .source(e)
    })
}

/// The error that an envelope describes.
fn refusal(status: StatusCode, body: &Value) -> Error {
    let error = &body["error"];
    let detail = &error["errors"][0];
    let code = serde_json::from_value(detail["reason"].clone()).unwrap_or(match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::CONFLICT => Code::Conflict,
        StatusCode::UNAUTHORIZED => Code::Unauthorized,
        _ => Code::BadRequest,
    });
    let message = detail["message"].as_str().unwrap_or("the server refused");
    let evidence: Evidence = serde_json::from_value(error["evidence"].clone()).unwrap_or_default();
    let failure = Error::new(code, message).evidence(evidence);
    match detail["help"].as_str() {
        Some(help) if !help.is_empty() => failure.hint(help),
        _ => failure,
    }
}

/// A text field of an answer.
pub(crate) fn text(value: &Value, field: &str) -> Result<String> {
    value[field]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::internal("reading the server's answer", format!("no `{field}`")))
}

/// Percent-encodes a query value.
pub(crate) fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
