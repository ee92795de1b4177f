//! Tests of the model factory.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::canonical::tests::{csv, parquet};

fn infer(text: &str) -> Result<ModelSchema, Error> {
    let dir = tempfile::tempdir().unwrap();
    Ok(infer_schema(&csv(&dir, text), InferOptions::default(), None)?.0)
}

/// The type of one column whose values are `values`.
fn type_of(values: &[&str]) -> DataType {
    let lines: String = values.iter().map(|v| format!("\"{v}\",x\n")).collect();
    infer(&format!("a,b\n{lines}")).unwrap().columns[0].data_type
}

#[test]
fn types_are_read_from_text() {
    use DataType::*;
    for (expected, values) in [
        (Int, &["1", "-2", "", "None", "<NA>"][..]),
        (Float, &["1.0", "nan"]),
        (Float, &["1", "2.5"]),
        (Float, &["1e5"]),
        (Float, &["inf", "1"]),
        (Float, &["nan", "nan"]),
        (Float, &["18446744073709551616"]),
        (Bool, &["True", "False", ""]),
        (
            Timestamp,
            &["2024-01-02", "2024-01-02 03:04:05.123456+02:00", "NaT"],
        ),
        (Vector, &["[1.0, 2.0]", "[3 4]"]),
        (Category, &["[1.0, 2.0]", "[3]", "[3]"]),
        (Category, &["yes", "no", "yes"]),
        (Category, &["1", "x", "x"]),
        (Category, &["True", "1", "1"]),
        (Str, &["infinity"]),
        (Str, &["02139", "02138"]),
        (Str, &["one", "two", "three"]),
        (Str, &["", ""]),
        (Str, &["1999-13-45"]),
    ] {
        assert_eq!(type_of(values), expected, "{values:?}");
    }
}

#[test]
fn too_many_different_texts_are_plain_text() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..60).map(|i| format!("{i},t{}\n", i % 6)).collect();
    let path = csv(&dir, format!("i,t\n{rows}"));
    let with = |max_cardinality| {
        let options = InferOptions {
            max_cardinality,
            ..InferOptions::default()
        };
        infer_schema(&path, options, None).unwrap().0.columns[1].data_type
    };
    assert_eq!(
        (with(6), with(5), with(0)),
        (DataType::Category, DataType::Str, DataType::Str)
    );
}

#[test]
fn columns_carry_range_bins_categories_and_id() {
    let schema = infer("Age,City\n10,b\n20,a\n15,b\n").unwrap();
    insta::assert_snapshot!(serde_json::to_string(&schema).unwrap(), @r#"{"schema_version":1,"columns":[{"id":"age","name":"Age","data_type":"int","min":10.0,"max":20.0,"categories":null,"bins":[10.0,11.0,12.0,13.0,14.0,15.0,16.0,17.0,18.0,19.0,20.0],"replace_with_nulls":null,"n_dimensions":null},{"id":"city","name":"City","data_type":"category","min":null,"max":null,"categories":["a","b"],"bins":null,"replace_with_nulls":null,"n_dimensions":null}]}"#);
    for (min, max) in [(f64::MIN, f64::MAX), (3.0, 3.0), (-1.0, 1e-9)] {
        let edges = bin_edges(min, max);
        assert!(edges.len() == 11 && edges.is_sorted() && edges.iter().all(|e| e.is_finite()));
        assert!(edges[0] <= min && edges[10] >= max);
    }
}

#[test]
fn the_spec_is_echoed() {
    let dir = tempfile::tempdir().unwrap();
    let path = csv(&dir, "a\n1\n");
    let spec = ModelSpec {
        inputs: vec!["a".into()],
        custom_features: vec![json!({"type": "X"})],
        ..ModelSpec::default()
    };
    let infer = |spec| {
        infer_schema(&path, InferOptions::default(), spec)
            .unwrap()
            .1
    };
    assert_eq!(infer(Some(&spec)), spec);
    assert_eq!(infer(None), ModelSpec::default());
}

#[test]
fn what_gives_no_schema_is_refused() {
    for text in [
        "",
        "a\n",
        "a,a\n1,2\n",
        "a,\n1,2\n",
        ",a\n0,1\n",
        "a,b\n1\n",
    ] {
        assert_eq!(
            infer(text).unwrap_err().code(),
            Code::BadRequest,
            "{text:?}"
        );
    }
}

#[test]
fn too_many_columns_are_refused() {
    let header: Vec<String> = (0..=crate::MAX_COLUMNS).map(|i| format!("c{i}")).collect();
    let error = infer(&format!("{}\n", header.join(","))).unwrap_err();
    assert_eq!(
        error.message(),
        "the file has 10001 columns, more than 10000"
    );
}

proptest! {
    #[test]
    fn csv_and_parquet_of_text_give_the_same_schema(
        values in prop::collection::vec(prop_oneof![
            any::<i32>().prop_map(|v| v.to_string()),
            any::<f64>().prop_map(|v| v.to_string()),
            any::<bool>().prop_map(|v| v.to_string()),
            "[a-zA-Z\", \\[\\]]{1,5}",
            Just("nan".to_owned()),
            Just("2024-02-29".to_owned()),
        ], 1..12),
        uniform in any::<bool>(),
    ) {
        let values: Vec<String> = if uniform { vec![values[0].clone(); values.len()] } else { values };
        let dir = tempfile::tempdir().unwrap();
        let lines: String = values.iter().map(|v| format!("\"{}\",1\n", v.replace('"', "\"\""))).collect();
        let text = infer_schema(&csv(&dir, format!("a,b\n{lines}")), InferOptions::default(), None).unwrap();
        let ones: ArrayRef = Arc::new(StringArray::from(vec!["1"; values.len()]));
        let batch = RecordBatch::try_from_iter([("a", Arc::new(StringArray::from(values)) as ArrayRef), ("b", ones)]).unwrap();
        let typed = infer_schema(&parquet(&dir, &batch), InferOptions::default(), None).unwrap();
        prop_assert_eq!(text, typed);
    }

    /// What the factory infers from a file, the file can be published with.
    #[test]
    fn a_file_fits_its_own_schema(values in prop::collection::vec(prop_oneof![
        "[0-9.eE+\\-:T nafiNo\\[\\]]{0,8}",
        any::<f64>().prop_map(|v| v.to_string()),
        any::<i64>().prop_map(|v| v.to_string()),
    ], 1..6)) {
        let dir = tempfile::tempdir().unwrap();
        let lines: String = values.iter().map(|v| format!("\"{v}\",x\n")).collect();
        let path = csv(&dir, format!("a,b\n{lines}"));
        let (schema, _) = infer_schema(&path, InferOptions::default(), None).unwrap();
        crate::canonicalise(&path, &schema, &[], &dir.path().join("out.parquet")).unwrap();
    }
}
