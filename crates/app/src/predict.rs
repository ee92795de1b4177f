//! Predict: JSON rows in, JSON rows out, with the database out of the way.

use std::time::Instant;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use luthier_types::{Code, Error, ModelId, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{App, spool::heavy};

/// Rows sent to the model at once, unless the request says otherwise.
const CHUNK: usize = 10_000;
/// Bodies and answers above this are read and written away from the threads that serve.
const HEAVY: usize = 256 * 1024;
/// Rows whose answer counts as heavy.
const HEAVY_ROWS: usize = 4096;
/// Chunks underway at once.
const UNDERWAY: usize = 4;

/// The body of a predict request. The rows stay text until the model's columns are known.
#[derive(Deserialize)]
struct Body<'a> {
    model_id: ModelId,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    chunk_size: Option<u64>,
}

impl App {
    /// Predicts the rows of a request's `body` and appends the answer to `out`, as a JSON array
    /// with one object per row, in order.
    ///
    /// # Errors
    /// `BadRequest` for a malformed body or a row that lacks an input, `NotFound` for the model,
    /// `ModelStarting` or `ModelUnavailable` saying why it does not serve, and what the model itself
    /// fails with.
    pub async fn predict(&self, body: Bytes, mut out: Vec<u8>) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.deps.settings.predict_timeout;
        let (model, rows, chunk) = {
            let body: Body<'_> = serde_json::from_slice(&body).map_err(malformed)?;
            let serving = self.serving(body.model_id).await?;
            let rows = if body.data.get().len() > HEAVY {
                let text = body.data.to_owned();
                heavy(move || serving.parser.parse(text.get())).await?
            } else {
                serving.parser.parse(body.data.get())?
            };
            (body.model_id, rows, chunk(body.chunk_size)?)
        };
        if rows.num_rows() == 0 {
            out.extend_from_slice(b"[]");
            return Ok(out);
        }
        let answer = self.predict_rows(model, rows, chunk, deadline).await?;
        if answer.num_rows() > HEAVY_ROWS {
            heavy(move || {
                luthier_data::write_json_rows(&answer, &mut out);
                Ok(out)
            })
            .await
        } else {
            luthier_data::write_json_rows(&answer, &mut out);
            Ok(out)
        }
    }

    async fn predict_rows(
        &self,
        model: ModelId,
        rows: RecordBatch,
        chunk: usize,
        deadline: Instant,
    ) -> Result<RecordBatch> {
        let gateway = &self.deps.gateway;
        let result = if rows.num_rows() <= chunk {
            gateway.predict(model, rows, deadline).await
        } else {
            let starts = (0..rows.num_rows()).step_by(chunk);
            let parts: Result<Vec<RecordBatch>> = stream::iter(starts)
                .map(|start| {
                    let part = rows.slice(start, chunk.min(rows.num_rows() - start));
                    gateway.predict(model, part, deadline)
                })
                .buffered(UNDERWAY)
                .try_collect()
                .await;
            parts.and_then(|parts| {
                let schema = parts[0].schema();
                concat_batches(&schema, &parts).map_err(|e| {
                    Error::new(
                        Code::InvalidPrediction,
                        "the model's answers to parts of the request have different types",
                    )
                    .hint(
                        "Let `predict` return the same type for an output whatever rows it \
                           is given, or send a larger chunk_size.",
                    )
                    .source(e)
                })
            })
        };
        match result {
            Err(error) if error.code() == Code::ModelUnavailable => {
                Err(self.why_unavailable(model, error).await)
            }
            other => other,
        }
    }
}

fn chunk(asked: Option<u64>) -> Result<usize> {
    match asked {
        None => Ok(CHUNK),
        Some(0) => Err(Error::new(Code::BadRequest, "chunk_size is 0")
            .hint(format!("Give at least 1, or leave it out for {CHUNK}."))),
        Some(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
    }
}

fn malformed(error: serde_json::Error) -> Error {
    Error::new(
        Code::BadRequest,
        format!("the body is not a predict request: {error}"),
    )
    .hint("Send {\"model_id\": …, \"data\": [{column: value, …}, …]}.")
}
