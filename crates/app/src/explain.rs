//! Explain one prediction: the row, the reference and the method of a request, the engine's
//! questions to the model, and the answer as the stock client reads it.

mod answer;
pub(crate) mod request;
pub(crate) mod run;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use luthier_data::RecordBatch;
use luthier_explain::{Method, Problem, explain as start};
use luthier_gateway::{Part, Timings};
use luthier_store::deployments;
use luthier_types::{Code, Digest, Error, ModelId, Result, RevisionId, Task};
use serde_json::Value;

use crate::{
    App,
    references::{Reference, seed},
    serving::Serving,
};
use answer::Receipt;
pub use request::ExplainRequest;
pub(crate) use request::allowance;
use request::{Asked, Source};
pub(crate) use run::Allowance;

/// Longest an explanation may take: under the 100 s after which the stock client hangs up and asks
/// the same again.
const LONGEST: Duration = Duration::from_secs(90);

impl App {
    /// Explains one prediction; the answer has the fields of `POST /v3/explain`. Where the time goes
    /// is added to `timings`.
    ///
    /// # Errors
    /// `BadRequest` for anything in the request, `NotSupported` for methods and sources that are
    /// not served, `NotFound`, `ModelStarting` or `ModelUnavailable`, `PredictTimeout` naming what to
    /// lower when there was time for nothing, and what the model itself fails with.
    pub async fn explain(&self, request: ExplainRequest, timings: &Arc<Timings>) -> Result<Value> {
        let longest = self.explain_time();
        let allowed = allowance(request.max_seconds, request.max_model_rows, longest)?;
        let serving = self.serving(request.model_id).await?;
        let explained = self.explain_by(&serving, request, allowed, timings);
        let in_time = allowed.in_time(explained);
        serving.metrics.explain.counted(in_time).await
    }

    /// The longest that explaining may take.
    pub(crate) fn explain_time(&self) -> Duration {
        self.deps.settings.explain_timeout.min(LONGEST)
    }

    async fn explain_by(
        &self,
        serving: &Serving,
        request: ExplainRequest,
        allowed: Allowance,
        timings: &Arc<Timings>,
    ) -> Result<Value> {
        let deadline = allowed.deadline;
        let parsing = timings.start(Part::Parse);
        check_task(serving)?;
        let asked = Asked::new(&request, serving.card.xai_params.as_ref())?;
        let source = Source::parse(request.input_data_source, "input_data_source")?;
        let reference = request
            .ref_data_source
            .filter(|v| !v.is_null())
            .map(|v| Source::parse(v, "ref_data_source"))
            .transpose()?;
        let row = self.row(serving, source).await?;
        let revision = self.serving_revision(request.model_id).await?;
        drop(parsing);
        let result = match asked {
            Asked::Custom(name) => {
                self.explain_custom(serving, &name, &row, revision, deadline, timings)
                    .await
            }
            Asked::Method(method) => {
                let outputs = self
                    .outputs(serving, &row, request.top_n_class, deadline, timings)
                    .await?;
                let parsing = timings.start(Part::Parse);
                let reference = self.method_reference(serving, &method, reference).await?;
                drop(parsing);
                self.explain_method(
                    serving, method, row, reference, outputs, revision, allowed, timings,
                )
                .await
            }
        };
        match result {
            Err(error) if error.code() == Code::ModelUnavailable => {
                Err(self.why_unavailable(request.model_id, error).await)
            }
            other => other,
        }
    }

    async fn row(&self, serving: &Serving, source: Source) -> Result<RecordBatch> {
        match source {
            Source::Row { row } => serving.parser.maps(&[row]),
            Source::Event {
                event_id,
                env_type,
                env_id,
            } => self.event_row(serving, &event_id, env_type, env_id).await,
            Source::Environment { .. } => Err(bad(
                "input_data_source is a whole environment, and an explanation is of one row",
                "Use source_type ROW or EVENT_ID.",
            )),
        }
    }

    /// The revision traffic reaches; part of the receipt.
    pub(crate) async fn serving_revision(&self, model: ModelId) -> Result<Option<RevisionId>> {
        let mut db = self.deps.store.read().await?;
        let deployment = deployments::of_model(&mut db, model).await?;
        drop(db);
        match deployment {
            Some(d) if d.active => Ok(d.serving_revision),
            // Known before any row is asked: say why at once.
            _ => {
                let error = Error::new(Code::ModelUnavailable, "no replica of the model serves");
                Err(self.why_unavailable(model, error).await)
            }
        }
    }

