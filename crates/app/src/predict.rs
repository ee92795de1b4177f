//! Predict: a table in, a table out, in whatever forms, with the database out of the way.

use std::{sync::Arc, time::Instant};

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use luthier_data::{Format, empty_table, read_table, write_table};
use luthier_gateway::{Part, Timings};
use luthier_types::{Code, Error, ModelId, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

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

/// A JSON body. The rows stay text until the model's columns are known.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    model_id: Option<ModelId>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    chunk_size: Option<u64>,
}

/// A request whose model is known.
struct Asked {
    serving: Arc<Serving>,
    rows: Bytes,
    format: Format,
    chunk: usize,
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
        let asked = self.asked(request).await?;
        let serving = Arc::clone(&asked.serving);
        let answering = async {
            let rows = self.rows(&asked).await?;
            drop(parsing);
            let answer = self
                .predict_rows(&asked.serving, rows, asked.chunk, deadline, timings)
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

    /// The model, the text of the rows and the size of chunks that a request has.
    async fn asked(&self, request: Predict) -> Result<Asked> {
        let Predict {
            model,
            body,
            format,
            mut chunk_size,
            ..
        } = request;
        let (model, rows) = if format == Format::Json {
            let json: Body<'_> = serde_json::from_slice(&body).map_err(malformed)?;
            chunk_size = chunk_size.or(json.chunk_size);
            let model = self.one_model(model, json.model_id).await?;
            (model, body.slice_ref(json.data.get().as_bytes()))
        } else {
            (self.one_model(model, None).await?, body)
        };
        Ok(Asked {
            chunk: chunk(chunk_size)?,
            serving: self.serving(model).await?,
            rows,
            format,
        })
    }

    /// The rows as a table of the model's inputs.
    async fn rows(&self, asked: &Asked) -> Result<RecordBatch> {
        let bounds = self.deps.settings.table_bounds;
        let (rows, format) = (asked.rows.clone(), asked.format);
        if rows.len() > HEAVY {
            let serving = Arc::clone(&asked.serving);
            heavy(move || read_table(rows, format, &serving.parser, bounds)).await
        } else {
            read_table(rows, format, &asked.serving.parser, bounds)
        }
    }

    /// The one model that a request names, beside its body or in it.
    async fn one_model(
        &self,
        beside: Option<ModelRef>,
        within: Option<ModelId>,
    ) -> Result<ModelId> {
        let beside = match beside {
            Some(model) => Some(self.model_id(&model).await?),
            None => None,
        };
        match (beside, within) {
            (Some(one), Some(other)) if one != other => Err(Error::new(
                Code::BadRequest,
                "the body names another model than the address",
            )
            .hint("Leave `model_id` out of the body.")),
            (Some(model), _) | (None, Some(model)) => Ok(model),
            (None, None) => Err(Error::new(Code::BadRequest, "the request names no model")
                .hint("Give `model_id`: in the body, if it is JSON, or else in the query string.")),
        }
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

fn malformed(error: serde_json::Error) -> Error {
    Error::new(
        Code::BadRequest,
        format!("the body is not a predict request: {error}"),
    )
    .hint("Send {\"model_id\": …, \"data\": [{column: value, …}, …]}.")
}
