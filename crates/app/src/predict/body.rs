//! The JSON body of a request for predictions, read once: rows go from text straight into columns.

use std::fmt;

use arrow_array::RecordBatch;
use luthier_data::RowTable;
use luthier_types::{Code, Error, ModelId};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::serving::Serving;

/// The model that a body names. Its rows are passed over only where they stand before the name.
///
/// # Errors
/// `BadRequest` when no name was found and the body is malformed.
pub(super) fn model(body: &[u8]) -> Result<Option<ModelId>, Error> {
    let mut named = None;
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = reader.deserialize_map(Name(&mut named));
    match named {
        Some(model) => Ok(Some(model)),
        None => read.map(|()| None).map_err(malformed),
    }
}

/// The rows of a body as a table of the model's inputs, and its `chunk_size`.
///
/// # Errors
/// `BadRequest` for a malformed body, for one that names another model, and for rows that do not
/// fit.
pub(super) fn rows(body: &[u8], serving: &Serving) -> Result<(RecordBatch, Option<u64>), Error> {
    let text = std::str::from_utf8(body).map_err(|e| {
        Error::new(Code::BadRequest, format!("the body is not UTF-8: {e}"))
            .hint("Send JSON in UTF-8.")
    })?;
    let mut table = serving.parser.table();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Body(&mut table)
        .deserialize(&mut reader)
        .and_then(|rest| reader.end().map(|()| rest));
    match read {
        Ok(rest) => rest.beside(table, serving),
        Err(e) => Err(table.refusal().unwrap_or_else(|| malformed(e))),
    }
}

fn malformed(error: serde_json::Error) -> Error {
    let cause = format!("the body is not a predict request: {error}");
    Error::new(Code::BadRequest, cause)
        .hint("Send {\"model_id\": …, \"data\": [{column: value, …}, …]}.")
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    ModelId,
    Data,
    ChunkSize,
    #[serde(other)]
    Other,
}

/// Goes through a body until it has found the model.
struct Name<'n>(&'n mut Option<ModelId>);

/// Reads a body into a table.
struct Body<'t, 'p>(&'t mut RowTable<'p>);

/// What stands in a body beside its rows.
#[derive(Default)]
struct Rest {
    model: Option<ModelId>,
    chunk_size: Option<u64>,
}

impl Rest {
    /// What the body holds besides, when the rows are those of `serving`.
    fn beside(
        self,
        rows: RowTable<'_>,
        serving: &Serving,
    ) -> Result<(RecordBatch, Option<u64>), Error> {
        if self.model.is_some_and(|model| model != serving.card.id) {
            let cause = "the body names another model than the address";
            return Err(
                Error::new(Code::BadRequest, cause).hint("Leave `model_id` out of the body.")
            );
        }
        Ok((rows.finish()?, self.chunk_size))
    }
}

impl<'de> DeserializeSeed<'de> for Body<'_, '_> {
    type Value = Rest;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Rest, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut body: A) -> Result<(), A::Error> {
        while let Some(field) = body.next_key()? {
            if let Field::ModelId = field {
                *self.0 = body.next_value()?;
                if self.0.is_some() {
                    return Err(A::Error::custom("the rest is left unread"));
                }
            } else {
                body.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Body<'_, '_> {
    type Value = Rest;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut body: A) -> Result<Rest, A::Error> {
        let mut rest = Rest::default();
        let mut has_rows = false;
        while let Some(field) = body.next_key()? {
            match field {
                Field::ModelId => rest.model = body.next_value()?,
                Field::ChunkSize => rest.chunk_size = body.next_value()?,
                Field::Data if has_rows => return Err(A::Error::duplicate_field("data")),
                Field::Data => {
                    body.next_value_seed(&mut *self.0)?;
                    has_rows = true;
                }
                Field::Other => {
                    body.next_value::<IgnoredAny>()?;
                }
            }
        }
        if has_rows {
            Ok(rest)
        } else {
            Err(A::Error::missing_field("data"))
        }
    }
}
