//! Rows that an explanation compares with, and the row that is explained when it is named by an
//! event.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use luthier_data::{Missing, RecordBatch, RowParser};
use luthier_store::artifacts::{self, Table};
use luthier_types::{Column, DatasetId, Digest, EnvType, Error, Result};
use serde_json::{Map, Value};

use crate::{
    App,
    explain::{bad, request::Source},
    lookup::not_found,
    serving::Serving,
    spool::heavy,
};

/// References kept in memory.
const KEPT: usize = 32;
/// Largest reference that is kept, in cells.
const KEPT_CELLS: usize = 1_000_000;

/// A reference and its digest.
#[derive(Clone)]
pub(crate) struct Reference {
    pub(crate) rows: RecordBatch,
    pub(crate) digest: Digest,
}

/// Samples of datasets by (dataset, inputs, number of rows), the last used last.
#[derive(Default)]
pub(crate) struct Cache(Mutex<VecDeque<(Digest, Reference)>>);

// === impl Cache ===

impl Cache {
    fn get(&self, key: &Digest) -> Option<Reference> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(k, _)| k == key)?;
        let entry = kept.remove(at)?;
        let reference = entry.1.clone();
        kept.push_back(entry);
        Some(reference)
    }

    fn put(&self, key: Digest, reference: &Reference) {
        if reference.rows.num_rows() * reference.rows.num_columns() > KEPT_CELLS {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((key, reference.clone()));
    }
}

impl App {
    /// `samples` rows of a model's inputs: of the named source, else of the model's first dataset.
    /// The same request gives the same rows as long as the source is the same.
    pub(crate) async fn reference(
        &self,
        serving: &Serving,
        source: Option<&Source>,
        samples: usize,
    ) -> Result<Reference> {
        match source {
            Some(Source::Environment {
                env_type: EnvType::Production,
                ..
            }) => self.production_reference(serving, samples).await,
            Some(Source::Environment { env_id, .. }) => {
                let table = self.table(serving, *env_id).await?;
                self.dataset_reference(serving, &table, samples).await
            }
            None => {
                let table = self.first_table(serving).await?;
                self.dataset_reference(serving, &table, samples).await
            }
            Some(Source::Row { .. } | Source::Event { .. }) => Err(bad(
                "ref_data_source is a single row or event, and a reference has many",
                "Use source_type ENVIRONMENT with a dataset of the model.",
            )),
        }
    }

    /// The row a production or pre-production event holds.
    pub(crate) async fn event_row(
        &self,
        serving: &Serving,
        event_id: &str,
        env_type: EnvType,
        env_id: Option<DatasetId>,
    ) -> Result<RecordBatch> {
        let missing = || {
            Error::new(
                luthier_types::Code::NotFound,
                format!("Event not found for the given identifier: {event_id}"),
            )
            .hint("Check the event's id, and that it was published to this model.")
        };
        if env_type == EnvType::Production {
            let mut db = self.deps.store.read().await?;
            let row = artifacts::event(&mut db, serving.card.id, event_id).await?;
            return lenient(serving).maps(&[row.ok_or_else(missing)?]);
        }
        let Some(id_column) = serving.card.event_id_col.clone() else {
            return Err(bad(
                "the model names no column of event ids, so datasets cannot be searched by one",
                "Set event_id_col on the model before publishing, or send the row itself.",
            ));
        };
        let table = self.table(serving, env_id).await?;
        let file = self.spool(&table.digest).await?;
        let inputs = serving.inputs.clone();
        let wanted = event_id.to_owned();
        let found = heavy(move || {
            let id = text_column(&id_column);
            let ids = luthier_data::sample_parquet(file.path(), &[&id], usize::MAX, 0)?;
            let at = luthier_data::batch_to_rows(&ids)
                .iter()
                .position(|row| row.get(&id_column).and_then(Value::as_str) == Some(&wanted));
            let Some(at) = at else { return Ok(None) };
            let columns: Vec<&Column> = inputs.iter().collect();
            let rows = luthier_data::head_parquet(file.path(), &columns, at + 1)?;
            Ok(Some(rows.slice(at, 1)))
        })
        .await?;
        found.ok_or_else(missing)
    }

