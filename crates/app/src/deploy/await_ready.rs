//! The step that waits for the controller to have done what was asked, and the end of a deployment.

use std::time::Duration;

use jiff::Timestamp;
use luthier_jobs::StepContext;
use luthier_store::{
    artifacts,
    deployments::{self, Deployment},
    failed, rollouts,
};
use luthier_types::{
    ArtifactStatus, Code, Comparison, Error, ModelId, Phase, Result, RevisionId, sizing::Sizing,
};
use serde::{Deserialize, Serialize};

use super::{DeployPayload, job::Unpacked};
use crate::App;

/// How often the deployment is looked at.
const POLL: Duration = Duration::from_millis(150);

/// What `await_ready` records.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Awaited {
    /// How the revision differs from the one that served before it.
    pub(crate) comparison: Option<Comparison>,
    /// What the model was seen to use until it was ready; not of one that is not started.
    #[serde(default)]
    pub(crate) sizing: Option<Sizing>,
}

/// Waits until the controller has finished with the latest intent of a model's deployment.
///
/// # Errors
/// The deployment's failure; `DeploymentTimeout`; `NotFound` when the deployment is deleted.
pub(crate) async fn settled(app: &App, ctx: &StepContext, model: ModelId) -> Result<Deployment> {
    let limit = app.deps.settings.deploy_timeout;
    let start = tokio::time::Instant::now();
    let mut told = None;
    loop {
        let mut db = app.deps.store.read().await?;
        let deployment = deployments::of_model(&mut db, model).await?;
        drop(db);
        let Some(d) = deployment else {
            return Err(Error::new(
                Code::NotFound,
                "the model's deployment was deleted meanwhile",
            )
            .hint("Deploy the artifact again."));
        };
        let seen = (d.phase, d.ready_replicas);
        if d.observed_generation >= d.generation && told != Some(seen) {
            told = Some(seen);
            let target = d.target_replicas.unwrap_or(d.replicas);
            ctx.logger()
                .line(format!("{} of {target} replicas ready", d.ready_replicas));
            ctx.progress(f64::from(d.ready_replicas) / f64::from(target.max(1)) * 0.9);
        }
        if d.is_settled() {
            return match d.phase {
                Phase::Failed => Err(enriched(d.failure.unwrap_or_else(|| {
                    Error::new(
                        Code::ModelServeError,
                        "the model did not become ready, for a reason that was not recorded",
                    )
                    .hint("Look at the replicas' log.")
                }))),
                Phase::Starting | Phase::Ready | Phase::Stopped | Phase::Idle => Ok(d),
            };
        }
        if start.elapsed() >= limit {
            return Err(Error::new(
                Code::DeploymentTimeout,
                format!(
                    "the deployment was not ready after {} s: {} of {} replicas answer",
                    limit.as_secs(),
                    d.ready_replicas,
                    d.target_replicas.unwrap_or(d.replicas)
                ),
            )
            .hint("Look at the replicas' log; more cpu makes loading faster."));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Names the requirement that brings a missing module.
fn enriched(error: Error) -> Error {
    let module = error
        .message()
        .split_once("needs the module `")
        .and_then(|(_, rest)| rest.split_once('`'))
        .map(|(module, _)| module.to_owned());
    match module {
        Some(module) => {
            let requirement = luthier_inspect::suggest_requirement(&module);
            error.hint(format!(
                "Add `{requirement}` to requirements.txt and deploy again."
            ))
        }
        None => error,
    }
}

impl App {
    /// Waits for the published revision and makes its archive the model's artifact; gives how
    /// it compares and what the model was seen to use.
    pub(crate) async fn await_ready(&self, ctx: &StepContext) -> Result<Awaited> {
        let payload: DeployPayload = ctx.payload()?;
        let unpacked: Unpacked = ctx.need("unpack")?;
        let settled = settled(self, ctx, payload.model_id).await;
        let comparison = self.comparison(RevisionId(ctx.job().0)).await?;
        for line in comparison.iter().flat_map(Comparison::lines) {
            ctx.logger().line(line);
        }
        let deployment = settled?;
        let files = self.package_files(&unpacked.package).await?;
        let mut db = self.deps.store.write().await?;
        artifacts::set(
            &mut db,
            payload.model_id,
            Some(&payload.archive),
            ArtifactStatus::UserUploaded,
            &files,
            Timestamp::now(),
        )
        .await?;
        db.commit()
            .await
            .map_err(failed("finishing a deployment"))?;
        let sizing = self
            .sizing_of(&mut *self.deps.store.read().await?, &deployment)
            .await?;
        if let Some(sizing) = &sizing {
            ctx.logger()
                .line(format!("memory: {}", sizing.memory.reason));
        }
        self.forget_model(payload.model_id);
        Ok(Awaited { comparison, sizing })
    }

    /// How a revision differs from the one that served before it, if that was found out.
    async fn comparison(&self, revision: RevisionId) -> Result<Option<Comparison>> {
        let mut db = self.deps.store.read().await?;
        let rollout = rollouts::get(&mut db, revision).await?;
        Ok(rollout.and_then(|r| r.comparison))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_module_names_its_requirement() {
        let error = Error::new(
            Code::InvalidPackage,
            "the package needs the module `sklearn.linear_model`, which is not installed",
        );
        assert_eq!(
            enriched(error).next_step(),
            Some("Add `scikit-learn` to requirements.txt and deploy again.")
        );
    }

    #[test]
    fn other_failures_stay_as_they_are() {
        let error = Error::new(Code::ModelServeError, "needs the module").hint("Wait.");
        assert_eq!(enriched(error).next_step(), Some("Wait."));
    }
}
