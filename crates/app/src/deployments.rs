//! A model's deployment: reading it, and changing how many replicas it has and what they may use.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_jobs::{JobKind, NewJob, StepContext};
use luthier_store::{
    batching,
    deployments::{self, Deployment},
    failed,
    failures::{self, Failure},
    models::{self, Model},
    outside,
};
use luthier_types::{
    Batching, Code, DeploymentParams, Error, Mebibytes, Millicpu, ModelId, Phase, Resources,
    Result, RunnerAddress, Scaling, sizing::Sizing,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use crate::{
    App,
    deploy::{DEPLOY_NAME, Intent, model_info, settled},
    job_view::JobCompact,
    lookup::not_found,
    models::of_model,
};

/// The kind of the job that changes a deployment.
pub const APPLY: &str = "apply_deployment";

/// A deployment with what clients are shown of its surroundings.
#[derive(Clone, Debug)]
pub struct DeploymentView {
    /// The deployment.
    pub deployment: Deployment,
    /// Its model.
    pub card: Model,
    /// The image of the wanted revision.
    pub image_uri: Option<String>,
    /// The image to use instead, when that one is deprecated.
    pub image_replaced_by: Option<String>,
    /// Whether requests are predicted together; `None` until the model was tried.
    pub batching: Option<Batching>,
    /// Where its runner listens, if an operator keeps it.
    pub runner_address: Option<RunnerAddress>,
    /// What it uses, and what to set; `None` until a replica has loaded.
    pub sizing: Option<Sizing>,
    /// How a replica last failed.
    pub last_failure: Option<Failure>,
}

/// What to change; absent figures stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeploymentChange {
    /// Whether replicas shall run.
    pub active: Option<bool>,
    /// How many.
    pub replicas: Option<u32>,
    /// CPU reservation of each.
    pub cpu: Option<Millicpu>,
    /// Memory limit of each.
    pub memory: Option<Mebibytes>,
    /// The fewest that it may have by itself; null for as many as `replicas`.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<Option<u32>>,
    /// The most; null for as many as `replicas`.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<Option<u32>>,
    /// Seconds without a request after which one with a minimum of 0 stops its replicas.
    pub idle_timeout: Option<u32>,
    /// Requests for each replica above which there are to be more.
    pub target_concurrency: Option<u32>,
}

/// Tells a null from a field that is not there.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// What the job is told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct ApplyPayload {
    model_id: ModelId,
    change: DeploymentChange,
}

/// Runs jobs that change a deployment: `apply` writes the intent, `await_ready` waits for the
/// controller. A change that fails stays: it is what the user wants, and says why it cannot be.
pub struct ApplyJob(Arc<App>);

// === impl DeploymentChange ===

impl DeploymentChange {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// `BadRequest` for a field that cannot be changed, a wrong type or a figure out of range.
    pub fn parse(body: Value) -> Result<Self> {
        let wrong = |cause: String| {
            Error::new(
                Code::BadRequest,
                format!("the deployment cannot be changed so: {cause}"),
            )
            .hint(
                "Only active, replicas, cpu, memory, min_replicas, max_replicas, idle_timeout and \
                 target_concurrency can be changed; for anything else use update_artifact.",
            )
        };
        // A list would be read as the fields in their order.
        if !body.is_object() {
            return Err(wrong("the body is not an object".to_owned()));
        }
        let change: Self = serde_json::from_value(body).map_err(|e| wrong(e.to_string()))?;
        DeploymentParams {
            replicas: change.replicas,
            cpu: change.cpu,
            memory: change.memory,
            ..DeploymentParams::default()
        }
        .check()?;
        Ok(change)
    }

    /// What the change makes of what was wanted.
    ///
    /// # Errors
    /// `BadRequest` when the figures do not fit each other.
    fn apply(&self, mut intent: Intent) -> Result<Intent> {
        let scaling = intent.scaling;
        intent.scaling = Scaling {
            min_replicas: self.min_replicas.unwrap_or(scaling.min_replicas),
            max_replicas: self.max_replicas.unwrap_or(scaling.max_replicas),
            idle_timeout: self.idle_timeout.unwrap_or(scaling.idle_timeout),
            target_concurrency: self
                .target_concurrency
                .unwrap_or(scaling.target_concurrency),
        };
        intent.active = self.active.unwrap_or(intent.active);
        intent.replicas = self.replicas.unwrap_or(intent.replicas);
        intent.cpu = self.cpu.unwrap_or(intent.cpu);
        intent.memory = self.memory.unwrap_or(intent.memory);
        intent.scaling.check(intent.replicas)?;
        Ok(intent)
    }
}

