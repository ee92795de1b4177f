//! Why a model does not answer, once the gateway has found no replica of it.
//!
//! What passes by itself is [`Code::ModelStarting`], for which clients wait and ask again; what
//! does not is [`Code::ModelUnavailable`], with the call that mends it.

use luthier_jobs::Job;
use luthier_store::deployments::{self, Deployment};
use luthier_types::{Code, Error, ModelId, Phase, Result};

use crate::{App, deploy::DEPLOY, names::ModelName};

/// A model that has ended so often in a row is not waited for any more: who asks is told why it
/// ends. The deployment controller goes on trying.
const KEEPS_ENDING: u32 = 5;

impl App {
    /// Checks that replicas of the model take requests.
    ///
    /// # Errors
    /// `ModelStarting` or `ModelUnavailable` saying why none does; `NotFound`.
    pub async fn check_serving(&self, name: &ModelName) -> Result<()> {
        let model = self.named(name).await?;
        let stats = self.deps.gateway.stats(model);
        // A model that sleeps answers who asks it.
        if stats.is_some_and(|stats| stats.replicas > 0 || stats.holds) {
            return Ok(());
        }
        let error = Error::new(Code::ModelUnavailable, "no replica of the model serves");
        Err(self.why_unavailable(model, error).await)
    }

    /// Replaces the gateway's "no replica" by the reason that the deployment knows.
    pub(crate) async fn why_unavailable(&self, model: ModelId, error: Error) -> Error {
        let found: Result<_> = async {
            let mut db = self.deps.store.read().await?;
            let deployment = deployments::of_model(&mut db, model).await?;
            let open = self.deps.queue.open(&mut db, &model.to_string()).await?;
            Ok((deployment, open))
        }
        .await;
        match found {
            Err(_) => error,
            Ok((Some(d), _)) if d.wanted_revision.is_some() => of_deployment(&d),
            Ok((_, open)) => without_revision(&open),
        }
    }
}

fn of_deployment(d: &Deployment) -> Error {
    if !d.active {
        return Error::new(
            Code::ModelUnavailable,
            "the model's deployment is not active",
        )
        .hint("Activate it: `luthier activate`, or set `active` of its deployment to true.");
    }
    let observed = d.observed_generation >= d.generation;
    let failure = d.failure.as_ref().filter(|_| observed);
    let reason = failure.map_or("for a reason that was not recorded", Error::message);
    let (code, cause) = if observed && d.phase == Phase::Failed {
        let cause = format!("the model's deployment has failed: {reason}");
        (Code::ModelUnavailable, cause)
    } else if observed && d.crashes >= KEEPS_ENDING {
        let cause = format!(
            "the model does not stay up, its replicas failed {} times in a row: {reason}",
            d.crashes
        );
        (Code::ModelUnavailable, cause)
    } else if failure.is_some() {
        let cause = format!("the model is starting again after a replica failed: {reason}");
        (Code::ModelStarting, cause)
    } else if observed && d.phase == Phase::Ready {
        // Who asked saw it before the controller.
        let cause = "no replica of the model answers; it is started again".to_owned();
        (Code::ModelStarting, cause)
    } else {
        (Code::ModelStarting, "the model is starting".to_owned())
    };
    let next = failure.and_then(Error::next_step);
    let hint = match code {
        Code::ModelStarting => {
            "Try again in a moment; the deployment's job and `luthier ps` tell how far it is."
        }
        _ => next.unwrap_or("Look at its replicas' log."),
    };
    let error = Error::new(code, cause).hint(hint.to_owned());
    match failure {
        Some(failure) => error.evidence(failure.observed().clone()),
        None => error,
    }
}

fn without_revision(open: &[Job]) -> Error {
    match open.iter().find(|job| job.kind == DEPLOY) {
        Some(job) => Error::new(
            Code::ModelStarting,
            format!(
                "the model's first artifact is being deployed by the job {}",
                job.id
            ),
        )
        .hint("Wait for that job to end and try again."),
        None => Error::new(
            Code::ModelUnavailable,
            "the model has no artifact, so it cannot predict",
        )
        .hint("Add one with `add_artifact`."),
    }
}

#[cfg(test)]
mod tests;
