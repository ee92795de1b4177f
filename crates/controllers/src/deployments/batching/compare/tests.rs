//! What counts as rounding and what does not.

use std::sync::Arc;

use arrow_array::{BooleanArray, Float64Array, Int64Array, StringArray};
use proptest::prelude::*;

use super::*;

fn table(column: impl Array + 'static) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([("y", Arc::new(column) as ArrayRef, true)]).unwrap()
}

fn floats(values: &[f64]) -> RecordBatch {
    table(Float64Array::from(values.to_vec()))
}

fn alike(one: &RecordBatch, two: &RecordBatch) -> bool {
    difference(one, two, 0).is_none()
}

#[test]
fn rounding_is_no_difference_and_anything_more_is() {
    let was = floats(&[0.1, 0.7, 300.3]);
    assert!(alike(&was, &floats(&[0.1 + 1e-9, 0.7, 300.3 + 1e-5])));
    assert!(!alike(&was, &floats(&[0.1, 0.7 + 1e-4, 300.3])));
    // Nearly nothing beside what it was summed up from.
    assert!(alike(
        &floats(&[0.7, 1e-17, 0.9]),
        &floats(&[0.7, -1e-17, 0.9])
    ));
    // One huge value does not make the others the same.
    assert!(!alike(
        &floats(&[1e12, 0.7, 0.9]),
        &floats(&[1e12, 0.8, 0.9])
    ));
}

#[test]
fn single_precision_is_rounded_more_coarsely() {
    let single = |values: &[f32]| floats(&values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    assert!(alike(&single(&[0.7, 0.3]), &single(&[0.700_004, 0.3])));
    assert!(!alike(&single(&[0.7, 0.3]), &single(&[0.700_1, 0.3])));
    assert!(!alike(&floats(&[0.7, 0.3]), &floats(&[0.700_004, 0.3])));
}

#[test]
fn the_difference_is_told_with_its_row() {
    let was = floats(&[1.0, 2.0, 3.0]);
    let is = floats(&[2.5]);
    let (row, what) = difference(&was, &is, 1).unwrap();
    assert_eq!((row, what.as_str()), (1, "output `y` was 2 and is 2.5"));
    assert_eq!(difference(&was, &floats(&[3.0]), 2), None);
}

#[test]
fn missing_values_are_the_same_however_they_are_written() {
    let nan = floats(&[f64::NAN]);
    let null = table(Float64Array::from(vec![None]));
    let no_text = table(StringArray::from(vec![None::<&str>]));
    assert!(alike(&nan, &null) && alike(&null, &no_text) && alike(&nan, &nan));
    assert!(!alike(&nan, &floats(&[0.0])) && !alike(&floats(&[0.0]), &no_text));
}

#[test]
fn everything_else_is_compared_exactly() {
    let ints = |v: i64| table(Int64Array::from(vec![v]));
    let texts = |v: &str| table(StringArray::from(vec![v]));
    let bools = |v: bool| table(BooleanArray::from(vec![v]));
    assert!(alike(&ints(1 << 60), &ints(1 << 60)) && !alike(&ints(1 << 60), &ints((1 << 60) + 1)));
    assert!(alike(&texts("a"), &texts("a")) && !alike(&texts("a"), &texts("b")));
    assert!(alike(&bools(true), &bools(true)) && !alike(&bools(true), &bools(false)));
    // A number that is an integer only in some company would be written in two ways.
    assert!(!alike(&ints(1), &floats(&[1.0])));
    let infinite = floats(&[f64::INFINITY]);
    assert!(alike(&infinite, &infinite) && !alike(&infinite, &floats(&[f64::MAX])));
    assert!(!alike(&infinite, &floats(&[f64::NEG_INFINITY])));
}

proptest! {
    #[test]
    fn an_answer_is_like_itself_and_like_what_rounding_makes_of_it(
        values in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::ZERO, 1..8),
        ulps in -64i32..64,
    ) {
        // Halved, so that none becomes infinite.
        let values: Vec<f64> = values.iter().map(|v| v / 2.0).collect();
        let rounded: Vec<f64> = values.iter().map(|v| v * (1.0 + f64::from(ulps) * f64::EPSILON)).collect();
        prop_assert!(alike(&floats(&values), &floats(&values)));
        prop_assert!(alike(&floats(&values), &floats(&rounded)));
    }

    #[test]
    fn a_thousandth_is_no_rounding(values in prop::collection::vec(0.5f64..1.0, 1..8), at: usize) {
        let mut other = values.clone();
        let at = at % values.len();
        other[at] *= 1.001;
        let found = difference(&floats(&values), &floats(&other), 0);
        prop_assert_eq!(found.map(|(row, _)| row), Some(at));
    }
}