    /// The outputs to explain: all, or the `top` with the largest predictions of several classes.
    async fn outputs(
        &self,
        serving: &Serving,
        row: &RecordBatch,
        top: Option<u64>,
        deadline: Instant,
        timings: &Timings,
    ) -> Result<Vec<String>> {
        let all = &serving.card.spec.outputs;
        let top = match top {
            Some(0) => {
                return Err(bad("top_n_class is 0", "Give at least 1, or leave it out."));
            }
            Some(n) if serving.card.task == Task::MulticlassClassification => n,
            _ => return Ok(all.clone()),
        };
        let top = usize::try_from(top).unwrap_or(usize::MAX);
        if top >= all.len() {
            return Ok(all.clone());
        }
        let model = serving.card.id;
        let answer = match self
            .deps
            .gateway
            .predict_timed(model, row.clone(), deadline, timings)
            .await
        {
            Err(error) if error.code() == Code::ModelUnavailable => {
                return Err(self.why_unavailable(model, error).await);
            }
            other => other?,
        };
        let rows = luthier_data::batch_to_rows(&answer);
        let value = |output: &String| {
            let cell = rows.first().and_then(|row| row.get(output));
            cell.and_then(Value::as_f64).unwrap_or(f64::NEG_INFINITY)
        };
        let mut ranked: Vec<&String> = all.iter().collect();
        ranked.sort_by(|a, b| value(b).total_cmp(&value(a)));
        ranked.truncate(top);
        Ok(all.iter().filter(|o| ranked.contains(o)).cloned().collect())
    }

    /// The rows `method` compares with; none for one that resets to zero.
    async fn method_reference(
        &self,
        serving: &Serving,
        method: &Method,
        source: Option<Source>,
    ) -> Result<Option<Reference>> {
        if matches!(method, Method::ZeroReset) {
            return Ok(None);
        }
        let samples = request::samples(source.as_ref())?;
        self.reference(serving, source.as_ref(), samples)
            .await
            .map(Some)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "each is one part of the question, and they meet only here"
    )]
    async fn explain_method(
        &self,
        serving: &Serving,
        method: Method,
        row: RecordBatch,
        reference: Option<Reference>,
        outputs: Vec<String>,
        revision: Option<RevisionId>,
        allowed: Allowance,
        timings: &Arc<Timings>,
    ) -> Result<Value> {
        let mut receipt = Receipt {
            seed: 0,
            method: method.name().to_owned(),
            parameters: answer::parameters(&method)?,
            revision,
            row: Digest::of(luthier_data::to_ipc(&row)?),
            reference: reference.as_ref().map(|r| r.digest.clone()),
            model_rows: 0,
        };
        receipt.seed = seed(&receipt.question(&outputs));
        let problem = Problem {
            reference: reference.map_or_else(|| row.slice(0, 0), |r| r.rows),
            row: row.clone(),
            outputs,
            method,
            seed: receipt.seed,
        };
        let explanation = self
            .ask_model(serving, || start(problem), allowed, timings)
            .await?;
        let _encoding = timings.start(Part::Encode);
        receipt.model_rows = explanation.rows_evaluated;
        answer::of_explanation(&explanation, &row, receipt)
    }

    /// What an explanation comes to that `start` begins, asked of the model's replicas.
    pub(crate) async fn ask_model<F: Send + 'static>(
        &self,
        serving: &Serving,
        start: impl FnOnce() -> Result<run::Asking<F>> + Send + 'static,
        allowed: Allowance,
        timings: &Arc<Timings>,
    ) -> Result<F> {
        let (gateway, model) = (&self.deps.gateway, serving.card.id);
        let predictor = gateway.predictor(model, Arc::clone(timings));
        let replicas = gateway.stats(model).map_or(1, |s| s.replicas);
        run::explain(&predictor, start, replicas, allowed, timings).await
    }

    async fn explain_custom(
        &self,
        serving: &Serving,
        name: &str,
        row: &RecordBatch,
        revision: Option<RevisionId>,
        deadline: Instant,
        timings: &Timings,
    ) -> Result<Value> {
        let hook = self
            .deps
            .gateway
            .custom_explain(serving.card.id, name, row, deadline, timings)
            .await?;
        let _encoding = timings.start(Part::Encode);
        let receipt = Receipt {
            seed: 0,
            method: name.to_owned(),
            parameters: Value::Object(serde_json::Map::new()),
            revision,
            row: Digest::of(luthier_data::to_ipc(row)?),
            reference: None,
            model_rows: 1,
        };
        answer::of_hook(name, hook, receipt)
    }
}

/// A refused request.
pub(crate) fn bad(cause: &str, hint: &str) -> Error {
    Error::new(Code::BadRequest, cause.to_owned()).hint(hint.to_owned())
}

pub(crate) fn check_task(serving: &Serving) -> Result<()> {
    let task = match serving.card.task {
        Task::NotSet => "not_set",
        Task::Llm => "llm",
        Task::BinaryClassification
        | Task::MulticlassClassification
        | Task::Regression
        | Task::Ranking => return Ok(()),
    };
    Err(bad(
        &format!("models with the task `{task}` cannot be explained"),
        "Create the model with the task that its outputs stand for, for example regression.",
    ))
}
