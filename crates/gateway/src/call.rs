//! What is asked of a runner, and how its answer is read.

use std::time::Instant;

use arrow_array::RecordBatch;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use luthier_types::{
    Code, Error, Result,
    runner::{ARROW_STREAM, RunnerError, TIMEOUT_HEADER},
};

use crate::errors::runner_error;

/// Where a table is predicted.
pub(crate) const PREDICT: &str = "/predict";
/// Below which hooks are called.
pub(crate) const HOOKS: &str = "/custom-explain/";

const TIMEOUT: HeaderName = HeaderName::from_static(TIMEOUT_HEADER);

/// A request that can be sent more than once.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn get(path: &str) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn table(path: String, inputs: &RecordBatch) -> Result<Self> {
        Ok(Self {
            method: Method::POST,
            path,
            body: luthier_data::to_ipc(inputs)?.into(),
        })
    }

    pub(crate) fn predict(inputs: &RecordBatch) -> Result<Self> {
        Self::table(PREDICT.to_owned(), inputs)
    }

    /// The hook's name is part of the path, percent-encoded: names such as `Tree Shap` are usual.
    pub(crate) fn hook(name: &str, inputs: &RecordBatch) -> Result<Self> {
        let mut path = HOOKS.to_owned();
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
                path.push(char::from(byte));
            } else {
                path.push_str(&format!("%{byte:02X}"));
            }
        }
        Self::table(path, inputs)
    }

    /// The request as it is sent now, with the time that is left until `deadline`.
    pub(crate) fn request(&self, deadline: Instant) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self
            .path
            .parse()
            .map_err(|e: http::uri::InvalidUri| Error::internal("asking the model", e))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, HeaderValue::from_static("runner"));
        if !self.body.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(ARROW_STREAM));
            let left = deadline.saturating_duration_since(Instant::now());
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            headers.insert(TIMEOUT, HeaderValue::from(left));
        }
        Ok(request)
    }
}

/// The error in an answer that is not a success; `None` when it is one.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> Option<Error> {
    if status.is_success() {
        return None;
    }
    Some(match serde_json::from_slice::<RunnerError>(body) {
        Ok(error) => runner_error(&error),
        Err(e) => Error::new(
            Code::InvalidPrediction,
            format!("the replica answered with status {status} and without an error that is known"),
        )
        .hint("Look at the replica's log; something else answers in the runner's place.")
        .source(e),
    })
}

/// Reads a predict's answer and checks it against the declared outputs and the number of rows.
pub(crate) fn prediction(body: Bytes, outputs: &[String], rows: usize) -> Result<RecordBatch> {
    let batch = luthier_data::from_ipc(body)?;
    let hint = "Let `predict` return a pandas DataFrame with exactly the outputs of the model's \
                spec and one row for each input row.";
    let schema = batch.schema_ref();
    let same = schema.fields().len() == outputs.len()
        && schema
            .fields()
            .iter()
            .zip(outputs)
            .all(|(f, o)| f.name() == o);
    if !same {
        let got: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        return Err(Error::new(
            Code::InvalidPrediction,
            format!(
                "the model returned the columns [{}] where its spec declares [{}]",
                got.join(", "),
                outputs.join(", ")
            ),
        )
        .hint(hint));
    }
    if batch.num_rows() != rows {
        return Err(Error::new(
            Code::InvalidPrediction,
            format!(
                "the model returned {} rows for {rows} rows of input",
                batch.num_rows()
            ),
        )
        .hint(hint));
    }
    Ok(batch)
}

/// Reads a hook's answer.
pub(crate) fn json(body: &[u8]) -> Result<serde_json::Value> {
    serde_json::from_slice(body).map_err(|e| {
        Error::new(Code::InvalidPrediction, "the hook's answer is not JSON")
            .hint("Let the hook return what JSON can express: numbers, text, lists, dicts.")
            .source(e)
    })
}

pub(crate) fn too_large(limit: usize) -> Error {
    Error::new(
        Code::InvalidPrediction,
        format!("the model's answer is larger than {limit} bytes"),
    )
    .hint("Send fewer rows at a time.")
}

pub(crate) fn out_of_time() -> Error {
    Error::new(
        Code::PredictTimeout,
        "the model did not answer before the deadline",
    )
    .hint("Send fewer rows at a time, or give the deployment more CPU or replicas.")
}