    pub(crate) async fn dataset_reference(
        &self,
        serving: &Serving,
        table: &Table,
        samples: usize,
    ) -> Result<Reference> {
        let schema: Vec<String> = serving
            .inputs
            .iter()
            .map(|c| format!("{} {:?}", c.name, c.data_type))
            .collect();
        let key = Digest::of_fields([
            table.digest.as_str(),
            &schema.join("\n"),
            &samples.to_string(),
        ]);
        if let Some(reference) = self.references.get(&key) {
            return Ok(reference);
        }
        let file = self.spool(&table.digest).await?;
        let inputs = serving.inputs.clone();
        let seed = seed(&key);
        let reference = heavy(move || {
            let columns: Vec<&Column> = inputs.iter().collect();
            Reference::new(luthier_data::sample_parquet(
                file.path(),
                &columns,
                samples,
                seed,
            )?)
        })
        .await?;
        self.references.put(key, &reference);
        Ok(reference)
    }

    /// Events change, so nothing is kept of them.
    async fn production_reference(&self, serving: &Serving, samples: usize) -> Result<Reference> {
        let model = serving.card.id;
        let mut db = self.deps.store.read().await?;
        let mut numbers = artifacts::event_numbers(&mut db, model).await?;
        if numbers.is_empty() {
            return Err(bad(
                "no production events are published to the model, so there is nothing to compare with",
                "Publish events, or name a dataset in ref_data_source.",
            ));
        }
        if numbers.len() > samples {
            // The order of hashes of (model, number) is as good as chance, and the same each time.
            let order = |n: &i64| Digest::of_fields([model.to_string(), n.to_string()]);
            numbers.sort_by_cached_key(order);
            numbers.truncate(samples);
            numbers.sort_unstable();
        }
        let mut rows: Vec<Map<String, Value>> = Vec::with_capacity(numbers.len());
        for number in numbers {
            rows.extend(artifacts::event_by_number(&mut db, number).await?);
        }
        drop(db);
        let parser = lenient(serving);
        heavy(move || Reference::new(parser.maps(&rows)?)).await
    }

    /// The dataset asked for; without an id, the only one there is.
    pub(crate) async fn table(&self, serving: &Serving, id: Option<DatasetId>) -> Result<Table> {
        let mut db = self.deps.store.read().await?;
        let mut tables = artifacts::tables(&mut db, serving.card.id).await?;
        match id {
            Some(id) => tables
                .into_iter()
                .find(|t| t.id == id)
                .ok_or_else(|| not_found("Environment")),
            None if tables.len() == 1 => Ok(tables.remove(0)),
            None if tables.is_empty() => Err(no_dataset()),
            None => {
                let names: Vec<_> = tables.iter().map(|t| t.name.as_str()).collect();
                Err(bad(
                    &format!(
                        "the model has {} datasets ({}), and the data source names none",
                        tables.len(),
                        names.join(", ")
                    ),
                    "Set env_id (dataset_id in older clients) to one of them.",
                ))
            }
        }
    }

    async fn first_table(&self, serving: &Serving) -> Result<Table> {
        let mut db = self.deps.store.read().await?;
        let tables = artifacts::tables(&mut db, serving.card.id).await?;
        tables.into_iter().next().ok_or_else(no_dataset)
    }
}

// === impl Reference ===

impl Reference {
    /// Takes a while where there are many rows: their digest is made.
    pub(crate) fn new(rows: RecordBatch) -> Result<Self> {
        let digest = Digest::of(luthier_data::to_ipc(&rows)?);
        Ok(Self { rows, digest })
    }
}

/// A seed from a digest: 53 bits, so that a receipt read by JavaScript keeps it exactly.
pub(crate) fn seed(digest: &Digest) -> u64 {
    u64::from_str_radix(&digest.as_str()[..16], 16).unwrap_or(0) >> 11
}

fn no_dataset() -> Error {
    bad(
        "the model has no dataset to compare with",
        "Publish one to the PRE_PRODUCTION environment, or use ZERO_RESET.",
    )
}

/// Events may lack inputs, which then have no value.
fn lenient(serving: &Serving) -> RowParser {
    RowParser::new(&serving.columns(), Missing::Null)
}

fn text_column(name: &str) -> Column {
    Column {
        id: None,
        name: name.to_owned(),
        data_type: luthier_types::DataType::Str,
        min: None,
        max: None,
        categories: None,
        bins: None,
        replace_with_nulls: None,
        n_dimensions: None,
    }
}
