//! Tensors as clients send them, in both forms, and what is refused.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use luthier_types::{Code, Error};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Bounds, Missing, RowParser, batch_to_rows};

fn column(name: &str, data_type: DataType) -> Column {
    serde_json::from_value(json!({ "name": name, "data_type": data_type })).unwrap()
}

fn parser(columns: &[(&str, DataType)]) -> RowParser {
    let columns: Vec<Column> = columns.iter().map(|(n, t)| column(n, *t)).collect();
    RowParser::new(&columns.iter().collect::<Vec<_>>(), Missing::Reject)
}

fn json_tensor(name: &str, datatype: Datatype, shape: &[u64], data: Value) -> Tensor {
    Tensor {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        data: TensorData::Json(data.to_string().into()),
    }
}

fn binary(name: &str, datatype: Datatype, shape: &[u64], data: Vec<u8>) -> Tensor {
    Tensor {
        name: name.to_owned(),
        datatype,
        shape: shape.to_vec(),
        data: TensorData::Binary(data.into()),
    }
}

fn read(tensors: &[Tensor], columns: &[(&str, DataType)]) -> Result<RecordBatch, Error> {
    read_tensors(tensors, &parser(columns), Bounds::default())
}

fn rows(tensors: &[Tensor], columns: &[(&str, DataType)]) -> Value {
    json!(batch_to_rows(&read(tensors, columns).unwrap()))
}

fn refused(tensors: &[Tensor], columns: &[(&str, DataType)]) -> String {
    let error = read(tensors, columns).unwrap_err();
    assert_eq!(error.code(), Code::BadRequest, "{error}");
    assert!(error.next_step().is_some(), "{error}");
    error.message().to_owned()
}

#[test]
fn every_datatype_is_read_in_binary_form() {
    let one = [("a", DataType::Float)];
    let cases: [(Datatype, Vec<u8>); 11] = [
        (Datatype::Bool, vec![1]),
        (Datatype::Uint8, vec![1]),
        (Datatype::Int8, vec![1]),
        (Datatype::Uint16, 1_u16.to_le_bytes().to_vec()),
        (Datatype::Int16, 1_i16.to_le_bytes().to_vec()),
        (Datatype::Uint32, 1_u32.to_le_bytes().to_vec()),
        (Datatype::Int32, 1_i32.to_le_bytes().to_vec()),
        (Datatype::Uint64, 1_u64.to_le_bytes().to_vec()),
        (Datatype::Int64, 1_i64.to_le_bytes().to_vec()),
        (Datatype::Fp32, 1_f32.to_le_bytes().to_vec()),
        (Datatype::Bytes, b"\x03\0\0\x001.0".to_vec()),
    ];
    for (datatype, bytes) in cases {
        assert_eq!(Datatype::named(datatype.name()), Some(datatype));
        let sent = [binary("a", datatype, &[1, 1], bytes)];
        assert_eq!(rows(&sent, &one), json!([{ "a": 1.0 }]), "{datatype:?}");
    }
}

