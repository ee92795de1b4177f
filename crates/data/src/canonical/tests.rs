//! Tests of publishing files.

use std::path::PathBuf;

use arrow_array::{
    DictionaryArray, Float64Array, Int64Array, StringArray, cast::AsArray, types::Int32Type,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{batch_to_rows, head_parquet, rows::tests::column};

pub(crate) fn csv(dir: &TempDir, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join("data.bin");
    fs_err::write(&path, text).unwrap();
    path
}

pub(crate) fn parquet(dir: &TempDir, batch: &RecordBatch) -> PathBuf {
    let path = dir.path().join("data.bin");
    let file = fs_err::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    path
}

fn schema() -> ModelSchema {
    ModelSchema {
        schema_version: 1,
        columns: vec![
            column("age", DataType::Float),
            column("n", DataType::Int),
            column("ok", DataType::Bool),
            column("city", DataType::Category),
            column("when", DataType::Timestamp),
            column("absent", DataType::Str),
        ],
    }
}

fn publish(dir: &TempDir, input: &Path) -> Result<(Published, String), Error> {
    let out = dir.path().join("out.parquet");
    let extra = ["id".to_owned(), "city".to_owned(), "nowhere".to_owned()];
    let result = canonicalise(input, &schema(), &extra, &out);
    assert!(!dir.path().join("out.partial").exists());
    assert_eq!(result.is_ok(), out.exists());
    let published = result?;
    let mut columns = schema().columns;
    columns.push(column("id", DataType::Str));
    let head = head_parquet(&out, &columns.iter().collect::<Vec<_>>(), usize::MAX)?;
    assert_eq!(published.rows, head.num_rows() as u64);
    Ok((
        published,
        serde_json::to_string(&batch_to_rows(&head)).unwrap(),
    ))
}

#[test]
fn csv_is_typed_and_ordered_by_the_schema() {
    let dir = tempfile::tempdir().unwrap();
    let text = "\u{feff}id,city,age,other,when,n,ok\r\n7,\"Rome, \"\"IT\"\"\",1,x,2024-01-02,3.0,True\r\n8,,,x,,,\r\n";
    let (published, rows) = publish(&dir, &csv(&dir, text)).unwrap();
    assert_eq!(published.columns, ["age", "n", "ok", "city", "when", "id"]);
    insta::assert_snapshot!(rows, @r#"[{"age":1.0,"n":3,"ok":true,"city":"Rome, \"IT\"","when":"2024-01-02T00:00:00.000000+00:00","absent":null,"id":"7"},{"age":null,"n":null,"ok":null,"city":null,"when":null,"absent":null,"id":"8"}]"#);
}

#[test]
fn typed_parquet_gives_the_same_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let city: DictionaryArray<Int32Type> = vec![Some("Rome"), None].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("city", Arc::new(city)),
        ("age", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("n", Arc::new(Float64Array::from(vec![3.0, f64::NAN]))),
        ("ok", Arc::new(StringArray::from(vec!["1", "False"]))),
        ("id", Arc::new(Int64Array::from(vec![7, 8]))),
        (
            "when",
            Arc::new(StringArray::from(vec!["1704153600", "NaT"])),
        ),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let (_, typed) = publish(&dir, &parquet(&dir, &batch)).unwrap();
    let text = "city,age,n,ok,id,when\nRome,1,3,1,7,1704153600\n,,,False,8,\n";
    let (_, text) = publish(&dir, &csv(&dir, text)).unwrap();
    assert_eq!(typed, text);
}

#[test]
fn a_value_that_does_not_fit_is_named_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..5000).map(|i| format!("{i}\n")).collect();
    let error = publish(&dir, &csv(&dir, format!("n\n{rows}3.5\n"))).unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);
    insta::assert_snapshot!(error.message(), @r#"row 5000: column `n` is "3.5", but a whole number is needed"#);
}

#[test]
fn what_is_no_table_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let message = |text: &[u8]| {
        let error = publish(&dir, &csv(&dir, text)).unwrap_err();
        assert_eq!(error.code(), Code::BadRequest, "{error:?}");
        error.message().to_owned()
    };
    insta::assert_snapshot!(message(b""), @"the data file is empty");
    insta::assert_snapshot!(message(b"\x1f\x8b\x08"), @"the data file is compressed with gzip, not CSV or Parquet");
    insta::assert_snapshot!(message(b"age\0"), @"the data file is binary, not CSV or Parquet");
    insta::assert_snapshot!(message(b"x,y\n1,2\n"), @"the file has none of the model's columns: it has x, y");
    insta::assert_snapshot!(message(b"n,n\n1,2\n"), @"the file has the column `n` twice");
    insta::assert_snapshot!(message(b"n,x\n1,2\n1,2,3\n"), @r#"the CSV file cannot be read: incorrect number of fields for line 3, expected 2 got 3"#);
    insta::assert_snapshot!(message(b"n\n\xff\xfe\n"), @r#"the CSV file cannot be read: Encountered invalid UTF-8 data for line 2 and field 1"#);
    insta::assert_snapshot!(message(b"PAR1 nonsense"), @r#"the Parquet file cannot be read: Parquet error: Invalid Parquet file. Corrupt footer"#);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        head in prop::sample::select(vec![&b""[..], b"n,age\n", b"PAR1"]),
        body in prop::collection::vec(any::<u8>(), 0..200),
        tail in prop::sample::select(vec![&b""[..], b"PAR1"]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let _ = publish(&dir, &csv(&dir, [head, &body, tail].concat()));
    }

    #[test]
    fn a_damaged_parquet_file_is_read_or_refused(places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let batch = crate::synthetic_rows(&schema().columns.iter().collect::<Vec<_>>(), 50).unwrap();
        let path = parquet(&dir, &batch);
        let mut bytes = fs_err::read(&path).unwrap();
        for (place, value) in places {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        fs_err::write(&path, &bytes).unwrap();
        let _ = publish(&dir, &path);
        let _ = crate::infer_schema(&path, crate::InferOptions::default(), None);
    }

    #[test]
    fn floats_survive_publishing(values in prop::collection::vec(any::<f64>().prop_filter("no NaN", |v| !v.is_nan()), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let text: String = values.iter().map(|v| format!("{v}\n")).collect();
        let out = dir.path().join("out.parquet");
        canonicalise(&csv(&dir, format!("age\n{text}")), &schema(), &[], &out).unwrap();
        let batch = head_parquet(&out, &[&column("age", DataType::Float)], usize::MAX).unwrap();
        let read: Vec<f64> = batch.column(0).as_primitive::<arrow_array::types::Float64Type>().values().to_vec();
        prop_assert_eq!(read, values);
    }
}
