//! What the inputs contribute to a few predictions, with both revisions.

use arrow_array::RecordBatch;
use luthier_explain::{Explanation, Method, Problem, explain};
use luthier_types::{AttributionChange, Result};

use super::Subject;

/// Rows that are explained.
const ROWS: usize = 3;
/// Rows that each is compared with.
const REFERENCES: usize = 20;
/// Coalitions of each game; small ones are solved exactly.
const COALITIONS: usize = 128;
/// The same for both, so that what is drawn does not differ.
const SEED: u64 = 0x006c_7574_6869_6572;
/// Rows asked at once: few, for the one that serves has others to answer.
const BATCH: usize = 256;
/// Inputs that are named.
const MOST: usize = 3;

/// How the contributions differ; `None` when there are too few rows to compare with.
pub(super) async fn change(
    both: &[Subject<'_>; 2],
    rows: &RecordBatch,
    inputs: &[&str],
) -> Result<Option<AttributionChange>> {
    let explained = ROWS.min(rows.num_rows() / 2);
    if explained == 0 {
        return Ok(None);
    }
    let rest = rows.num_rows() - explained;
    let reference = rows.slice(explained, rest.min(REFERENCES));
    let mut sums = vec![0.0; inputs.len()];
    let (mut count, mut max) = (0_usize, 0.0_f64);
    for row in 0..explained {
        let row = rows.slice(row, 1);
        let old = explained_by(&both[0], &row, &reference).await?;
        let new = explained_by(&both[1], &row, &reference).await?;
        for (old, new) in old.outputs.iter().zip(&new.outputs) {
            count += 1;
            let pairs = old.attributions.iter().zip(&new.attributions);
            for (sum, (old, new)) in sums.iter_mut().zip(pairs) {
                *sum += (old - new).abs();
                max = max.max((old - new).abs());
            }
        }
    }
    let count = count.max(1) as f64;
    let mut most: Vec<(String, f64)> = inputs
        .iter()
        .zip(&sums)
        .map(|(name, sum)| ((*name).to_owned(), sum / count))
        .collect();
    let mean = most.iter().map(|(_, x)| x).sum::<f64>() / most.len().max(1) as f64;
    most.sort_by(|a, b| b.1.total_cmp(&a.1));
    most.truncate(MOST);
    Ok(Some(AttributionChange {
        rows: explained,
        mean,
        max,
        most,
    }))
}

async fn explained_by(
    subject: &Subject<'_>,
    row: &RecordBatch,
    reference: &RecordBatch,
) -> Result<Explanation> {
    let mut machine = explain(Problem {
        row: row.clone(),
        reference: reference.clone(),
        outputs: subject.outputs.to_vec(),
        method: Method::FiddlerShap {
            num_permutations: COALITIONS,
            ci_level: 0.0,
        },
        seed: SEED,
    })?;
    while let Some(batch) = machine.next_batch(BATCH)? {
        let (answer, _) = subject.predict(&batch).await?;
        machine.tell(&answer)?;
    }
    machine.finish()
}
