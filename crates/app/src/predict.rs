//! Predict: a table in, a table out, in whatever forms, with the database out of the way.

mod body;

use std::{sync::Arc, time::Instant};

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use luthier_data::{Format, empty_table, read_table, write_table};
use luthier_gateway::{Part, Timings};
use luthier_types::{Code, Error, Result};

use crate::{App, names::ModelRef, serving::Serving, spool::heavy};

/// Rows sent to the model at once, unless the request says otherwise.
pub(crate) const CHUNK: usize = 10_000;
/// Bodies and answers above this are read and written away from the threads that serve.
pub(crate) const HEAVY: usize = 256 * 1024;
/// Rows whose answer counts as heavy.
const HEAVY_ROWS: usize = 4096;
/// Chunks underway at once.
const UNDERWAY: usize = 4;

/// A request for predictions.
#[derive(Clone, Debug)]
pub struct Predict {
    /// The model, where it is named beside the body. Within a JSON body it may be named as well.
    pub model: Option<ModelRef>,
    /// The rows. In JSON they are the field `data` of an object.
    pub body: Bytes,
    /// The form of the body.
    pub format: Format,
    /// The form that the answer shall have.
    pub answer: Format,
    /// Most rows that the model is given at once.
    pub chunk_size: Option<u64>,
}

impl App {
    /// Predicts the rows of a request and appends the answer to `out`: the outputs of each row, in
    /// order; as JSON, an array of objects. Where the time goes is added to `timings`.
    ///
    /// # Errors
    /// `BadRequest` for a malformed body or rows that do not fit the model's inputs, `TooLarge` for
    /// more rows or bytes than are taken at once, `NotFound` for the model, `ModelStarting` or
    /// `ModelUnavailable` saying why it does not serve, and what the model itself fails with.
    pub async fn predict(
        &self,
        request: Predict,
        mut out: Vec<u8>,
        timings: &Timings,
    ) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.deps.settings.predict_timeout;
        let answer_form = request.answer;
        let parsing = timings.start(Part::Parse);
        let model = match (&request.model, request.format) {
            (Some(model), _) => self.model_id(model).await?,
            (None, Format::Json) => body::model(&request.body)?.ok_or_else(unnamed)?,
            (None, _) => return Err(unnamed()),
        };
        let serving = self.serving(model).await?;
        let answering = async {
            let (rows, chunk) = self.rows(&serving, request).await?;
            drop(parsing);
            let answer = self
                .predict_rows(&serving, rows, chunk, deadline, timings)
                .await?;
            let _encoding = timings.start(Part::Encode);
            if answer.num_rows() > HEAVY_ROWS {
                heavy(move || {
                    write_table(&answer, answer_form, &mut out)?;
                    Ok(out)
                })
                .await
            } else {
                write_table(&answer, answer_form, &mut out)?;
                Ok(out)
            }
        };
        serving.metrics.predict.counted(answering).await
    }

    /// The rows as a table of the model's inputs, and how many the model is to be given at once.
    async fn rows(&self, serving: &Arc<Serving>, request: Predict) -> Result<(RecordBatch, usize)> {
        let bounds = self.deps.settings.table_bounds;
        let is_heavy = request.body.len() > HEAVY;
        let serving = Arc::clone(serving);
        let read = move || {
            let Predict {
                body,
                format,
                chunk_size,
                ..
            } = request;
            if format == Format::Json {
                let (rows, within) = body::rows(&body, &serving)?;
                Ok((rows, chunk(chunk_size.or(within))?))
            } else {
                let rows = read_table(body, format, &serving.parser, bounds)?;
                Ok((rows, chunk(chunk_size)?))
            }
        };
        if is_heavy { heavy(read).await } else { read() }
    }

    /// The model's answer to `rows`, asked at most `chunk` at a time.
    pub(crate) async fn predict_rows(
        &self,
        serving: &Serving,
        rows: RecordBatch,
        chunk: usize,
        deadline: Instant,
        timings: &Timings,
    ) -> Result<RecordBatch> {
        if rows.num_rows() == 0 {
            return Ok(empty_table(&serving.outputs()));
        }
        let model = serving.card.id;
        let gateway = &self.deps.gateway;
        gateway.remember(model, &rows);
        let result = if rows.num_rows() <= chunk {
            gateway.predict_timed(model, rows, deadline, timings).await
        } else {
            let starts = (0..rows.num_rows()).step_by(chunk);
            let parts: Result<Vec<RecordBatch>> = stream::iter(starts)
                .map(|start| {
                    let part = rows.slice(start, chunk.min(rows.num_rows() - start));
                    gateway.predict_timed(model, part, deadline, timings)
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

fn unnamed() -> Error {
    Error::new(Code::BadRequest, "the request names no model")
        .hint("Give `model_id`: in the body, if it is JSON, or else in the query string.")
}