#[test]
fn columns_go_by_name_and_are_converted_by_the_schema() {
    let columns = [
        ("n", DataType::Int),
        ("s", DataType::Category),
        ("v", DataType::Vector),
        ("t", DataType::Timestamp),
        ("b", DataType::Bool),
    ];
    let sent = [
        json_tensor("b", Datatype::Bool, &[2], json!([true, null])),
        json_tensor(
            "t",
            Datatype::Bytes,
            &[2],
            json!(["2024-05-01T12:00:00+02:00", null]),
        ),
        json_tensor("v", Datatype::Fp32, &[2, 2], json!([[1, 2], [3.5, null]])),
        json_tensor("other", Datatype::Fp32, &[7], json!([])),
        json_tensor("s", Datatype::Bytes, &[2], json!(["é", ""])),
        json_tensor("n", Datatype::Fp64, &[2, 1], json!([[3.0], [null]])),
    ];
    insta::assert_snapshot!(rows(&sent, &columns), @r#"[{"n":3,"s":"é","v":[1.0,2.0],"t":"2024-05-01T10:00:00.000000+00:00","b":true},{"n":null,"s":"","v":[3.5,null],"t":null,"b":null}]"#);
    let flat = [json_tensor(
        "v",
        Datatype::Fp64,
        &[2, 2],
        json!([1, 2, 3, 4]),
    )];
    assert_eq!(
        rows(&flat, &[("v", DataType::Vector)]),
        json!([{ "v": [1.0, 2.0] }, { "v": [3.0, 4.0] }])
    );
    let none = [json_tensor("n", Datatype::Int64, &[0], json!([]))];
    assert_eq!(rows(&none, &[("n", DataType::Int)]), json!([]));
}

#[test]
fn what_is_wrong_is_named() {
    let a = [("a", DataType::Float)];
    let ab = [("a", DataType::Float), ("b", DataType::Float)];
    let tensor = |shape: &[u64], data: Value| json_tensor("a", Datatype::Fp64, shape, data);
    let bytes = |shape: &[u64], data: &[u8]| binary("a", Datatype::Fp64, shape, data.to_vec());
    let b = json_tensor("b", Datatype::Fp64, &[2], json!([1, 2]));
    let cases: [(&[Tensor], &[_], &str); 14] = [
        (
            &[tensor(&[1], json!([1]))],
            &ab,
            "the request lacks the column `b`",
        ),
        (
            &[tensor(&[1], json!([1])), tensor(&[1], json!([1]))],
            &a,
            "`a` is there twice",
        ),
        (
            &[tensor(&[1], json!([1])), b],
            &ab,
            "`b` has 2 rows, and `a` has 1",
        ),
        (
            &[tensor(&[1, 2], json!([1, 2]))],
            &a,
            "has the shape [1, 2], where [rows] or",
        ),
        (&[tensor(&[], json!([]))], &a, "has the shape []"),
        (
            &[tensor(&[2], json!([1]))],
            &a,
            "has 1 elements, where its shape makes 2",
        ),
        (
            &[tensor(&[2], json!([1, "many"]))],
            &a,
            "row 1: input `a` is \"many\"",
        ),
        (&[tensor(&[1], json!([{}]))], &a, "is no array"),
        (&[tensor(&[1], json!(7))], &a, "is no array"),
        (&[tensor(&[1], json!([[1]]))], &a, "nested deeper"),
        (
            &[bytes(&[1], &[0; 7])],
            &a,
            "has 7 bytes, where its shape and the datatype FP64 make 8",
        ),
        (&[bytes(&[3], &[0; 16])], &a, "has 16 bytes"),
        (
            &[binary(
                "a",
                Datatype::Bytes,
                &[1],
                b"\x09\0\0\0abc".to_vec(),
            )],
            &a,
            "not the 1 texts",
        ),
        (
            &[binary(
                "a",
                Datatype::Bytes,
                &[1],
                b"\x01\0\0\0\xff".to_vec(),
            )],
            &a,
            "not UTF-8",
        ),
    ];
    for (tensors, columns, expected) in cases {
        let text = refused(tensors, columns);
        assert!(text.contains(expected), "{text}");
    }
    let v = [("v", DataType::Vector)];
    let flat = json_tensor("v", Datatype::Fp64, &[2], json!([1, 2]));
    assert!(refused(&[flat], &v).contains("[rows, numbers in each]"));
    assert!(refused(&[], &[]).contains("no inputs"));
}

#[test]
fn shapes_are_no_reason_to_take_memory() {
    let v = [("v", DataType::Vector)];
    for shape in [[1 << 40, 0], [u64::MAX, 2]] {
        let tensor = binary("v", Datatype::Fp64, &shape, vec![]);
        let error = read(&[tensor], &v).unwrap_err();
        assert!(
            matches!(error.code(), Code::TooLarge | Code::BadRequest),
            "{error}"
        );
    }
    let few = Bounds {
        rows: 1 << 20,
        bytes: 1 << 20,
    };
    let bools = binary("a", Datatype::Bool, &[1 << 18], vec![0; 1 << 18]);
    let error = read_tensors(&[bools], &parser(&[("a", DataType::Float)]), few).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
}

fn written(array: ArrayRef, declared: DataType) -> (Datatype, Value, Vec<u8>) {
    let values = values(&array, declared);
    let mut bytes = vec![];
    values.write_binary(&mut bytes);
    (values.datatype(), json!(values), bytes)
}

#[test]
fn outputs_have_the_declared_type_if_they_can() {
    let ints = || Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef;
    assert_eq!(written(ints(), DataType::Float).0, Datatype::Fp64);
    assert_eq!(written(ints(), DataType::Int).1, json!([1, 2]));
    let whole = Arc::new(Float64Array::from(vec![1.0, 2.0]));
    assert_eq!(written(whole, DataType::Int).0, Datatype::Int64);
    let fractions = Arc::new(Float64Array::from(vec![1.5]));
    assert_eq!(written(fractions, DataType::Int).1, json!([1.5]));
    let bools = Arc::new(BooleanArray::from(vec![true, false]));
    assert_eq!(written(bools, DataType::Bool).2, [1, 0]);
    let words = || Arc::new(StringArray::from(vec![Some("é"), None])) as ArrayRef;
    for declared in [DataType::Category, DataType::Float] {
        let (datatype, shown, bytes) = written(words(), declared);
        assert_eq!((datatype, shown), (Datatype::Bytes, json!(["é", ""])));
        assert_eq!(bytes, b"\x02\0\0\0\xc3\xa9\0\0\0\0");
    }
}

#[test]
fn missing_numbers_are_nan() {
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let bools: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
    for (array, declared) in [
        (ints, DataType::Int),
        (bools, DataType::Bool),
        (floats, DataType::Float),
    ] {
        let (datatype, shown, bytes) = written(array, declared);
        assert_eq!((datatype, shown), (Datatype::Fp64, json!([1.0, null])));
        assert_eq!(
            bytes,
            [1.0_f64.to_le_bytes(), f64::NAN.to_le_bytes()].concat()
        );
    }
}

proptest! {
    #[test]
    fn both_forms_read_back_what_they_wrote(
        floats in prop::collection::vec(any::<f64>().prop_filter("JSON", |v| v.is_finite()), 0..9),
    ) {
        let texts: Vec<String> = floats.iter().map(|v| format!("é{v}")).collect();
        let count = [floats.len() as u64];
        let columns: [(ArrayRef, DataType); 2] = [
            (Arc::new(Float64Array::from(floats)), DataType::Float),
            (Arc::new(StringArray::from(texts)), DataType::Str),
        ];
        for (array, declared) in columns {
            let (datatype, shown, bytes) = written(array.clone(), declared);
            for tensor in [
                json_tensor("a", datatype, &count, shown),
                binary("a", datatype, &count, bytes),
            ] {
                let back = read(&[tensor], &[("a", declared)]).unwrap();
                prop_assert_eq!(back.column(0), &array);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, rows in 0_u64..9, text: bool) {
        let datatype = if text { Datatype::Bytes } else { Datatype::Int16 };
        let _ = read(&[binary("a", datatype, &[rows], bytes.clone())], &[("a", DataType::Float)]);
        let tensor = Tensor { data: TensorData::Json(bytes.into()), ..binary("a", datatype, &[rows], vec![]) };
        let _ = read(&[tensor], &[("a", DataType::Float)]);
    }
}
