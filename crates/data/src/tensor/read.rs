//! Tensors in.

use std::{fmt, sync::Arc};

use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array, cast::AsArray as _, types::Float64Type,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType as Arrow, Field};
use luthier_types::{Code, DataType, Error};
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};

use super::{Datatype, Tensor, TensorData};
use crate::{
    Bounds, RowParser,
    cell::Cell,
    cells::Cells,
    rows::lacking,
    schema::named,
    wire::{Budget, fit},
};

/// Turns the tensors of a request into a table of exactly the parser's columns. Tensors go by name;
/// others are ignored. Values are converted as [`RowParser::parse`] converts them.
///
/// # Errors
/// [`Code::BadRequest`] naming the tensors that are missing, that are there twice, whose shape or
/// number of bytes is wrong, or the row (from 0) and the value that does not fit.
/// [`Code::TooLarge`] when they hold more than `bounds`.
pub fn read_tensors(
    tensors: &[Tensor],
    parser: &RowParser,
    bounds: Bounds,
) -> Result<RecordBatch, Error> {
    let chosen = choose(tensors, parser)?;
    let mut rows: Option<(&str, u64)> = None;
    let mut arrays = Vec::with_capacity(chosen.len());
    let mut budget = Budget::new(bounds);
    for (tensor, (_, data_type)) in chosen.into_iter().zip(parser.columns()) {
        let (count, width) = dimensions(tensor, *data_type)?;
        match rows {
            None => {
                budget.rows(count)?;
                rows = Some((&tensor.name, count));
            }
            Some((first, other)) if other != count => {
                return Err(bad(format!(
                    "the input `{}` has {count} rows, and `{first}` has {other}",
                    tensor.name
                ))
                .hint("Send every input with as many rows."));
            }
            Some(_) => {}
        }
        arrays.push(column(tensor, *data_type, count, width, &mut budget)?);
    }
    let (_, rows) = rows.ok_or_else(|| {
        bad(
            "the model has no inputs, so that tensors say nothing of how many rows there are"
                .into(),
        )
        .hint("Send rows to /v3/predict.")
    })?;
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(parser.schema().clone(), arrays, &options)
        .map_err(|e| Error::internal("making a table of tensors", e))
}

/// The tensor of each column, in the parser's order.
fn choose<'t>(tensors: &'t [Tensor], parser: &RowParser) -> Result<Vec<&'t Tensor>, Error> {
    let mut found: Vec<Option<&Tensor>> = vec![None; parser.columns().len()];
    let mut unknown = vec![];
    for tensor in tensors {
        match parser.place(&tensor.name) {
            Some(at) if found[at].is_some() => {
                return Err(bad(format!("the input `{}` is there twice", tensor.name))
                    .hint("Send each input once."));
            }
            Some(at) => found[at] = Some(tensor),
            None => unknown.push(tensor.name.clone()),
        }
    }
    let missing: Vec<&str> = parser
        .columns()
        .iter()
        .zip(&found)
        .filter(|(_, tensor)| tensor.is_none())
        .map(|((name, _), _)| name.as_str())
        .collect();
    if missing.is_empty() {
        Ok(found.into_iter().flatten().collect())
    } else {
        Err(lacking("the request", &missing, &unknown))
    }
}

/// The rows of a tensor, and the elements of each.
fn dimensions(tensor: &Tensor, wanted: DataType) -> Result<(u64, u64), Error> {
    let fits = match (wanted, tensor.shape.as_slice()) {
        (DataType::Vector, [rows, width]) => Some((*rows, *width)),
        (DataType::Vector, _) => None,
        (_, [rows] | [rows, 1]) => Some((*rows, 1)),
        _ => None,
    };
    let fits = fits.filter(|(rows, width)| rows.checked_mul(*width).is_some());
    fits.ok_or_else(|| {
        let right = match wanted {
            DataType::Vector => "[rows, numbers in each]",
            _ => "[rows] or [rows, 1]",
        };
        let shown: Vec<String> = tensor.shape.iter().take(8).map(u64::to_string).collect();
        bad(format!(
            "the input `{}` has the shape [{}], where {right} is needed",
            tensor.name,
            shown.join(", ")
        ))
        .hint("Send one tensor for each of the model's inputs; its metadata lists them.")
    })
}

