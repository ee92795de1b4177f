//! Tests of reading rows.

use arrow_array::{
    Array,
    cast::AsArray,
    types::{Float64Type, Int64Type, TimestampMicrosecondType},
};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{batch_to_rows, from_ipc, to_ipc, write_json_rows};

pub(crate) fn column(name: &str, data_type: DataType) -> Column {
    Column {
        id: None,
        name: name.to_owned(),
        data_type,
        min: None,
        max: None,
        categories: None,
        bins: None,
        replace_with_nulls: None,
        n_dimensions: None,
    }
}

fn columns() -> Vec<Column> {
    vec![
        column("f", DataType::Float),
        column("i", DataType::Int),
        column("b", DataType::Bool),
        column("s", DataType::Str),
        column("c", DataType::Category),
        column("t", DataType::Timestamp),
        column("v", DataType::Vector),
    ]
}

fn parser(missing: Missing) -> RowParser {
    let columns = columns();
    RowParser::new(&columns.iter().collect::<Vec<_>>(), missing)
}

fn one(name: &str, data_type: DataType, json: &str) -> Result<RecordBatch, Error> {
    let column = column(name, data_type);
    RowParser::new(&[&column], Missing::Reject).parse(json)
}

#[test]
fn every_type_is_read() {
    let batch = parser(Missing::Reject)
        .parse(
            r#"[{"extra":[{"deep":1}],"t":"2024-01-02 03:04:05.5","v":[1,null,2.5],"c":3,
                "f":1,"i":4.0,"b":1,"s":"é"}]"#,
        )
        .unwrap();
    assert_eq!(batch.schema(), *parser(Missing::Null).schema());
    assert_eq!(batch.column(0).as_primitive::<Float64Type>().value(0), 1.0);
    assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), 4);
    assert!(batch.column(2).as_boolean().value(0));
    assert_eq!(batch.column(3).as_string::<i32>().value(0), "é");
    assert_eq!(batch.column(4).as_string::<i32>().value(0), "3");
    let time = batch
        .column(5)
        .as_primitive::<TimestampMicrosecondType>()
        .value(0);
    assert_eq!(time, 1_704_164_645_500_000);
    let mut out = vec![];
    write_json_rows(&batch, &mut out);
    insta::assert_snapshot!(
        String::from_utf8(out).unwrap(),
        @r#"[{"f":1.0,"i":4,"b":true,"s":"é","c":"3","t":"2024-01-02T03:04:05.500000+00:00","v":[1.0,null,2.5]}]"#
    );
}

