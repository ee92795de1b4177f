//! Revisions: what replicas of a model are made of, their history, and the way back.

use luthier_store::{
    deployments::{self, Deployment},
    models::{self, Model},
    rollouts::{self, Rollout},
};
use luthier_types::{Cause, Code, DeploymentParams, Error, Limits, ModelId, Result, RevisionId};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{Sqlite, Transaction};

use crate::{
    App,
    deploy::{DeployPayload, Mode},
    job_view::JobCompact,
    lookup::not_found,
    upkeep::KEPT_REVISIONS,
};

/// The body of a request to go back.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollback {
    /// The number of the revision; without it the last one that served before.
    pub to: Option<i64>,
}

impl App {
    /// A revision of the model with the digests of all its layers: the one asked for, or the one
    /// that serves, or else the one that shall.
    ///
    /// # Errors
    /// `NotFound` when there is no such model or revision, or nothing was deployed yet.
    pub async fn revision(&self, model: ModelId, wanted: Option<RevisionId>) -> Result<Value> {
        let mut db = self.deps.store.read().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let id = match wanted {
            Some(id) => id,
            None => deployments::of_model(&mut db, model)
                .await?
                .and_then(|d| d.serving_revision.or(d.wanted_revision))
                .ok_or_else(|| {
                    Error::new(Code::NotFound, "nothing was deployed for the model yet")
                        .hint("Deploy an artifact first; `luthier jobs` shows how far it is.")
                })?,
        };
        let r = deployments::revision(&mut db, id)
            .await?
            .filter(|r| r.model_id == model)
            .ok_or_else(|| not_found("Revision"))?;
        Ok(json!({
            "id": r.id,
            "model": format!("{}/{}:{}", card.project_name, card.name, card.version),
            "image_uri": r.image_uri,
            "image": r.image,
            "rootfs": r.rootfs,
            "interpreter": r.interpreter,
            "variables": r.variables,
            "env": r.env,
            "runner": r.runner,
            "package": r.package,
            "inputs": r.inputs,
            "outputs": r.outputs,
            "created_at": r.created_at,
        }))
    }

    /// The revisions of a model, newest first: number, what it is made of, what caused it, and what
    /// became of it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn history(&self, model: ModelId) -> Result<Vec<Value>> {
        let mut db = self.deps.store.read().await?;
        models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let deployment = deployments::of_model(&mut db, model).await?;
        let rollouts = rollouts::of_model(&mut db, model).await?;
        Ok(rollouts
            .iter()
            .map(|r| view(r, deployment.as_ref()))
            .collect())
    }

    /// Goes back to an earlier revision: a deploy job with its package, image and versions, whose new
    /// revision must prove itself as any other; if it does not, what served serves on.
    ///
    /// # Errors
    /// `NotFound` for the model or the revision, also when it is not kept any more; `BadRequest` when
    /// there is nothing to go back to, or it is there already; `CapacityExceeded`.
    pub async fn roll_back(&self, model: ModelId, request: Rollback) -> Result<JobCompact> {
        let mut db = self.deps.store.write().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let wanted = deployments::of_model(&mut db, model)
            .await?
            .and_then(|d| d.wanted_revision);
        let history = rollouts::of_model(&mut db, model).await?;
        let current = history.iter().find(|r| Some(r.revision) == wanted);
        let current = current.ok_or_else(|| nowhere(&card, "nothing was deployed for"))?;
        let target = match request.to {
            Some(number) => history.iter().find(|r| r.number == number).ok_or_else(|| {
                Error::new(
                    Code::NotFound,
                    format!("{} has no revision {number}", named(&card)),
                )
                .hint("`luthier history` lists its revisions.")
            })?,
            None => history
                .iter()
                .find(|r| r.number < current.number && r.served && !is_same(r, current))
                .ok_or_else(|| nowhere(&card, "no other revision has served before of"))?,
        };
        if is_same(target, current) {
            return Err(Error::new(
                Code::BadRequest,
                format!(
                    "{} has the package, image and versions of revision {} already",
                    named(&card),
                    target.number
                ),
            )
            .hint("`luthier history` lists the others."));
        }
        let cause = Cause::Rollback { to: target.number };
        self.deploy_again(db, &card, target, cause).await
    }

    /// Lets the newest revision through, which is held: it is deployed again without limits.
    ///
    /// # Errors
    /// `NotFound` for the model; `BadRequest` when its newest revision is not held.
    pub async fn approve(&self, model: ModelId) -> Result<JobCompact> {
        let mut db = self.deps.store.write().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let history = rollouts::of_model(&mut db, model).await?;
        let held = history.first().filter(|r| is_held(r));
        let held = held.ok_or_else(|| nowhere(&card, "no revision is held of"))?;
        let cause = Cause::Approval { of: held.number };
        self.deploy_again(db, &card, held, cause).await
    }

    /// How far new revisions of a model may differ from the one that serves.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn limits(&self, model: ModelId) -> Result<Limits> {
        let mut db = self.deps.store.read().await?;
        let d = deployments::of_model(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model deployment"))?;
        rollouts::limits(&mut db, d.id).await
    }

    /// Sets them, for revisions that are published from now on.
    ///
    /// # Errors
    /// `NotFound`; `BadRequest` for figures that cannot be.
    pub async fn set_limits(&self, model: ModelId, limits: Limits) -> Result<Limits> {
        limits.check()?;
        let mut db = self.deps.store.write().await?;
        let d = deployments::of_model(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model deployment"))?;
        rollouts::set_limits(&mut db, d.id, &limits).await?;
        self.commit(db).await?;
        Ok(limits)
    }

    /// Deploys again what a revision was made of.
    async fn deploy_again(
        &self,
        db: Transaction<'static, Sqlite>,
        card: &Model,
        target: &Rollout,
        cause: Cause,
    ) -> Result<JobCompact> {
        let archive = target.archive.clone().ok_or_else(|| gone(target))?;
        let payload = DeployPayload {
            model_id: card.id,
            file_id: None,
            archive,
            mode: Mode::Update,
            params: DeploymentParams {
                image_uri: Some(target.image_uri.clone()),
                ..DeploymentParams::default()
            },
            keep_active: true,
            lock_of: Some(target.revision),
            cause,
            limits: None,
        };
        self.enqueue_deploy(db, card, payload).await
    }
}

