//! The step that writes the wanted revision, and the rows that will try it out.

use std::io::Cursor;

use jiff::Timestamp;
use luthier_data::RecordBatch;
use luthier_jobs::StepContext;
use luthier_store::{
    artifacts,
    deployments::{self, Deployment, Revision},
    failed,
    models::{self, Model},
    rollouts::{self, Rollout},
};
use luthier_types::{
    Cause, DeploymentId, Digest, Error, Limits, ModelId, Phase, Result, RevisionId,
    runner::InputColumn,
};
use sqlx::SqliteConnection;

use super::{DeployPayload, before::Intent, job::Unpacked, layers::Stage, lock::Locked};
use crate::{App, lookup::not_found, references::seed, spool::heavy};

/// Rows of the validation predict.
const VALIDATION_ROWS: usize = 5;
/// Largest blob of validation rows.
const VALIDATION_BYTES: u64 = 256 * 1024 * 1024;

/// Rows of the dataset that a new revision is compared on.
const COMPARISON_ROWS: usize = 200;
/// Largest blob of these.
const COMPARISON_BYTES: u64 = 64 * 1024 * 1024;

impl App {
    /// Writes the revision that the earlier steps made and makes it the wanted one.
    pub(crate) async fn publish(&self, ctx: &StepContext) -> Result<RevisionId> {
        let payload: DeployPayload = ctx.payload()?;
        let unpacked: Unpacked = ctx.need("unpack")?;
        let locked: Locked = ctx.need("lock")?;
        let model = payload.model_id;
        // The job's own id, so that running again makes no second revision.
        let id = RevisionId(ctx.job().0);
        let card = self.model_card(model).await?;
        // Until the revision is stored nothing mentions the blob, and it must not be cleared away.
        let _blobs = self.blobs_in_use.read().await;
        let validation = self.validation_rows(&card, ctx).await?;
        // A first revision has nothing to be compared with.
        let sample = match &unpacked.before.intent {
            Some(_) => self.comparison_rows(&card, ctx).await,
            None => None,
        };
        // An operator may have made room.
        if !self.deps.layout.package(&unpacked.package).exists() {
            self.unpack(&payload.archive, Stage::Do, ctx.job(), ctx.cancelled())
                .await?;
        }
        let now = Timestamp::now();
        let inputs = card.schema.inputs(&card.spec)?;
        let revision = Revision {
            id,
            model_id: model,
            image_uri: locked.image.info.uri.clone(),
            variables: locked.image.variables(),
            image: locked.image.digest,
            rootfs: locked.image.rootfs,
            interpreter: locked.image.interpreter,
            env: locked.lock.id,
            package: unpacked.package,
            runner: self.deps.runner.clone(),
            inputs: inputs
                .iter()
                .map(|c| InputColumn {
                    name: c.name.clone(),
                    data_type: c.data_type,
                })
                .collect(),
            outputs: card.spec.outputs.clone(),
            validation,
            created_at: now,
        };
        let wanted = payload.wanted(unpacked.before.intent.as_ref())?;
        let intent = Intent {
            artifact_type: wanted.artifact_type,
            deployment_type: wanted.deployment_type,
            active: wanted.active,
            replicas: wanted.replicas,
            cpu: wanted.resources.cpu,
            memory: wanted.resources.memory,
            scaling: wanted.scaling,
            wanted_revision: Some(id),
        };
        let mut db = self.deps.store.write().await?;
        // Again, for versions may have been made since it was asked.
        self.check_versions(&mut db, &card, &locked.image.info)
            .await?;
        if deployments::revision(&mut db, id).await?.is_none() {
            deployments::insert_revision(&mut db, &revision).await?;
        }
        let mut rollout = rollout(&revision, &payload);
        rollout.sample = sample;
        rollout.limits = limits(&mut db, &payload).await?;
        rollouts::insert(&mut db, &rollout).await?;
        if wanted.active {
            self.check_capacity(&mut db, model, wanted.most(), wanted.resources)
                .await?;
        }
        match deployments::of_model(&mut db, model).await? {
            Some(d) => intent.store(&mut db, d, now).await?,
            None => {
                let d = Deployment {
                    id: DeploymentId::new(),
                    model_id: model,
                    artifact_type: wanted.artifact_type,
                    deployment_type: wanted.deployment_type,
                    active: wanted.active,
                    replicas: wanted.replicas,
                    resources: wanted.resources,
                    scaling: wanted.scaling,
                    wanted_revision: Some(id),
                    generation: 1,
                    serving_revision: None,
                    observed_generation: 0,
                    phase: Phase::Starting,
                    ready_replicas: 0,
                    target_replicas: None,
                    failure: None,
                    crashes: 0,
                    created_at: now,
                    updated_at: now,
                };
                deployments::insert(&mut db, &d).await?;
            }
        }
        db.commit().await.map_err(failed("publishing a revision"))?;
        self.deps.wake_deployments.notify_one();
        Ok(id)
    }

