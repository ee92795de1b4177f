//! Figures that can be worked out by hand.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, StringArray};

use super::*;

fn numbers(columns: &[(&str, Vec<Option<f64>>)]) -> RecordBatch {
    let array =
        |values: &Vec<Option<f64>>| Arc::new(Float64Array::from(values.clone())) as ArrayRef;
    RecordBatch::try_from_iter(columns.iter().map(|(name, v)| (*name, array(v)))).unwrap()
}

fn texts(values: &[&str]) -> RecordBatch {
    let array = Arc::new(StringArray::from_iter_values(values)) as ArrayRef;
    RecordBatch::try_from_iter([("y", array)]).unwrap()
}

#[test]
fn numbers_differ_by_their_figures() {
    let old = numbers(&[("y", vec![Some(0.0), Some(1.0), Some(2.0), Some(3.0)])]);
    let new = numbers(&[("y", vec![Some(0.0), Some(1.5), Some(2.0), Some(2.0)])]);
    // Two tables count as one.
    let answers = [
        [old.slice(0, 1), new.slice(0, 1)],
        [old.slice(1, 3), new.slice(1, 3)],
    ];
    let change = &outputs(&answers)[0];
    assert_eq!((change.mean, change.max), (Some(0.375), Some(1.0)));
    assert_eq!((change.changed, change.missing), (0.5, 0));
    let correlation = change.correlation.unwrap();
    assert!((correlation - 0.8866).abs() < 1e-3, "{correlation}");
}

#[test]
fn rounding_is_no_change_and_what_does_not_vary_has_no_correlation() {
    let old = numbers(&[("y", vec![Some(1.0), Some(1.0)])]);
    let new = numbers(&[("y", vec![Some(1.0 + 1e-9), Some(1.0)])]);
    let change = &outputs(&[[old, new]])[0];
    assert_eq!((change.changed, change.correlation), (0.0, None));
}

#[test]
fn a_value_in_only_one_of_the_two_is_a_change() {
    let old = numbers(&[("y", vec![Some(1.0), None, None])]);
    let new = numbers(&[("y", vec![None, None, Some(2.0)])]);
    let change = &outputs(&[[old, new]])[0];
    assert_eq!(change.missing, 2);
    assert!((change.changed - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(change.max, None);
}

#[test]
fn texts_are_equal_or_not() {
    let change = &outputs(&[[texts(&["a", "b"]), texts(&["a", "c"])]])[0];
    assert_eq!((change.max, change.changed, change.missing), (None, 0.5, 0));
}

#[test]
fn classes_follow_from_the_threshold_or_the_largest() {
    let old = numbers(&[("p", vec![Some(0.2), Some(0.6), Some(0.7)])]);
    let new = numbers(&[("p", vec![Some(0.4), Some(0.4), Some(0.7)])]);
    let one = [[old, new]];
    let third = decisions(&one, Decision::Threshold(0.5)).unwrap();
    assert!((third - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(decisions(&one, Decision::Threshold(0.65)), Some(0.0));
    assert_eq!(decisions(&one, Decision::None), None);

    let old = numbers(&[
        ("a", vec![Some(0.5), Some(0.1)]),
        ("b", vec![Some(0.5), Some(0.9)]),
    ]);
    let new = numbers(&[
        ("a", vec![Some(0.6), Some(0.8)]),
        ("b", vec![Some(0.4), Some(0.2)]),
    ]);
    assert_eq!(decisions(&[[old, new]], Decision::Largest), Some(0.5));
}

#[test]
fn percentiles_are_values_that_were_there() {
    let values = [5.0, 1.0, 3.0, 2.0, 4.0];
    assert_eq!(percentile(&values, 0.5), 3.0);
    assert_eq!(percentile(&values, 0.95), 5.0);
    assert_eq!(percentile(&[], 0.5), 0.0);
}
