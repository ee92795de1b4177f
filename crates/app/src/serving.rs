//! What predicting needs to know of a model, kept in memory so that a prediction costs no look into
//! the database. Whoever changes or deletes a model calls [`App::forget_model`].

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use luthier_data::{Missing, RowParser};
use luthier_store::models::{self, Model};
use luthier_types::{Column, ModelId, Result};

use crate::{App, lookup::not_found};

/// A model as predicting and explaining see it.
pub(crate) struct Serving {
    /// The model.
    pub(crate) card: Model,
    /// Its inputs, in order.
    pub(crate) inputs: Vec<Column>,
    /// Reads rows of its inputs.
    pub(crate) parser: RowParser,
}

/// Models by id. `changes` keeps a model that was read before a change from being kept after it.
#[derive(Default)]
pub(crate) struct Cache(RwLock<Known>);

#[derive(Default)]
struct Known {
    models: HashMap<ModelId, Arc<Serving>>,
    changes: u64,
}

impl App {
    /// Drops what is remembered of a model, after it was changed or deleted.
    pub fn forget_model(&self, model: ModelId) {
        let mut known = self
            .serving
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.models.remove(&model);
        known.changes += 1;
    }

    /// The model as predicting sees it.
    ///
    /// # Errors
    /// `NotFound`; `BadRequest` when its spec does not fit its schema.
    pub(crate) async fn serving(&self, model: ModelId) -> Result<Arc<Serving>> {
        let changes = {
            let known = self
                .serving
                .0
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(serving) = known.models.get(&model) {
                return Ok(serving.clone());
            }
            known.changes
        };
        let mut db = self.deps.store.read().await?;
        let card = models::get(&mut db, model)
            .await?
            .ok_or_else(|| not_found("Model"))?;
        let serving = Arc::new(Serving::new(card)?);
        let mut known = self
            .serving
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.changes == changes {
            known.models.insert(model, serving.clone());
        }
        Ok(serving)
    }
}

impl Serving {
    fn new(card: Model) -> Result<Self> {
        let inputs = card.schema.inputs(&card.spec)?;
        let parser = RowParser::new(&inputs, Missing::Reject);
        let inputs = inputs.into_iter().cloned().collect();
        Ok(Self {
            card,
            inputs,
            parser,
        })
    }

    /// The inputs, as the table functions want them.
    pub(crate) fn columns(&self) -> Vec<&Column> {
        self.inputs.iter().collect()
    }
}
