//! Whether requests of a revision may be predicted together, found by trying.
//!
//! The rows that proved the model are predicted again as they were, in the reverse order, and each
//! by itself. Only if all answers are the same, up to rounding, is it safe to let strangers' rows
//! keep each other company. A model that looks at its neighbours in a way that a few rows do not
//! show can decline by itself.

mod compare;

use std::time::Instant;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use luthier_gateway::client;
use luthier_types::{Batching, BatchingVerdict, Code, Error, Result, RunnerAddress};

use self::compare::difference;

/// Tries the model at `at`, which answered `rows` with `together`.
///
/// # Errors
/// `ModelUnavailable` when the replica ended under it.
pub(super) async fn tried(
    at: &RunnerAddress,
    rows: &RecordBatch,
    together: &RecordBatch,
    deadline: Instant,
) -> Result<Batching> {
    if (1..rows.num_rows()).all(|row| rows.slice(row, 1) == rows.slice(0, 1)) {
        return Ok(BatchingVerdict::TooFewRows.into());
    }
    match compared(at, rows, together, deadline).await {
        Err(error) if error.code() == Code::ModelUnavailable => Err(error),
        Err(error) if error.code() == Code::PredictTimeout => Ok(BatchingVerdict::TooSlow.into()),
        Err(error) => Ok(Batching {
            verdict: BatchingVerdict::Failed,
            detail: Some(error.message().to_owned()),
        }),
        Ok(found) => Ok(found),
    }
}

async fn compared(
    at: &RunnerAddress,
    rows: &RecordBatch,
    together: &RecordBatch,
    deadline: Instant,
) -> Result<Batching> {
    let schema = together.schema();
    let outputs: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let predict = async |rows: &RecordBatch| client::predict(at, rows, &outputs, deadline).await;
    let differs = |verdict, detail| Batching {
        verdict,
        detail: Some(detail),
    };

    let again = predict(rows).await?;
    if let Some((row, what)) = difference(together, &again, 0) {
        let detail = format!("row {row}, {what} when it was asked again");
        return Ok(differs(BatchingVerdict::NotDeterministic, detail));
    }
    let backwards = reversed(&predict(&reversed(rows)?).await?)?;
    if let Some((row, what)) = difference(together, &backwards, 0) {
        let detail = format!("row {row}, {what} in another order");
        return Ok(differs(BatchingVerdict::DependsOnNeighbours, detail));
    }
    for row in 0..rows.num_rows() {
        let alone = predict(&rows.slice(row, 1)).await?;
        if let Some((row, what)) = difference(together, &alone, row) {
            let detail = format!("row {row}, {what} alone");
            return Ok(differs(BatchingVerdict::DependsOnNeighbours, detail));
        }
    }
    Ok(BatchingVerdict::Batched.into())
}

fn reversed(table: &RecordBatch) -> Result<RecordBatch> {
    let rows = u32::try_from(table.num_rows()).unwrap_or(u32::MAX);
    let order = UInt32Array::from_iter_values((0..rows).rev());
    take_record_batch(table, &order).map_err(|e| Error::internal("turning rows round", e))
}