    /// A model with its project.
    pub(crate) async fn model_card(&self, model: ModelId) -> Result<Model> {
        let mut db = self.deps.store.read().await?;
        models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))
    }

    /// Stores a few rows to try the model with: real ones when it has a dataset.
    async fn validation_rows(&self, card: &Model, ctx: &StepContext) -> Result<Digest> {
        let rows = match self.first_rows(card).await {
            Ok(Some(rows)) if rows.num_rows() > 0 => rows,
            Ok(_) => {
                luthier_data::synthetic_rows(&card.schema.inputs(&card.spec)?, VALIDATION_ROWS)?
            }
            Err(error) => {
                ctx.logger().line(format!(
                    "the first dataset cannot be used to try the model: {error}; made-up rows serve"
                ));
                luthier_data::synthetic_rows(&card.schema.inputs(&card.spec)?, VALIDATION_ROWS)?
            }
        };
        let bytes = luthier_data::to_ipc(&rows)?;
        let blob = self
            .deps
            .blobs
            .put(Box::new(Cursor::new(bytes)), VALIDATION_BYTES)
            .await?;
        Ok(blob.digest)
    }

    async fn first_rows(&self, card: &Model) -> Result<Option<RecordBatch>> {
        self.rows_of_dataset(card, Rows::First(VALIDATION_ROWS))
            .await
    }

    /// Stores rows of the first dataset to compare the revision on with the one that serves; nothing
    /// when there are none, or too large ones.
    async fn comparison_rows(&self, card: &Model, ctx: &StepContext) -> Option<Digest> {
        let stored = async {
            let Some(rows) = self
                .rows_of_dataset(card, Rows::Drawn(COMPARISON_ROWS))
                .await?
            else {
                return Ok(None);
            };
            let bytes = Cursor::new(luthier_data::to_ipc(&rows)?);
            let blob = self
                .deps
                .blobs
                .put(Box::new(bytes), COMPARISON_BYTES)
                .await?;
            Ok::<_, Error>(Some(blob.digest))
        };
        stored.await.unwrap_or_else(|error| {
            ctx.logger().line(format!(
                "the first dataset cannot be used to compare with what serves: {error}"
            ));
            None
        })
    }

    /// Rows of a model's first dataset, if it has one.
    async fn rows_of_dataset(&self, card: &Model, which: Rows) -> Result<Option<RecordBatch>> {
        let mut db = self.deps.store.read().await?;
        let tables = artifacts::tables(&mut db, card.id).await?;
        drop(db);
        let Some(table) = tables.first() else {
            return Ok(None);
        };
        let file = self.spool(&table.digest).await?;
        let (schema, spec) = (card.schema.clone(), card.spec.clone());
        // The same dataset gives the same rows each time.
        let seed = seed(&table.digest);
        heavy(move || {
            let columns = schema.inputs(&spec)?;
            match which {
                Rows::First(n) => luthier_data::head_parquet(file.path(), &columns, n),
                Rows::Drawn(n) => luthier_data::sample_parquet(file.path(), &columns, n, seed),
            }
            .map(Some)
        })
        .await
    }
}

/// Which rows of a dataset.
#[derive(Clone, Copy, Debug)]
enum Rows {
    /// The first so many.
    First(usize),
    /// So many, drawn.
    Drawn(usize),
}

/// How far the revision may differ from what serves: as far as it likes, if a person let it through.
async fn limits(db: &mut SqliteConnection, payload: &DeployPayload) -> Result<Limits> {
    if let Cause::Approval { .. } = payload.cause {
        return Ok(Limits::default());
    }
    match (
        payload.limits,
        deployments::of_model(db, payload.model_id).await?,
    ) {
        (Some(limits), _) => Ok(limits),
        (None, Some(d)) => rollouts::limits(db, d.id).await,
        (None, None) => Ok(Limits::default()),
    }
}

/// The place in the model's history of a revision that is being published.
fn rollout(revision: &Revision, payload: &DeployPayload) -> Rollout {
    Rollout {
        revision: revision.id,
        model: revision.model_id,
        number: 0,
        cause: payload.cause.clone(),
        image_uri: revision.image_uri.clone(),
        env: revision.env.clone(),
        package: revision.package.clone(),
        archive: Some(payload.archive.clone()),
        sample: None,
        limits: Limits::default(),
        comparison: None,
        failure: None,
        served: false,
        created_at: revision.created_at,
    }
}
