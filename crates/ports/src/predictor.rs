//! Something that answers predictions.

use std::time::Instant;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use luthier_types::Result;

/// Answers predictions: the replicas of one deployment, or a fake.
#[async_trait]
pub trait Predictor: Send + Sync {
    /// Predicts a batch.
    ///
    /// **Guarantees:** the result has exactly the declared outputs and as many rows as `inputs`, in
    /// the same order.
    ///
    /// **Cancellation:** the request may still run to its end in the model.
    ///
    /// # Errors
    /// `ModelServeError` (the model raised), `InvalidPrediction`, `ModelUnavailable`,
    /// `PredictTimeout` at `deadline`, `Overloaded`.
    async fn predict(&self, inputs: RecordBatch, deadline: Instant) -> Result<RecordBatch>;
}
