//! Equal values are recognised in every type, and batches hold what was picked.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeListArray, Float32Array,
    Float64Array, Int32Array, LargeStringArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, UInt32Array, types::Float64Type, types::Int8Type,
};
use arrow_schema::{DataType, Field, Schema};

use super::{Reference, Rows, classes};

#[test]
fn equal_values_have_the_class_of_the_first() {
    let negative_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
    let floats = [
        Some(1.0),
        None,
        Some(f64::NAN),
        Some(1.0),
        Some(negative_nan),
        None,
        Some(2.0),
    ];
    assert_eq!(
        classes(&Float64Array::from(floats.to_vec())),
        [0, 1, 2, 0, 2, 1, 6]
    );
    assert_eq!(
        classes(&Float32Array::from(vec![f32::NAN, 1.0, -f32::NAN])),
        [0, 1, 0]
    );
    assert_eq!(
        classes(&Int32Array::from(vec![Some(5), None, Some(5), None])),
        [0, 1, 0, 1]
    );
    assert_eq!(
        classes(&BooleanArray::from(vec![
            Some(true),
            Some(false),
            None,
            Some(false)
        ])),
        [0, 1, 2, 1]
    );
    let texts = [Some("b"), Some("a"), None, Some("b"), Some(""), None];
    let expected = [0, 1, 2, 0, 4, 2];
    assert_eq!(classes(&StringArray::from(texts.to_vec())), expected);
    assert_eq!(classes(&LargeStringArray::from(texts.to_vec())), expected);
    assert_eq!(classes(&StringViewArray::from(texts.to_vec())), expected);
    let dictionary: DictionaryArray<Int8Type> = texts.into_iter().collect();
    assert_eq!(classes(&dictionary), expected);
    assert_eq!(
        classes(&TimestampMicrosecondArray::from(vec![7, 8, 7])),
        [0, 1, 0]
    );
}

#[test]
fn vectors_are_equal_by_element() {
    let rows = [
        Some(vec![Some(1.0), Some(f64::NAN)]),
        Some(vec![Some(1.0), None]),
        Some(vec![Some(1.0), Some(-f64::NAN)]),
        None,
        Some(vec![Some(1.0), None]),
        None,
    ];
    let list = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows, 2);
    assert_eq!(classes(&list), [0, 1, 0, 3, 1, 3]);
    assert_eq!(classes(&list.slice(1, 4)), [0, 1, 2, 0]);
}

#[test]
fn other_types_are_compared_with_the_first() {
    let bytes = BinaryArray::from(vec![b"x".as_slice(), b"y", b"x", b"y"]);
    assert_eq!(classes(&bytes), [0, 1, 0, 3]);
}

fn batch(a: Vec<i32>, b: Vec<&str>) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("a", DataType::Int32, false),
        Field::new("b", DataType::Utf8, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(a)),
        Arc::new(StringArray::from(b)),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn rows() -> Rows {
    let reference = batch(vec![1, 1, 2, 1, 2], vec!["x", "y", "y", "x", "y"]);
    Rows::new(&batch(vec![1], vec!["x"]), &reference).unwrap()
}

#[test]
fn repeated_references_are_counted() {
    let rows = rows();
    let (distinct, same) = rows.distinct(&[0, 1], rows.each());
    assert_eq!(same, 2.0);
    assert_eq!(
        distinct,
        [
            Reference {
                source: 2,
                times: 1.0
            },
            Reference {
                source: 3,
                times: 2.0
            }
        ]
    );
    let (distinct, same) = rows.distinct(&[0], rows.each());
    assert_eq!(
        (distinct, same),
        (
            vec![Reference {
                source: 3,
                times: 2.0
            }],
            3.0
        )
    );
    assert_eq!(rows.distinct(&[], rows.each()), (vec![], 5.0));
}

#[test]
fn batches_mix_the_sources() {
    let batch_of = rows().batch(vec![vec![0, 3, 0], vec![2, 0, 0]]).unwrap();
    assert_eq!(
        batch_of.columns(),
        batch(vec![1, 2, 1], vec!["y", "x", "x"]).columns()
    );
}

#[test]
fn missing_values_of_the_reference_fit_the_batch() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::UInt32, true)]));
    let column: ArrayRef = Arc::new(UInt32Array::from(vec![None, Some(3)]));
    let reference = RecordBatch::try_new(schema, vec![column]).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::UInt32, false)]));
    let column: ArrayRef = Arc::new(UInt32Array::from(vec![1]));
    let row = RecordBatch::try_new(schema, vec![column]).unwrap();
    let rows = Rows::new(&row, &reference).unwrap();
    let batch = rows.batch(vec![vec![1, 0, 2]]).unwrap();
    assert_eq!(
        *batch.column(0).as_ref(),
        UInt32Array::from(vec![None, Some(1), Some(3)])
    );
}