fn column(
    tensor: &Tensor,
    wanted: DataType,
    rows: u64,
    width: u64,
    budget: &mut Budget,
) -> Result<ArrayRef, Error> {
    // Vectors come as their numbers, one after the other.
    let element = if wanted == DataType::Vector {
        DataType::Float
    } else {
        wanted
    };
    let elements = rows.saturating_mul(width);
    let array = match &tensor.data {
        TensorData::Binary(bytes) => {
            let array = of_bytes(tensor, bytes, elements)?;
            budget.column(&array, element)?;
            fit(&array, &tensor.name, element, 0)?
        }
        TensorData::Json(text) => of_json(tensor, text, element, elements)?,
    };
    if wanted != DataType::Vector {
        return Ok(array);
    }
    budget.unpacked(rows.saturating_mul(4))?;
    let lengths = std::iter::repeat_n(width as usize, rows as usize);
    let items = array.as_primitive::<Float64Type>().clone();
    let field = Arc::new(Field::new("item", Arrow::Float64, true));
    ListArray::try_new(
        field,
        OffsetBuffer::from_lengths(lengths),
        Arc::new(items),
        None,
    )
    .map(|lists| Arc::new(lists) as ArrayRef)
    .map_err(|e| Error::internal("making vectors of a tensor", e))
}

/// The elements of a tensor in binary form.
fn of_bytes(tensor: &Tensor, bytes: &[u8], elements: u64) -> Result<ArrayRef, Error> {
    macro_rules! numbers {
        ($array:ty, $number:ty) => {{
            const WIDTH: usize = size_of::<$number>();
            let (words, rest) = bytes.as_chunks::<WIDTH>();
            if !rest.is_empty() || words.len() as u64 != elements {
                return Err(wrong_length(
                    tensor,
                    elements.saturating_mul(WIDTH as u64),
                    bytes,
                ));
            }
            let values = words.iter().map(|word| <$number>::from_le_bytes(*word));
            Arc::new(<$array>::from_iter_values(values))
        }};
    }
    Ok(match tensor.datatype {
        Datatype::Uint8 => numbers!(UInt8Array, u8),
        Datatype::Uint16 => numbers!(UInt16Array, u16),
        Datatype::Uint32 => numbers!(UInt32Array, u32),
        Datatype::Uint64 => numbers!(UInt64Array, u64),
        Datatype::Int8 => numbers!(Int8Array, i8),
        Datatype::Int16 => numbers!(Int16Array, i16),
        Datatype::Int32 => numbers!(Int32Array, i32),
        Datatype::Int64 => numbers!(Int64Array, i64),
        Datatype::Fp32 => numbers!(Float32Array, f32),
        Datatype::Fp64 => numbers!(Float64Array, f64),
        Datatype::Bool => {
            if bytes.len() as u64 != elements {
                return Err(wrong_length(tensor, elements, bytes));
            }
            Arc::new(
                bytes
                    .iter()
                    .map(|b| Some(*b != 0))
                    .collect::<BooleanArray>(),
            )
        }
        Datatype::Bytes => Arc::new(StringArray::from_iter_values(texts(
            tensor, bytes, elements,
        )?)),
    })
}

/// Texts, each after its length in 4 bytes.
fn texts<'b>(tensor: &Tensor, mut bytes: &'b [u8], elements: u64) -> Result<Vec<&'b str>, Error> {
    let mut texts = vec![];
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((text, rest)) = rest.split_at_checked(length) else {
            break;
        };
        texts.push(std::str::from_utf8(text).map_err(|_| {
            bad(format!(
                "row {}: input `{}` is not UTF-8",
                texts.len(),
                tensor.name
            ))
            .hint("Send text in UTF-8.")
        })?);
        bytes = rest;
    }
    if bytes.is_empty() && texts.len() as u64 == elements {
        return Ok(texts);
    }
    Err(bad(format!(
        "the input `{}` has not the {elements} texts that its shape says",
        tensor.name
    ))
    .hint("Send each text after its length in 4 bytes, little-endian."))
}

