//! Predict with tensors, as the Open Inference Protocol has it: one for each column.

use std::{sync::Arc, time::Instant};

use luthier_data::{
    RecordBatch,
    tensor::{Tensor, TensorData, read_tensors},
};
use luthier_gateway::{Part, Timings};
use luthier_store::models::Model;
use luthier_types::{Code, Column, Error, Result};

use crate::{
    App,
    names::ModelName,
    predict::{CHUNK, HEAVY},
    serving::Serving,
    spool::heavy,
};

/// What a model answered to tensors.
pub struct Inferred {
    serving: Arc<Serving>,
    /// The outputs of each row, in order.
    pub table: RecordBatch,
}

impl Inferred {
    /// The model that answered.
    pub fn model(&self) -> &Model {
        &self.serving.card
    }

    /// The columns of the table as the model's schema has them.
    pub fn outputs(&self) -> Vec<&Column> {
        self.serving.outputs()
    }
}

impl App {
    /// Predicts the rows that `tensors` make together. All outputs are given; `wanted` are those
    /// that the caller will look for.
    ///
    /// # Errors
    /// As [`App::predict`]; `BadRequest` when the model has not what is wanted.
    pub async fn infer(
        &self,
        model: &ModelName,
        tensors: Vec<Tensor>,
        wanted: &[&str],
        timings: &Timings,
    ) -> Result<Inferred> {
        let deadline = Instant::now() + self.deps.settings.predict_timeout;
        let parsing = timings.start(Part::Parse);
        let serving = self.serving(self.named(model).await?).await?;
        drop(parsing);
        let metrics = Arc::clone(&serving.metrics);
        let inferring = self.infer_by(serving, tensors, wanted, deadline, timings);
        metrics.predict.counted(inferring).await
    }

    async fn infer_by(
        &self,
        serving: Arc<Serving>,
        tensors: Vec<Tensor>,
        wanted: &[&str],
        deadline: Instant,
        timings: &Timings,
    ) -> Result<Inferred> {
        let parsing = timings.start(Part::Parse);
        let has = |output: &&str| serving.card.spec.outputs.iter().any(|o| o == output);
        if let Some(unknown) = wanted.iter().find(|output| !has(output)) {
            let cause = format!("the model has no output `{unknown}`");
            let outputs = serving.card.spec.outputs.join(", ");
            return Err(Error::new(Code::BadRequest, cause).hint(format!("It has {outputs}.")));
        }
        let bounds = self.deps.settings.table_bounds;
        let size = |tensor: &Tensor| match &tensor.data {
            TensorData::Json(text) => text.len(),
            TensorData::Binary(bytes) => bytes.len(),
        };
        let rows = if tensors.iter().map(size).sum::<usize>() > HEAVY {
            let serving = Arc::clone(&serving);
            heavy(move || read_tensors(&tensors, &serving.parser, bounds)).await?
        } else {
            read_tensors(&tensors, &serving.parser, bounds)?
        };
        drop(parsing);
        let table = self
            .predict_rows(&serving, rows, CHUNK, deadline, timings)
            .await?;
        Ok(Inferred { serving, table })
    }
}