/// Whether replicas of both are made of the same.
fn is_same(one: &Rollout, other: &Rollout) -> bool {
    one.revision == other.revision
        || (&one.package, &one.env, &one.image_uri)
            == (&other.package, &other.env, &other.image_uri)
}

fn is_held(r: &Rollout) -> bool {
    let code = r.failure.as_ref().map(Error::code);
    code == Some(Code::RolloutHeld)
}

fn named(card: &Model) -> String {
    format!("{}/{}:{}", card.project_name, card.name, card.version)
}

fn nowhere(card: &Model, why: &str) -> Error {
    Error::new(Code::BadRequest, format!("{why} {}", named(card)))
        .hint("`luthier history` lists its revisions.")
}

fn gone(rollout: &Rollout) -> Error {
    let (number, hint) = (rollout.number, "Deploy its package anew.");
    let cause = match &rollout.failure {
        Some(failure) => format!(
            "revision {number} failed and was not kept ({})",
            failure.code()
        ),
        None => format!(
            "revision {number} is gone: the last {KEPT_REVISIONS} that came to serve are kept"
        ),
    };
    Error::new(Code::NotFound, cause).hint(hint)
}

/// What became of a revision.
fn outcome(r: &Rollout, deployment: Option<&Deployment>) -> &'static str {
    let wanted = deployment.filter(|d| d.wanted_revision == Some(r.revision));
    match (&r.failure, wanted, r.served) {
        (Some(_), ..) if is_held(r) => "held",
        (Some(_), ..) => "failed",
        (None, Some(_), true) => "current",
        (None, Some(d), false) if d.active => "starting",
        (None, _, true) => "served",
        (None, _, false) => "stored",
    }
}

fn view(r: &Rollout, deployment: Option<&Deployment>) -> Value {
    json!({
        "number": r.number,
        "id": r.revision,
        "image_uri": r.image_uri,
        "environment": r.env,
        "package": r.package,
        "cause": r.cause.to_string(),
        // A revision has the id of the job that made it.
        "job": r.revision.0,
        "created_at": r.created_at,
        "outcome": outcome(r, deployment),
        "failure": r.failure,
        "comparison": r.comparison,
        "kept": r.archive.is_some(),
    })
}
