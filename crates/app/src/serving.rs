//! What predicting needs to know of a model, kept in memory so that a prediction costs no look into
//! the database. Whoever makes, changes or deletes a model calls [`App::forget_model`].

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use luthier_data::{Missing, RowParser};
use luthier_store::models::{self, Model};
use luthier_types::{Column, ModelId, Result};

use crate::{App, lookup::not_found, metrics::ModelMetrics, names::ModelName};

/// A model as predicting and explaining see it.
pub(crate) struct Serving {
    /// The model.
    pub(crate) card: Model,
    /// Its inputs, in order.
    pub(crate) inputs: Vec<Column>,
    /// Reads rows of its inputs.
    pub(crate) parser: RowParser,
    /// What is counted of it.
    pub(crate) metrics: Arc<ModelMetrics>,
}

/// Models by id and by name.
#[derive(Default)]
pub(crate) struct Cache(RwLock<Known>);

#[derive(Default)]
struct Known {
    models: HashMap<ModelId, Arc<Serving>>,
    /// Which model a name stands for, of those that were asked for.
    names: HashMap<ModelName, ModelId>,
    /// Keeps what was read before a change from being kept after it.
    changes: u64,
}

impl Cache {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// Drops what is remembered of a model, after it was made, changed or deleted. Any name may
    /// stand for another model then.
    pub fn forget_model(&self, model: ModelId) {
        let mut known = self.serving.write();
        known.models.remove(&model);
        known.names.clear();
        known.changes += 1;
    }

    /// The model as predicting sees it.
    ///
    /// # Errors
    /// `NotFound`; `BadRequest` when its spec does not fit its schema.
    pub(crate) async fn serving(&self, model: ModelId) -> Result<Arc<Serving>> {
        let changes = {
            let known = self.serving.read();
            if let Some(serving) = known.models.get(&model) {
                return Ok(serving.clone());
            }
            known.changes
        };
        let mut db = self.deps.store.read().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let serving = Arc::new(Serving::new(card, self.metrics.of(model))?);
        let mut known = self.serving.write();
        if known.changes == changes {
            known.models.insert(model, serving.clone());
        }
        Ok(serving)
    }

    /// The id of the model of this name.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) async fn named(&self, name: &ModelName) -> Result<ModelId> {
        let changes = {
            let known = self.serving.read();
            if let Some(model) = known.names.get(name) {
                return Ok(*model);
            }
            known.changes
        };
        let model = self.resolve(name).await?.id;
        let mut known = self.serving.write();
        if known.changes == changes {
            known.names.insert(name.clone(), model);
        }
        Ok(model)
    }
}

impl Serving {
    fn new(card: Model, metrics: Arc<ModelMetrics>) -> Result<Self> {
        let inputs = card.schema.inputs(&card.spec)?;
        let parser = RowParser::new(&inputs, Missing::Reject);
        let inputs = inputs.into_iter().cloned().collect();
        Ok(Self {
            card,
            inputs,
            parser,
            metrics,
        })
    }

    /// The inputs, as the table functions want them.
    pub(crate) fn columns(&self) -> Vec<&Column> {
        self.inputs.iter().collect()
    }

    /// The columns of the outputs.
    pub(crate) fn outputs(&self) -> Vec<&Column> {
        let outputs = self.card.spec.outputs.iter();
        outputs
            .filter_map(|name| self.card.schema.column(name))
            .collect()
    }
}
