//! How a new revision differs from the one that serves, found before traffic reaches it.
//!
//! The first replica that proves itself, and one that serves, are asked for the same: rows of the
//! dataset, drawn when the revision was published, and a few of recent requests that the gateway
//! remembers. What comes out is stored for the deployment's job to tell, and held against the limits.
//! That nothing could be compared is told and stops nothing.

mod attributions;
mod figures;

use std::time::Instant;

use arrow_array::RecordBatch;
use luthier_gateway::client;
use luthier_store::{deployments, models, rollouts};
use luthier_types::{
    Code, Comparison, Error, Evidence, LatencyChange, Limits, Result, RevisionId, RunnerAddress,
    runner::InputColumn,
};
use tokio::io::AsyncReadExt as _;

use self::figures::{Decision, percentile};
use super::replica::Life;

/// Most rows that are asked alone, to see how long one takes.
const ALONE: usize = 30;

/// A replica that can be asked.
struct Subject<'a> {
    at: &'a RunnerAddress,
    outputs: &'a [String],
    deadline: Instant,
}

/// The rows to ask for, by where they are from.
struct Sample {
    dataset: Option<RecordBatch>,
    recent: Option<RecordBatch>,
}

// === impl Life ===

impl Life {
    /// Compares the replica's revision with the one that serves, unless that was done; a no-op when
    /// none does.
    ///
    /// # Errors
    /// `RolloutHeld` when it differs too much, or shall be looked at first.
    pub(super) async fn compare(&self, at: &RunnerAddress) -> Result<()> {
        let id = self.revision.id;
        let model = self.revision.model_id;
        let mut db = self.deps.store.read().await?;
        let Some(rollout) = rollouts::get(&mut db, id).await? else {
            return Ok(());
        };
        let deployment = deployments::of_model(&mut db, model).await?;
        let Some(serving) = deployment.and_then(|d| d.serving_revision) else {
            return Ok(());
        };
        if serving == id {
            return Ok(());
        }
        let card = models::get(&mut db, model).await?;
        let old = deployments::revision(&mut db, serving).await?;
        drop(db);
        let found = match (rollout.comparison, old) {
            (Some(found), _) => found,
            (None, Some(old)) => {
                let decision = card.as_ref().map_or(Decision::None, Decision::of);
                let sample = self.sample(rollout.sample.as_ref()).await;
                let found = match self.found(at, &old, sample, decision).await {
                    Ok(found) => found,
                    Err(error) => Comparison::omitted(serving, error.message()),
                };
                tracing::info!(revision = %id, with = %serving, ?found, "revision compared");
                let mut db = self.deps.store.write().await?;
                rollouts::compared(&mut db, id, &found).await?;
                db.commit()
                    .await
                    .map_err(luthier_store::failed("recording a comparison"))?;
                found
            }
            (None, None) => return Ok(()),
        };
        let name = card.map_or_else(String::new, |c| {
            format!("{}/{}:{}", c.project_name, c.name, c.version)
        });
        judge(&found, &rollout.limits, rollout.number, &name)
    }

    /// The rows there are; what cannot be read is as if it were not there.
    async fn sample(&self, stored: Option<&luthier_types::Digest>) -> Sample {
        let recent = self.deps.gateway.recent(self.revision.model_id);
        let inputs = &self.revision.inputs;
        Sample {
            dataset: match stored {
                Some(digest) => self.stored_rows(digest).await.ok(),
                None => None,
            }
            .filter(|rows| rows.num_rows() > 0),
            recent: recent.filter(|rows| has_inputs(rows, inputs)),
        }
    }

    async fn stored_rows(&self, digest: &luthier_types::Digest) -> Result<RecordBatch> {
        let mut bytes = vec![];
        let mut blob = self.deps.blobs.get(digest).await?;
        blob.read_to_end(&mut bytes)
            .await
            .map_err(|e| Error::internal("reading the rows to compare on", e))?;
        luthier_data::from_ipc(bytes.into())
    }

    /// Asks both.
    async fn found(
        &self,
        at: &RunnerAddress,
        old: &deployments::Revision,
        sample: Sample,
        decision: Decision,
    ) -> Result<Comparison> {
        let new = &self.revision;
        let not = |why: &str| Ok(Comparison::omitted(old.id, why));
        if old.inputs != new.inputs {
            return not("the inputs are others");
        }
        if old.outputs != new.outputs {
            return not("the outputs are others");
        }
        let endpoints = self.deps.gateway.endpoints(new.model_id);
        let Some(serving) = endpoints.first() else {
            return not("no replica of the revision that serves answers");
        };
        let deadline = Instant::now() + self.deps.settings.comparison_timeout;
        let subject = |at| Subject {
            at,
            outputs: &new.outputs,
            deadline,
        };
        let both = [subject(&serving.at), subject(at)];
        both_asked(&both, old.id, sample, decision, &new.inputs).await
    }
}

