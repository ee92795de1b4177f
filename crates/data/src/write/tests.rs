//! Tests of writing rows.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Date32Array, Float32Array, Float64Array, Int8Array, LargeStringArray,
    TimestampNanosecondArray, UInt64Array,
};

use super::*;

#[test]
fn every_type_a_model_may_answer_with_is_written() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "f64",
            Arc::new(Float64Array::from(vec![
                Some(f64::NAN),
                Some(f64::INFINITY),
                None,
            ])),
        ),
        ("f32", Arc::new(Float32Array::from(vec![0.5, -0.0, 1e30]))),
        ("i8", Arc::new(Int8Array::from(vec![-1, 0, 1]))),
        ("u64", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1]))),
        (
            "text",
            Arc::new(LargeStringArray::from(vec!["a\"b", "\n", "é"])),
        ),
        ("day", Arc::new(Date32Array::from(vec![0, 1, -1]))),
        // Half past noon in a zone two hours ahead is half past ten in UTC; Arrow stores the latter.
        (
            "zoned",
            Arc::new(
                TimestampNanosecondArray::from(vec![37_800_000_000_000; 3]).with_timezone("+02:00"),
            ),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut out = vec![];
    write_json_rows(&batch, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text, serde_json::to_string(&batch_to_rows(&batch)).unwrap());
    insta::assert_snapshot!(text, @r#"[{"f64":null,"f32":0.5,"i8":-1,"u64":18446744073709551615,"text":"a\"b","day":"1970-01-01T00:00:00.000000+00:00","zoned":"1970-01-01T10:30:00.000000+00:00"},{"f64":null,"f32":-0.0,"i8":0,"u64":0,"text":"\n","day":"1970-01-02T00:00:00.000000+00:00","zoned":"1970-01-01T10:30:00.000000+00:00"},{"f64":null,"f32":1.0000000150474662e+30,"i8":1,"u64":1,"text":"é","day":"1969-12-31T00:00:00.000000+00:00","zoned":"1970-01-01T10:30:00.000000+00:00"}]"#);
}
