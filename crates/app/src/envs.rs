//! Environments as a store: which there are and who uses them, what is in one, and removing those
//! that nothing uses. (What clients call an environment of data is a dataset: `environments`.)

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use luthier_jobs::{JobKind, NewJob, StepContext};
use luthier_ports::EnvInfo;
use luthier_store::uses::{self, EnvUse};
use luthier_types::{Code, EnvId, Error, JobId, Result};
use serde_json::{Value, json};

use crate::{
    App,
    audit::Change,
    deploy::{Locked, json as step_result, sink, unknown_step},
    job_view::JobCompact,
    lookup::not_found,
    status::{ENVIRONMENT_LABEL, REVISION_LABEL},
};

/// The kind of the job that removes unused environments.
pub const COLLECT: &str = "collect_environments";
const COLLECT_NAME: &str = "Remove unused environments";

/// Runs jobs that remove unused environments.
pub struct CollectJob(Arc<App>);

/// Who uses an environment.
#[derive(Debug, Default)]
struct Users {
    models: Vec<EnvUse>,
    jobs: Vec<JobId>,
    containers: Vec<String>,
}

impl App {
    /// Every environment on this machine, oldest first: size, and who uses it.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn envs(&self) -> Result<Vec<Value>> {
        let mut users = self.users().await?;
        let envs = self.deps.envs.list().await?;
        Ok(envs
            .iter()
            .map(|env| view(env, users.remove(&env.id)))
            .collect())
    }

    /// What is in an environment, as a CycloneDX document. `id` may be the beginning of an id.
    ///
    /// # Errors
    /// `NotFound`; `BadRequest` when several ids begin so.
    pub async fn sbom(&self, id: &str) -> Result<Value> {
        let envs = self.deps.envs.list().await?;
        let mut found = envs
            .into_iter()
            .map(|env| env.id)
            .filter(|env| !id.is_empty() && env.0.as_str().starts_with(id));
        let missing = || not_found("Environment");
        let env = found.next().ok_or_else(missing)?;
        if found.next().is_some() {
            return Err(Error::new(
                Code::BadRequest,
                format!("several environments have ids that begin with {id}"),
            )
            .hint("Give more of the id; `luthier envs` lists them."));
        }
        self.deps.envs.sbom(&env).await?.ok_or_else(missing)
    }

    /// The environments that nothing uses, which a collection would remove.
    ///
    /// # Errors
    /// As [`App::collect_envs`]'s job.
    pub async fn unused_envs(&self) -> Result<Vec<EnvInfo>> {
        let keep = self.keep().await?;
        let envs = self.deps.envs.list().await?;
        Ok(envs.into_iter().filter(|e| !keep.contains(&e.id)).collect())
    }

    /// Starts removing the environments that no revision, no unfinished job and no container uses.
    ///
    /// # Errors
    /// `Internal`.
    pub async fn collect_envs(&self) -> Result<JobCompact> {
        let mut db = self.deps.store.write().await?;
        // Asked again while it runs, the answer is the same job.
        if let Some(job) = self.deps.queue.open(&mut db, COLLECT).await?.first() {
            return Ok(JobCompact::of(job));
        }
        let job = NewJob {
            kind: COLLECT,
            name: COLLECT_NAME.to_owned(),
            payload: json!({}),
            info: json!({}),
            exclusive_key: Some(COLLECT.to_owned()),
        };
        let id = self.deps.queue.enqueue(&mut db, job).await?;
        let change = Change::new("environments.collect").job(id);
        self.audit(&mut db, change).await?;
        self.commit(db).await?;
        self.deps.queue.wake();
        Ok(JobCompact::new(id, COLLECT_NAME))
    }

    /// The environments that are in use.
    async fn keep(&self) -> Result<BTreeSet<EnvId>> {
        Ok(self.users().await?.into_keys().collect())
    }

    /// Who uses which environment.
    async fn users(&self) -> Result<BTreeMap<EnvId, Users>> {
        // Containers first: one that starts after this look is of a revision that is seen below.
        let containers = self.deps.runtime_logs.list().await?;
        let mut users: BTreeMap<EnvId, Users> = BTreeMap::new();
        let mut db = self.deps.store.read().await?;
        for found in uses::environments(&mut db).await? {
            let env = users.entry(found.env.clone()).or_default();
            env.models.push(found);
        }
        for (job, result) in uses::unfinished(&mut db, "lock").await? {
            let locked = serde_json::from_value::<Locked>(result)
                .map_err(|e| Error::internal("reading an unfinished job's lock", e))?;
            users.entry(locked.lock.id).or_default().jobs.push(job);
        }
        drop(db);
        for container in containers {
            let label = container.labels.get(ENVIRONMENT_LABEL);
            match label.and_then(|id| id.parse().ok()) {
                Some(id) => {
                    let env = users.entry(EnvId(id)).or_default();
                    env.containers.push(container.id.to_string());
                }
                None => self.check_known(&container.labels, &container.id.0).await?,
            }
        }
        Ok(users)
    }

    /// Refuses to say what is in use while a replica runs whose environment cannot be told: one
    /// that an older server started, of a model that is deleted.
    async fn check_known(&self, labels: &BTreeMap<String, String>, container: &str) -> Result<()> {
        let revision = labels.get(REVISION_LABEL).and_then(|id| id.parse().ok());
        if revision.is_none() || self.stored_revision(revision).await?.is_some() {
            return Ok(());
        }
        Err(Error::new(
            Code::Conflict,
            format!("it cannot be told which environment the container {container} uses"),
        )
        .hint("It is of a deleted model and about to end; try again then."))
    }
}

// === impl CollectJob ===

impl CollectJob {
    /// The kind, over the use cases.
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

#[async_trait]
impl JobKind for CollectJob {
    fn kind(&self) -> &'static str {
        COLLECT
    }

    fn steps(&self) -> &'static [&'static str] {
        &["collect", "sweep"]
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        match step {
            "collect" => self.collect(ctx).await,
            "sweep" => step_result(&self.0.sweep().await?),
            other => Err(unknown_step(other)),
        }
    }
}

impl CollectJob {
    async fn collect(&self, ctx: &StepContext) -> Result<Value> {
        let app = &self.0;
        // Between the look and the removal no job may come to count on an environment.
        let _alone = app.environments_in_use.write().await;
        let keep = app.keep().await?;
        let collected = app.deps.envs.collect(&keep, &sink(ctx.logger())).await?;
        ctx.logger().line(format!(
            "{} environments removed, {} in use, {} bytes free again",
            collected.environments.len(),
            keep.len(),
            collected.bytes
        ));
        Ok(json!({
            "environments": collected.environments,
            "bytes": collected.bytes,
            "kept": keep.len(),
        }))
    }
}

fn view(env: &EnvInfo, users: Option<Users>) -> Value {
    let users = users.unwrap_or_default();
    let models: Vec<Value> = users.models.iter().map(model).collect();
    json!({
        "id": env.id,
        "built": env.built,
        "python": env.python,
        "packages": env.packages,
        "bytes": env.bytes,
        "alone": env.alone,
        "models": models,
        "jobs": users.jobs,
        "containers": users.containers,
    })
}

fn model(found: &EnvUse) -> Value {
    json!({
        "model_id": found.model_id,
        "project": found.project,
        "model": found.model,
        "version": found.version,
        "revisions": found.revisions,
        "current": found.current,
    })
}