/// Asks both replicas, the one that serves first.
async fn both_asked(
    both: &[Subject<'_>; 2],
    with: RevisionId,
    sample: Sample,
    decision: Decision,
    inputs: &[InputColumn],
) -> Result<Comparison> {
    let rows_of = |rows: &Option<RecordBatch>| rows.as_ref().map_or(0, RecordBatch::num_rows);
    let mut comparison = Comparison::omitted(with, "");
    comparison.omitted.clear();
    comparison.dataset_rows = rows_of(&sample.dataset);
    comparison.recent_rows = rows_of(&sample.recent);
    let tables: Vec<RecordBatch> = [sample.dataset, sample.recent]
        .into_iter()
        .flatten()
        .collect();
    if tables.is_empty() {
        comparison.omitted.push(
            "there are no rows to compare on: the model has no dataset, and no recent requests are \
             remembered"
                .to_owned(),
        );
        return Ok(comparison);
    }
    let mut answers = vec![];
    let mut all = [0.0; 2];
    for table in &tables {
        let (old, old_took) = both[0].predict(table).await?;
        let (new, new_took) = both[1].predict(table).await?;
        all[0] += old_took;
        all[1] += new_took;
        answers.push([old, new]);
    }
    comparison.outputs = figures::outputs(&answers);
    comparison.decisions = figures::decisions(&answers, decision);
    match latency(both, &tables, all).await {
        Ok(latency) => comparison.latency = Some(latency),
        Err(e) => comparison.omitted.push(format!("the time of one row: {e}")),
    }
    let names: Vec<&str> = inputs.iter().map(|c| c.name.as_str()).collect();
    match attributions::change(both, &tables[0], &names).await {
        Ok(change) => comparison.attributions = change,
        Err(e) => comparison
            .omitted
            .push(format!("the contributions of the inputs: {e}")),
    }
    Ok(comparison)
}

/// Asks for rows alone, of both in turn, so that what else the machine does slows both.
async fn latency(
    both: &[Subject<'_>; 2],
    tables: &[RecordBatch],
    all: [f64; 2],
) -> Result<LatencyChange> {
    let rows = tables
        .iter()
        .flat_map(|t| (0..t.num_rows()).map(|row| t.slice(row, 1)));
    let mut took: [Vec<f64>; 2] = [vec![], vec![]];
    for row in rows.cycle().take(ALONE) {
        for (subject, took) in both.iter().zip(&mut took) {
            took.push(subject.predict(&row).await?.1);
        }
    }
    let both = |p: f64| [percentile(&took[0], p), percentile(&took[1], p)];
    Ok(LatencyChange {
        asked: took[0].len(),
        one_p50: both(0.5),
        one_p95: both(0.95),
        all,
    })
}

fn has_inputs(rows: &RecordBatch, inputs: &[InputColumn]) -> bool {
    let schema = rows.schema();
    let names = schema.fields().iter().map(|f| f.name().as_str());
    names.eq(inputs.iter().map(|c| c.name.as_str()))
}

/// Holds a comparison against its limits.
fn judge(found: &Comparison, limits: &Limits, number: i64, model: &str) -> Result<()> {
    let mut reasons = limits.exceeded(found);
    if reasons.is_empty() {
        if !limits.hold {
            return Ok(());
        }
        reasons.push("it was asked that it be looked at first".to_owned());
    }
    Err(Error::new(
        Code::RolloutHeld,
        format!(
            "revision {number} is held, and the one before serves on: {}",
            reasons.join("; ")
        ),
    )
    .hint(format!(
        "Let it through with `luthier approve {model}`, or leave it and deploy another; `luthier \
         history {model}` tells of both."
    ))
    .evidence(Evidence::output(&found.lines().join("\n"))))
}

// === impl Subject ===

impl Subject<'_> {
    /// The answer, and the milliseconds that the model took.
    async fn predict(&self, rows: &RecordBatch) -> Result<(RecordBatch, f64)> {
        let answer = client::predict_timed(self.at, rows, self.outputs, self.deadline);
        let (answer, took) = answer.await?;
        Ok((answer, took.as_secs_f64() * 1e3))
    }
}
