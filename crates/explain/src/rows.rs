//! The rows a model is asked about: every value comes from the explained row or from a reference
//! row, so a batch is taken by index from the two put one below the other, whatever the types.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, ArrowNativeTypeOp, PrimitiveArray, RecordBatch, RecordBatchOptions,
    UInt32Array, cast::AsArray, downcast_dictionary_array, downcast_primitive_array,
    types::ArrowPrimitiveType,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use arrow_select::{concat::concat, take::take};
use luthier_types::Error;

/// The source number of the explained row; reference row k (from 0) has number k + 1.
pub(crate) const EXPLAINED: u32 = 0;

/// The explained row and the reference.
pub(crate) struct Rows {
    schema: SchemaRef,
    /// Per feature: the explained row's value, then the reference's.
    columns: Vec<ArrayRef>,
    /// Per feature and source: the first source with the same value.
    classes: Vec<Vec<u32>>,
    sources: u32,
}

/// A reference row that differs from all before it, and how often it occurs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reference {
    pub(crate) source: u32,
    pub(crate) times: f64,
}

impl Rows {
    /// `row` has one row, `reference` the same columns and any number of rows. Where `row` has
    /// several, these are the first sources and none of them is [`EXPLAINED`].
    pub(crate) fn new(row: &RecordBatch, reference: &RecordBatch) -> Result<Self, Error> {
        let columns = row
            .columns()
            .iter()
            .zip(reference.columns())
            .map(|(row, reference)| concat(&[row.as_ref(), reference.as_ref()]))
            .collect::<Result<Vec<_>, _>>()
            .map_err(building)?;
        let fields = row
            .schema_ref()
            .fields()
            .iter()
            .zip(reference.schema_ref().fields());
        let fields = fields
            .map(|(a, b)| {
                let nullable = a.is_nullable() || b.is_nullable();
                Arc::new(Field::clone(a).with_nullable(nullable))
            })
            .collect::<Vec<_>>();
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            classes: columns.iter().map(|c| classes(c.as_ref())).collect(),
            columns,
            sources: (row.num_rows() + reference.num_rows()) as u32,
        })
    }

    /// Number of features, n.
    pub(crate) fn features(&self) -> usize {
        self.columns.len()
    }

    /// Number of reference rows, m.
    pub(crate) fn references(&self) -> usize {
        self.sources as usize - 1
    }

    /// The first source with the value that `source` has in `feature`; [`EXPLAINED`] when it is
    /// the explained row's. Missing values (null, NaN) equal each other.
    pub(crate) fn class(&self, feature: usize, source: u32) -> u32 {
        self.classes[feature][source as usize]
    }

    /// `sources`, given with the number of times each occurs, without repetitions: sources that
    /// agree in all of `features` become one. The second result counts those that agree there
    /// with the explained row.
    pub(crate) fn distinct(
        &self,
        features: &[usize],
        sources: impl IntoIterator<Item = Reference>,
    ) -> (Vec<Reference>, f64) {
        let mut found: Vec<Reference> = vec![];
        let mut places = BTreeMap::new();
        let mut same = 0.0;
        for Reference { source, times } in sources {
            let key: Vec<u32> = features.iter().map(|&j| self.class(j, source)).collect();
            if key.iter().all(|&class| class == EXPLAINED) {
                same += times;
                continue;
            }
            let place = *places.entry(key).or_insert(found.len());
            match found.get_mut(place) {
                Some(reference) => reference.times += times,
                None => found.push(Reference { source, times }),
            }
        }
        (found, same)
    }

    /// Every reference row, once.
    pub(crate) fn each(&self) -> impl Iterator<Item = Reference> + use<> {
        (1..self.sources).map(|source| Reference { source, times: 1.0 })
    }

    /// The rows whose value of feature j comes from the sources `picks[j]`.
    pub(crate) fn batch(&self, picks: Vec<Vec<u32>>) -> Result<RecordBatch, Error> {
        let rows = picks.first().map_or(0, Vec::len);
        let columns = self
            .columns
            .iter()
            .zip(picks)
            .map(|(column, picks)| take(column, &UInt32Array::from(picks), None))
            .collect::<Result<Vec<_>, _>>()
            .map_err(building)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(building)
    }
}

fn building(source: ArrowError) -> Error {
    Error::internal(
        "putting together the rows that an explanation asks about",
        source,
    )
}

// === classes of equal values ===

/// For each element the index of the first element with the same value.
fn classes(array: &dyn Array) -> Vec<u32> {
    downcast_primitive_array!(
        array => primitive_classes(array),
        DataType::Boolean => {
            let array = array.as_boolean();
            classes_by(array.len(), value_order(|i| array.is_valid(i).then(|| array.value(i))))
        }
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            classes_by(array.len(), value_order(|i| array.is_valid(i).then(|| array.value(i))))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            classes_by(array.len(), value_order(|i| array.is_valid(i).then(|| array.value(i))))
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            classes_by(array.len(), value_order(|i| array.is_valid(i).then(|| array.value(i))))
        }
        DataType::FixedSizeList(_, width) => {
            let width = *width as usize;
            let list = array.as_fixed_size_list();
            let inner = classes(list.values().as_ref());
            let at = |i| {
                let start = list.value_offset_at(i);
                list.is_valid(i).then(|| &inner[start..start + width])
            };
            classes_by(list.len(), value_order(at))
        }
        DataType::Dictionary(_, _) => dictionary_classes(array),
        _ => unlike_classes(array)
    )
}

fn primitive_classes<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>) -> Vec<u32> {
    // NaN is the one value that does not compare with itself.
    let rank = |i: usize| {
        if array.is_null(i) {
            0
        } else if array.value(i).partial_cmp(&array.value(i)).is_none() {
            1
        } else {
            2
        }
    };
    classes_by(array.len(), |a, b| {
        let ranks = (rank(a), rank(b));
        match ranks {
            (2, 2) => array.value(a).compare(array.value(b)),
            (a, b) => a.cmp(&b),
        }
    })
}

fn dictionary_classes(array: &dyn Array) -> Vec<u32> {
    downcast_dictionary_array!(
        array => {
            let inner = classes(array.values().as_ref());
            classes_by(
                array.len(),
                value_order(|i| array.key(i).filter(|&k| array.values().is_valid(k)).map(|k| inner[k])),
            )
        }
        _ => unlike_classes(array)
    )
}

/// For types without an order here: elements are told apart from the first one only.
fn unlike_classes(array: &dyn Array) -> Vec<u32> {
    let first = array.slice(0, array.len().min(1));
    let same = |i: u32| *array.slice(i as usize, 1) == *first;
    (0..array.len() as u32)
        .map(|i| if same(i) { 0 } else { i })
        .collect()
}

fn value_order<K: Ord>(key: impl Fn(usize) -> K) -> impl Fn(usize, usize) -> Ordering {
    move |a, b| key(a).cmp(&key(b))
}

fn classes_by(len: usize, order: impl Fn(usize, usize) -> Ordering) -> Vec<u32> {
    let mut sorted: Vec<usize> = (0..len).collect();
    // Stable, so that the first of a run of equals is the first in the array.
    sorted.sort_by(|&a, &b| order(a, b));
    let mut classes = vec![0; len];
    for run in sorted.chunk_by(|&a, &b| order(a, b).is_eq()) {
        for &i in run {
            classes[i] = run[0] as u32;
        }
    }
    classes
}

#[cfg(test)]
mod tests;
