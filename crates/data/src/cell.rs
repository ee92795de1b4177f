//! One JSON value into a column.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::cells::{Cells, Fit};

/// Reads a value into its column.
pub(crate) struct Cell<'c> {
    pub(crate) cells: &'c mut Cells,
    /// What did not fit, as it is shown, where serde would only carry text.
    pub(crate) unfit: &'c mut Option<String>,
}

impl Cell<'_> {
    fn put<E: Error>(
        self,
        push: impl FnOnce(&mut Cells) -> Fit,
        shown: impl FnOnce() -> String,
    ) -> Result<(), E> {
        let Self { cells, unfit } = self;
        push(cells).map_err(|_| refuse(unfit, shown()))
    }
}

fn refuse<E: Error>(unfit: &mut Option<String>, shown: String) -> E {
    let error = E::custom(&shown);
    *unfit = Some(shown);
    error
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.cells.null();
        Ok(())
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(|cells| cells.bool(value), || value.to_string())
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(|cells| cells.int(value), || value.to_string())
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(|cells| cells.unsigned(value), || value.to_string())
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(|cells| cells.float(value), || value.to_string())
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.put(|cells| cells.text(value), || shown(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut values = vec![];
        if !matches!(self.cells, Cells::Vector(_)) {
            return Err(refuse(self.unfit, "a list".to_owned()));
        }
        let not_numbers = "a list that holds something else than numbers";
        while let Some(item) = items
            .next_element::<Option<f64>>()
            .map_err(|_| refuse::<A::Error>(self.unfit, not_numbers.to_owned()))?
        {
            values.push(item.unwrap_or(f64::NAN));
        }
        self.put(|cells| cells.vector(&values), || "a list".to_owned())
    }
    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(refuse(self.unfit, "an object".to_owned()))
    }
}

/// A text value in quotes, cut to a length that a message bears.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}