impl App {
    /// The deployment of a model.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn deployment(&self, model: ModelId) -> Result<DeploymentView> {
        let mut db = self.deps.store.read().await?;
        let deployment = deployments::of_model(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model deployment"))?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let revision = match deployment.wanted_revision {
            Some(id) => deployments::revision(&mut db, id).await?,
            None => None,
        };
        let batching = batching_of(&mut db, &deployment).await?;
        let outside = outside::of_model(&mut db, model).await?;
        let sizing = self.sizing_of(&mut db, &deployment).await?;
        let last_failure = failures::latest(&mut db, model, 1).await?.pop();
        Ok(DeploymentView {
            deployment,
            card,
            batching,
            runner_address: outside.map(|o| o.address),
            sizing,
            last_failure,
            image_replaced_by: revision
                .as_ref()
                .and_then(|r| self.replaced_by(&r.image_uri)),
            image_uri: revision.map(|r| r.image_uri),
        })
    }

    /// Changes a deployment, always by a job, even when nothing differs. Gives the deployment as it
    /// will be.
    ///
    /// # Errors
    /// `NotFound`, `BadRequest`, `CapacityExceeded`.
    pub async fn change_deployment(
        &self,
        model: ModelId,
        body: Value,
    ) -> Result<(DeploymentView, JobCompact)> {
        let change = DeploymentChange::parse(body)?;
        let mut view = self.deployment(model).await?;
        let intent = change.apply(Intent::new(&view.deployment))?;
        let mut db = self.deps.store.write().await?;
        if intent.active {
            let most = intent.scaling.most(intent.replicas);
            self.check_capacity(&mut db, model, most, intent.resources())
                .await?;
        }
        let payload = ApplyPayload {
            model_id: model,
            change,
        };
        let id = self
            .deps
            .queue
            .enqueue(
                &mut db,
                NewJob {
                    kind: APPLY,
                    name: DEPLOY_NAME.to_owned(),
                    payload: serde_json::to_value(payload)
                        .map_err(|e| Error::internal("writing a job", e))?,
                    info: model_info(&view.card),
                    exclusive_key: Some(model.to_string()),
                },
            )
            .await?;
        let fields = |d: Intent| {
            json!({
                "active": d.active,
                "replicas": d.replicas,
                "cpu": d.cpu,
                "memory": d.memory,
            })
        };
        let entry = of_model("deployment.change", &view.card)
            .job(id)
            .fields(&fields(Intent::new(&view.deployment)), &fields(intent));
        self.audit(&mut db, entry).await?;
        db.commit()
            .await
            .map_err(failed("enqueueing a change of a deployment"))?;
        self.deps.queue.wake();
        let d = &mut view.deployment;
        d.active = intent.active;
        d.replicas = intent.replicas;
        d.scaling = intent.scaling;
        d.resources = Resources {
            cpu: intent.cpu,
            memory: intent.memory,
        };
        Ok((view, JobCompact::new(id, DEPLOY_NAME)))
    }
}

/// What was found of the revision that serves, or else of the one that shall.
pub(crate) async fn batching_of(
    db: &mut SqliteConnection,
    d: &Deployment,
) -> Result<Option<Batching>> {
    match d.serving_revision.or(d.wanted_revision) {
        Some(revision) => batching::of_revision(db, revision).await,
        None => Ok(None),
    }
}

// === impl ApplyJob ===

impl ApplyJob {
    /// The kind, over the use cases.
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    async fn apply(&self, payload: ApplyPayload) -> Result<()> {
        let app = &self.0;
        let now = Timestamp::now();
        let mut db = app.deps.store.write().await?;
        let d = deployments::of_model(&mut db, payload.model_id)
            .await?
            .ok_or_else(|| not_found("Model deployment"))?;
        let intent = payload.change.apply(Intent::new(&d))?;
        if intent.active {
            let most = intent.scaling.most(intent.replicas);
            app.check_capacity(&mut db, payload.model_id, most, intent.resources())
                .await?;
        }
        if d.phase == Phase::Failed && d.is_settled() && Intent::new(&d) == intent {
            // Asked for again as it is: the controller shall try again.
            let again = Deployment {
                generation: d.generation + 1,
                updated_at: now,
                ..d
            };
            deployments::update_intent(&mut db, &again).await?;
        } else {
            intent.store(&mut db, d, now).await?;
        }
        db.commit().await.map_err(failed("changing a deployment"))?;
        app.deps.wake_deployments.notify_one();
        Ok(())
    }
}

#[async_trait]
impl JobKind for ApplyJob {
    fn kind(&self) -> &'static str {
        APPLY
    }

    fn steps(&self) -> &'static [&'static str] {
        &["apply", "await_ready"]
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        let payload: ApplyPayload = ctx.payload()?;
        match step {
            "apply" => self.apply(payload).await?,
            "await_ready" => {
                settled(&self.0, ctx, payload.model_id).await?;
            }
            other => return Err(crate::deploy::unknown_step(other)),
        }
        Ok(Value::Null)
    }
}