fn wrong_length(tensor: &Tensor, needed: u64, bytes: &[u8]) -> Error {
    let cause = format!(
        "the input `{}` has {} bytes, where its shape and the datatype {} make {needed}",
        tensor.name,
        bytes.len(),
        tensor.datatype.name()
    );
    bad(cause).hint("Send as many elements as the shape says.")
}

/// The elements of a tensor in JSON, as a column of the type `wanted`.
fn of_json(
    tensor: &Tensor,
    text: &[u8],
    wanted: DataType,
    elements: u64,
) -> Result<ArrayRef, Error> {
    let mut cells = Cells::new(wanted, 8);
    let mut flat = Flat {
        cells: &mut cells,
        count: 0,
        unfit: None,
    };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Nested(&mut flat, tensor.shape.len()).deserialize(&mut reader);
    let Flat { count, unfit, .. } = flat;
    match (read, unfit) {
        (Ok(()), _) if count == elements => Ok(cells.finish()),
        (Ok(()), _) => Err(bad(format!(
            "the input `{}` has {count} elements, where its shape makes {elements}",
            tensor.name
        ))
        .hint("Send as many elements as the shape says.")),
        (Err(_), Some(shown)) => {
            let width = tensor.shape.get(1).map_or(1, |width| (*width).max(1));
            let (row, name) = (count / width, &tensor.name);
            let needed = named(wanted);
            Err(bad(format!(
                "row {row}: input `{name}` is {shown}, but {needed} is needed"
            ))
            .hint("Send a value of the column's type, or null for a missing one."))
        }
        (Err(e), None) => {
            let cause = format!("the data of the input `{}` is no array: {e}", tensor.name);
            Err(bad(cause).hint("Send a flat array, or one nested like the shape."))
        }
    }
}

/// A column being filled with elements that come one after the other.
struct Flat<'c> {
    cells: &'c mut Cells,
    count: u64,
    unfit: Option<String>,
}

/// Reads an array, or arrays of arrays to this depth.
struct Nested<'f, 'c>(&'f mut Flat<'c>, usize);

/// Reads an element, or an array of them.
struct Element<'f, 'c>(&'f mut Flat<'c>, usize);

impl<'de> DeserializeSeed<'de> for Nested<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items
            .next_element_seed(Element(&mut *self.0, self.1))?
            .is_some()
        {}
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Element<'_, '_> {
    fn put(self, read: impl FnOnce(Cell<'_>) -> Result<(), serde::de::value::Error>) -> bool {
        let Flat {
            cells,
            count,
            unfit,
        } = self.0;
        let fits = read(Cell { cells, unfit }).is_ok();
        *count += u64::from(fits);
        fits
    }
}

/// What did not fit is in `Flat`, and shown from there.
fn unfit<E: serde::de::Error>(fits: bool) -> Result<(), E> {
    if fits {
        Ok(())
    } else {
        Err(E::custom("an element does not fit"))
    }
}

impl<'de> Visitor<'de> for Element<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        unfit(self.put(|cell| cell.visit_unit()))
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        unfit(self.put(|cell| cell.visit_bool(value)))
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        unfit(self.put(|cell| cell.visit_i64(value)))
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        unfit(self.put(|cell| cell.visit_u64(value)))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        unfit(self.put(|cell| cell.visit_f64(value)))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        unfit(self.put(|cell| cell.visit_str(value)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        match self.1.checked_sub(1) {
            Some(left @ 1..) => Nested(self.0, left).visit_seq(items),
            _ => Err(A::Error::custom("it is nested deeper than its shape")),
        }
    }
}

fn bad(cause: String) -> Error {
    Error::new(Code::BadRequest, cause)
}