#[test]
fn text_reads_as_what_the_column_needs() {
    let batch = parser(Missing::Reject)
        .parse(
            r#"[{"f":"1e5","i":"3.0","b":"False","s":true,"c":2.0,"t":1704164645,"v":"[1 2]"},
                {"f":"nan","i":"","b":"None","s":"nan","c":null,"t":"NaT","v":null}]"#,
        )
        .unwrap();
    insta::assert_snapshot!(
        serde_json::to_string(&batch_to_rows(&batch)).unwrap(),
        @r#"[{"f":100000.0,"i":3,"b":false,"s":"True","c":"2.0","t":"2024-01-02T03:04:05.000000+00:00","v":[1.0,2.0]},{"f":null,"i":null,"b":null,"s":"nan","c":null,"t":null,"v":null}]"#
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let message = |t, json| one("age", t, json).unwrap_err().public_text();
    insta::assert_snapshot!(
        message(DataType::Float, r#"[{"age":1},{"age":"old"}]"#),
        @r#"row 1: column `age` is "old", but a number is needed. Send a value of the column's type, or null for a missing one."#
    );
    for (data_type, json) in [
        (DataType::Int, r#"[{"age":3.5}]"#),
        (DataType::Int, r#"[{"age":18446744073709551615}]"#),
        (DataType::Int, r#"[{"age":9223372036854775808.0}]"#),
        (DataType::Bool, r#"[{"age":2}]"#),
        (DataType::Bool, r#"[{"age":"yes"}]"#),
        (DataType::Timestamp, r#"[{"age":"yesterday"}]"#),
        (DataType::Timestamp, r#"[{"age":true}]"#),
        (DataType::Vector, r#"[{"age":1}]"#),
        (DataType::Float, r#"[{"age":[1]}]"#),
        (DataType::Str, r#"[{"age":{}}]"#),
    ] {
        let error = one("age", data_type, json).unwrap_err();
        assert_eq!(error.code(), Code::BadRequest);
        assert!(error.message().contains("column `age`"), "{error}");
    }
}

#[test]
fn missing_columns_are_all_named_with_what_was_sent() {
    let (a, b) = (
        column("Age", DataType::Int),
        column("zip code", DataType::Str),
    );
    let parser = RowParser::new(&[&a, &b], Missing::Reject);
    let error = parser
        .parse(r#"[{"age":3,"zip-code":"x","other":1}]"#)
        .unwrap_err();
    insta::assert_snapshot!(error.public_text(), @"row 0 lacks the columns `Age`, `zip code`. `age` was sent where `Age` is meant. `zip-code` was sent where `zip code` is meant. Sent and not known: `age`, `zip-code`, `other`. Send every input of the model in every row; null stands for a missing value.");
    let batch = RowParser::new(&[&a, &b], Missing::Null)
        .parse("[{},{\"Age\":1}]")
        .unwrap();
    assert_eq!((batch.num_rows(), batch.column(0).null_count()), (2, 1));
    assert_eq!(batch.column(1).null_count(), 2);
}

#[test]
fn malformed_json_is_refused() {
    for json in [
        "",
        "{",
        "[{]",
        "[1]",
        "[[]]",
        "null",
        r#"[{"f":1}] x"#,
        r#"[{"f":NaN}]"#,
        r#"{"f":1}"#,
        r#"[{"f":1,"f":2}]"#,
        "[{}",
        r#"[{"v":["x"]}]"#,
    ] {
        let error = parser(Missing::Null).parse(json).unwrap_err();
        assert_eq!(error.code(), Code::BadRequest, "{json}");
    }
}

#[test]
fn no_rows_and_no_columns_keep_their_counts() {
    assert_eq!(parser(Missing::Reject).parse("[]").unwrap().num_rows(), 0);
    let empty = RowParser::new(&[], Missing::Reject)
        .parse("[{},{}]")
        .unwrap();
    assert_eq!(empty.num_rows(), 2);
    let mut out = vec![];
    write_json_rows(&empty, &mut out);
    assert_eq!(out, b"[{},{}]");
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3i64..3).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.\\-\"\\\\ ]{0,8}".prop_map(Value::from),
        prop::collection::vec(any::<f64>(), 0..3).prop_map(Value::from),
        Just(json!({"a": 1})),
    ]
}

fn row() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec(
        (
            prop::sample::select(vec!["f", "i", "b", "s", "c", "t", "v", "x"]),
            value(),
        ),
        0..9,
    )
    .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

proptest! {
    #[test]
    fn text_and_values_are_read_alike(rows in prop::collection::vec(row(), 0..4)) {
        let text = serde_json::to_string(&rows).unwrap();
        for missing in [Missing::Null, Missing::Reject] {
            match (parser(missing).parse(&text), parser(missing).maps(&rows)) {
                (Ok(a), Ok(b)) => prop_assert_eq!(a, b),
                // A vector's bad item is told by the JSON reader, which adds the place in the text.
                (Err(a), Err(b)) => prop_assert!(a.message() == b.message() || a.message().contains("vector")),
                (a, b) => prop_assert!(false, "{:?} but {:?}", a, b),
            }
        }
    }

    #[test]
    fn rows_survive_json_and_ipc(
        floats in prop::collection::vec(any::<f64>().prop_filter("finite", |f| f.is_finite()), 1..5),
        ints in prop::collection::vec(any::<i64>(), 1..5),
        text in ".*",
    ) {
        let rows: Vec<Map<String, Value>> = floats.iter().zip(&ints).map(|(f, i)| {
            let Value::Object(row) = json!({"f": f, "i": i, "b": i % 2 == 0, "s": text, "c": null,
                "t": "2024-01-02T03:04:05.000001+00:00", "v": [f]}) else { unreachable!() };
            row
        }).collect();
        let batch = parser(Missing::Reject).maps(&rows).unwrap();
        prop_assert_eq!(&batch_to_rows(&batch), &rows);
        let mut out = vec![];
        write_json_rows(&batch, &mut out);
        prop_assert_eq!(String::from_utf8(out.clone()).unwrap(), serde_json::to_string(&rows).unwrap());
        let again = parser(Missing::Reject).parse(std::str::from_utf8(&out).unwrap()).unwrap();
        prop_assert_eq!(&again, &batch);
        prop_assert_eq!(from_ipc(to_ipc(&batch).unwrap().into()).unwrap(), batch);
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = parser(Missing::Null).parse(&text);
    }
}
