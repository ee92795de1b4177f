//! Feature impact and importance: how much the inputs matter over the rows of a dataset.

mod answer;
mod targets;

use std::sync::Arc;

use arrow_array::BooleanArray;
use arrow_select::filter::filter_record_batch;
use luthier_data::batch_to_rows;
use luthier_explain::{GlobalProblem, Loss, Measure, measure};
use luthier_gateway::{Part, Timings};
use luthier_store::artifacts::Table;
use luthier_types::{Column, DatasetId, Digest, EnvType, Error, InputType, ModelId, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use answer::About;

use crate::{
    App,
    explain::{
        Allowance, allowance, bad, check_task,
        request::{MAX_SAMPLES, Source, ci_level, number},
    },
    references::{Reference, seed},
    serving::Serving,
    spool::heavy,
};

/// Rows that are used, and reference rows, unless the request says otherwise.
const NUM_SAMPLES: u64 = 10_000;
/// Draws per input unless the request says otherwise.
const NUM_ITERATIONS: u64 = 10_000;
/// Most that may be asked for.
const MAX_ITERATIONS: u64 = 100_000;

/// The body of a request for impact or importance.
#[derive(Clone, Debug, Deserialize)]
pub struct InfluenceRequest {
    /// The model.
    pub model_id: ModelId,
    /// The rows.
    pub data_source: Value,
    /// How many rows of the same dataset values are drawn from.
    #[serde(default)]
    pub num_refs: Option<u64>,
    /// Most draws per input.
    #[serde(default)]
    pub num_iterations: Option<u64>,
    /// Confidence level of the intervals.
    #[serde(default)]
    pub ci_level: Option<f64>,
    /// The outputs whose change is measured; all when left out.
    #[serde(default)]
    pub output_columns: Option<Vec<String>>,
    /// A dataset to draw values from instead of that of the rows.
    #[serde(default)]
    pub ref_env_id: Option<DatasetId>,
    /// Seconds after which the answer tells what is known by then.
    #[serde(default)]
    pub max_seconds: Option<f64>,
    /// Most rows that the model is asked about.
    #[serde(default)]
    pub max_model_rows: Option<u64>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Influence {
    /// How much predictions change.
    Impact,
    /// How much the loss grows.
    Importance,
}

/// Rows to measure on.
struct Rows {
    table: Table,
    inputs: Reference,
    loss: Option<Loss>,
    /// Rows that were read; those without a usable target are not among `inputs`.
    read: usize,
}

impl App {
    /// Measures the influence of a model's inputs; the answer has the fields of
    /// `POST /v3/analytics/feature-impact` or `…/feature-importance`.
    ///
    /// # Errors
    /// `BadRequest` for anything in the request, `NotSupported` for models and sources that are not
    /// served, and what [`App::explain`] fails with.
    pub async fn influence(
        &self,
        which: Influence,
        request: InfluenceRequest,
        timings: &Arc<Timings>,
    ) -> Result<Value> {
        let longest = self.explain_time();
        let allowed = allowance(request.max_seconds, request.max_model_rows, longest)?;
        let serving = self.serving(request.model_id).await?;
        let measured = self.measure(which, &serving, request, allowed, timings);
        let in_time = allowed.in_time(measured);
        serving.metrics.explain.counted(in_time).await
    }

    async fn measure(
        &self,
        which: Influence,
        serving: &Arc<Serving>,
        request: InfluenceRequest,
        allowed: Allowance,
        timings: &Arc<Timings>,
    ) -> Result<Value> {
        let parsing = timings.start(Part::Parse);
        check_task(serving)?;
        if serving.card.input_type == InputType::Text {
            return Err(Error::new(
                luthier_types::Code::NotSupported,
                "the influence of words in text is not measured yet",
            )
            .hint("Explain single predictions, or ask for models with structured inputs."));
        }
        let asked = Settings::new(&request)?;
        let outputs = asked_outputs(which, serving, request.output_columns)?;
        let source = Source::parse(request.data_source, "data_source")?;
        let (env_id, samples) = asked_rows(source)?;
        let rows = self
            .rows_to_measure(which, serving, env_id, samples)
            .await?;
        let reference = match request.ref_env_id {
            Some(id) => self.table(serving, Some(id)).await?,
            None => rows.table.clone(),
        };
        let reference = self
            .dataset_reference(serving, &reference, asked.num_refs)
            .await?;
        let revision = self.serving_revision(request.model_id).await?;
        let parameters = json!({
            "num_iterations": asked.iterations, "ci_level": asked.ci_level,
        });
        let question = Digest::of_fields([
            which.name(),
            &parameters.to_string(),
            &revision.map(|r| r.to_string()).unwrap_or_default(),
            rows.inputs.digest.as_str(),
            reference.digest.as_str(),
            &outputs.join("\n"),
        ]);
        let problem = GlobalProblem {
            rows: rows.inputs.rows,
            reference: reference.rows.clone(),
            outputs,
            measure: rows
                .loss
                .clone()
                .map_or(Measure::Impact, Measure::Importance),
            iterations: asked.iterations,
            ci_level: asked.ci_level,
            seed: seed(&question),
        };
        drop(parsing);
        let receipt = json!({
            "seed": problem.seed, "method": which.name(), "parameters": parameters,
            "revision": revision, "rows": rows.inputs.digest, "reference": reference.digest,
        });
        let found = self
            .ask_model(serving, || measure(problem), allowed, timings)
            .await?;
        let about = About {
            which,
            serving,
            table: &rows.table,
            num_refs: reference.rows.num_rows(),
            read: rows.read,
            loss: rows.loss.as_ref().map(Loss::name),
            asked,
        };
        Ok(about.answer(&found, receipt))
    }

    /// The rows that a data source names; for importance with their targets.
    async fn rows_to_measure(
        &self,
        which: Influence,
        serving: &Arc<Serving>,
        env_id: Option<DatasetId>,
        samples: usize,
    ) -> Result<Rows> {
        let table = self.table(serving, env_id).await?;
        if which == Influence::Impact {
            let inputs = self.dataset_reference(serving, &table, samples).await?;
            let read = inputs.rows.num_rows();
            return Ok(Rows {
                table,
                inputs,
                loss: None,
                read,
            });
        }
        let target = targets::column(serving)?;
        let file = self.spool(&table.digest).await?;
        let serving = Arc::clone(serving);
        let seed = seed(&table.digest);
        let (inputs, loss, read) = heavy(move || {
            let mut columns: Vec<&Column> = serving.columns();
            columns.push(&target);
            let all = luthier_data::sample_parquet(file.path(), &columns, samples, seed)?;
            let last = all.num_columns() - 1;
            let project = |columns: &[usize]| {
                let failed = |e| Error::internal("taking columns of a dataset", e);
                all.project(columns).map_err(failed)
            };
            let truths: Vec<Value> = batch_to_rows(&project(&[last])?)
                .into_iter()
                .map(|mut row| row.remove(&target.name).unwrap_or_default())
                .collect();
            let (loss, usable) = targets::loss(&serving, &truths)?;
            let inputs = project(&(0..last).collect::<Vec<_>>())?;
            let inputs = filter_record_batch(&inputs, &BooleanArray::from(usable))
                .map_err(|e| Error::internal("taking rows of a dataset", e))?;
            Ok((Reference::new(inputs)?, loss, truths.len()))
        })
        .await?;
        Ok(Rows {
            table,
            inputs,
            loss: Some(loss),
            read,
        })
    }
}

/// The numbers of a request.
#[derive(Clone, Copy)]
struct Settings {
    num_refs: usize,
    iterations: usize,
    ci_level: f64,
}

impl Settings {
    fn new(request: &InfluenceRequest) -> Result<Self> {
        Ok(Self {
            num_refs: number("num_refs", request.num_refs, NUM_SAMPLES, MAX_SAMPLES)?,
            iterations: number(
                "num_iterations",
                request.num_iterations,
                NUM_ITERATIONS,
                MAX_ITERATIONS,
            )?,
            ci_level: ci_level(request.ci_level)?,
        })
    }
}

fn asked_outputs(
    which: Influence,
    serving: &Serving,
    asked: Option<Vec<String>>,
) -> Result<Vec<String>> {
    let all = &serving.card.spec.outputs;
    let Some(asked) = asked.filter(|asked| which == Influence::Impact && !asked.is_empty()) else {
        return Ok(all.clone());
    };
    match asked.iter().find(|output| !all.contains(output)) {
        None => Ok(asked),
        Some(unknown) => Err(bad(
            &format!("the model has no output `{unknown}`"),
            &format!("Its outputs are {}.", all.join(", ")),
        )),
    }
}

/// The dataset and the number of rows that a data source names.
fn asked_rows(source: Source) -> Result<(Option<DatasetId>, usize)> {
    match source {
        Source::Environment {
            env_type: EnvType::Production,
            ..
        } => Err(Error::new(
            luthier_types::Code::NotSupported,
            "influence is not measured on production events yet",
        )
        .hint("Name a dataset in the PRE_PRODUCTION environment.")),
        Source::Environment {
            env_id,
            num_samples,
            ..
        } => {
            let samples = number("num_samples", num_samples, NUM_SAMPLES, MAX_SAMPLES)?;
            Ok((env_id, samples))
        }
        Source::Row { .. } | Source::Event { .. } => Err(bad(
            "data_source is a single row or event, and influence is measured on many",
            "Use source_type ENVIRONMENT with a dataset of the model.",
        )),
    }
}

impl Influence {
    const fn name(self) -> &'static str {
        match self {
            Self::Impact => "FEATURE_IMPACT",
            Self::Importance => "FEATURE_IMPORTANCE",
        }
    }
}
