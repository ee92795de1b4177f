//! MANUAL deployments whose runner an operator keeps: setting its address.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_jobs::{JobKind, NewJob, StepContext};
use luthier_store::{
    deployments::{self, Deployment},
    models,
    outside::{self, Outside},
};
use luthier_types::{Code, DeploymentType, Error, ModelId, OutsideId, Result, RunnerAddress};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::SqliteConnection;

use crate::{
    App,
    deploy::{DEPLOY_NAME, json, model_info, settled, unknown_step},
    job_view::JobCompact,
    lookup::not_found,
};

/// The kind of the job that sets a runner's address.
pub const SET_RUNNER: &str = "set_runner_address";

/// The body of a request to set a runner's address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetAddress {
    /// `http://host:port` or `unix:/path`; `null` lets the server start containers again.
    pub address: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payload {
    model_id: ModelId,
    address: Option<RunnerAddress>,
}

/// What stood before.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Before {
    outside: Option<Outside>,
}

/// Runs jobs that set a runner's address: `before` remembers the old, `apply` writes the intent,
/// `await_ready` waits for the controller to have found the runner good. If it is not, the old
/// address stands again, and what served serves on.
pub struct SetRunnerJob(Arc<App>);

impl App {
    /// Sets where the runner of a MANUAL deployment listens that an operator keeps, or that there is
    /// none.
    ///
    /// # Errors
    /// `NotFound`; `BadRequest` for an address that is none, or a deployment that is not MANUAL.
    pub async fn set_runner(&self, model: ModelId, request: SetAddress) -> Result<JobCompact> {
        let address = request.address.as_deref().map(str::parse).transpose()?;
        let mut db = self.deps.store.write().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        manual(&mut db, model).await?;
        let payload = Payload {
            model_id: model,
            address,
        };
        let job = NewJob {
            kind: SET_RUNNER,
            name: DEPLOY_NAME.to_owned(),
            payload: json(&payload)?,
            info: model_info(&card),
            exclusive_key: Some(model.to_string()),
        };
        let id = self.deps.queue.enqueue(&mut db, job).await?;
        self.commit(db).await?;
        self.deps.queue.wake();
        Ok(JobCompact::new(id, DEPLOY_NAME))
    }

    /// Writes who the runner is, unless that is so already.
    async fn write_runner(&self, model: ModelId, outside: Option<&Outside>) -> Result<()> {
        let mut db = self.deps.store.write().await?;
        let d = manual(&mut db, model).await?;
        if outside::of_model(&mut db, model).await?.as_ref() == outside {
            return Ok(());
        }
        outside::set(&mut db, d.id, outside).await?;
        if d.active {
            // Without one, the server's own containers take its place.
            self.check_capacity(&mut db, model, d.scaling.most(d.replicas), d.resources)
                .await?;
        }
        let d = Deployment {
            generation: d.generation + 1,
            updated_at: Timestamp::now(),
            ..d
        };
        deployments::update_intent(&mut db, &d).await?;
        self.commit(db).await?;
        self.deps.wake_deployments.notify_one();
        Ok(())
    }
}

/// The model's deployment, if it is MANUAL.
async fn manual(db: &mut SqliteConnection, model: ModelId) -> Result<Deployment> {
    let d = deployments::of_model(db, model)
        .await?
        .ok_or_else(|| not_found("Model deployment"))?;
    if d.deployment_type == DeploymentType::Manual {
        return Ok(d);
    }
    Err(Error::new(
        Code::BadRequest,
        "the server starts this deployment's containers itself, so it has no runner elsewhere",
    )
    .hint("Deploy the artifact with deployment_type MANUAL first."))
}

// === impl SetRunnerJob ===

impl SetRunnerJob {
    /// The kind, over the use cases.
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    async fn before(&self, model: ModelId) -> Result<Before> {
        let mut db = self.0.deps.store.read().await?;
        let outside = outside::of_model(&mut db, model).await?;
        Ok(Before { outside })
    }
}

#[async_trait]
impl JobKind for SetRunnerJob {
    fn kind(&self) -> &'static str {
        SET_RUNNER
    }

    fn steps(&self) -> &'static [&'static str] {
        &["before", "apply", "await_ready"]
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        let payload: Payload = ctx.payload()?;
        let model = payload.model_id;
        match step {
            "before" => return json(&self.before(model).await?),
            "apply" => {
                // The job's own id, so that running again makes no other.
                let id = OutsideId(ctx.job().0);
                let outside = payload.address.map(|address| Outside { id, address });
                self.0.write_runner(model, outside.as_ref()).await?;
            }
            "await_ready" => drop(settled(&self.0, ctx, model).await?),
            other => return Err(unknown_step(other)),
        }
        Ok(Value::Null)
    }

    async fn failed(&self, ctx: &StepContext, _error: &Error) -> Result<()> {
        let Some(before) = ctx.result::<Before>("before")? else {
            return Ok(());
        };
        let model = ctx.payload::<Payload>()?.model_id;
        match self.0.write_runner(model, before.outside.as_ref()).await {
            // Deleted meanwhile, or deployed otherwise, which cannot be while this job runs.
            Err(e) if matches!(e.code(), Code::NotFound | Code::BadRequest) => Ok(()),
            done => done,
        }
    }
}
