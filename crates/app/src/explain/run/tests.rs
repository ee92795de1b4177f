//! Explanations that are allowed less than they need, of a sum.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arrow_array::{ArrayRef, Float64Array, cast::AsArray as _, types::Float64Type};
use async_trait::async_trait;
use luthier_explain::{Explanation, Method, Problem, Stopped, explain as start};

use super::*;

const REFERENCES: usize = 30;

/// Adds up the columns of a row; answers so many calls.
struct Sum {
    answers: usize,
    calls: AtomicUsize,
}

#[async_trait]
impl Predictor for Sum {
    async fn predict(&self, inputs: RecordBatch, deadline: Instant) -> Result<RecordBatch> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= self.answers {
            sleep_until(deadline.into()).await;
            return Err(Error::new(Code::PredictTimeout, "late"));
        }
        let sum = |row: usize| {
            let columns = inputs.columns().iter();
            columns
                .map(|c| c.as_primitive::<Float64Type>().value(row))
                .sum()
        };
        let sums: Vec<f64> = (0..inputs.num_rows()).map(sum).collect();
        Ok(table(&[("y", sums)]))
    }
}

fn table(columns: &[(&str, Vec<f64>)]) -> RecordBatch {
    let array = |values: &Vec<f64>| Arc::new(Float64Array::from(values.clone())) as ArrayRef;
    let columns = columns.iter().map(|(name, values)| (*name, array(values)));
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Three inputs, so 7 rows for each reference.
fn problem() -> Problem {
    let from = |first: usize| (first..first + REFERENCES).map(|v| v as f64).collect();
    Problem {
        row: table(&[("a", vec![-1.0]), ("b", vec![-2.0]), ("c", vec![-3.0])]),
        reference: table(&[("a", from(0)), ("b", from(10)), ("c", from(20))]),
        outputs: vec!["y".to_owned()],
        method: Method::Shap,
        seed: 1,
    }
}

async fn explained(answers: usize, time: Duration, rows: u64) -> Result<Explanation> {
    let calls = AtomicUsize::new(0);
    let model = Sum { answers, calls };
    let deadline = Instant::now() + time;
    let allowed = Allowance {
        deadline,
        time,
        rows,
    };
    let begin = || start(problem());
    explain(&model, begin, 1, allowed, &Timings::default()).await
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn allowed_enough_it_is_whole() {
    let whole = explained(usize::MAX, LONG, u64::MAX).await.unwrap();
    assert_eq!((whole.stopped, whole.rows_evaluated), (None, 211));
    let just = explained(usize::MAX, LONG, 211).await.unwrap();
    assert_eq!(just, whole);
}

#[tokio::test]
async fn of_fewer_rows_it_tells_what_they_say() {
    let found = explained(usize::MAX, LONG, 77).await.unwrap();
    let of = REFERENCES;
    assert_eq!(found.stopped, Some(Stopped { done: 10, of }));
    assert_eq!(found.rows_evaluated, 77);
    let output = &found.outputs[0];
    let sum: f64 = output.attributions.iter().sum();
    assert!((sum - (output.model_prediction - output.baseline_prediction)).abs() < 1e-9);
    let error = explained(usize::MAX, LONG, 7).await.unwrap_err();
    assert_eq!(error.code(), Code::PredictTimeout);
}

#[tokio::test]
async fn in_time_it_tells_what_is_known_and_the_same_rows_tell_the_same() {
    // The first two batches are answered, and nothing after.
    let found = explained(2, Duration::from_secs(2), u64::MAX)
        .await
        .unwrap();
    let rows = 2 * FIRST_ROWS;
    let (done, of) = ((rows - 1) / 7, REFERENCES);
    assert_eq!(found.stopped, Some(Stopped { done, of }));
    let again = explained(usize::MAX, LONG, rows as u64).await.unwrap();
    assert_eq!(found, again);
    let error = explained(0, Duration::from_millis(100), u64::MAX)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::PredictTimeout);
}

#[test]
fn batches_grow_to_a_second_and_no_further() {
    let mut pace = Pace { rows: FIRST_ROWS };
    pace.answered(64, Duration::from_millis(10));
    assert_eq!(pace.rows, 64 * 16);
    pace.answered(1024, Duration::from_millis(20));
    assert_eq!(pace.rows, MOST_ROWS);
    pace.answered(1024, Duration::from_secs(8));
    assert_eq!(pace.rows, 128);
    pace.answered(1, Duration::from_secs(30));
    assert_eq!(pace.rows, 1);
}
