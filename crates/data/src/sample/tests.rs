//! Tests of samples and made-up rows.

use arrow_array::{cast::AsArray, types::Int64Type};
use luthier_types::ModelSchema;
use proptest::prelude::*;

use super::*;
use crate::{batch_to_rows, canonical::tests::csv, canonicalise, rows::tests::column};

#[test]
fn samples_are_seeded_distinct_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..70_000).map(|i| format!("{i}\n")).collect();
    let schema = ModelSchema {
        schema_version: 1,
        columns: vec![column("i", DataType::Int)],
    };
    let out = dir.path().join("out.parquet");
    canonicalise(&csv(&dir, format!("i\n{rows}")), &schema, &[], &out).unwrap();
    let (i, absent) = (
        column("i", DataType::Int),
        column("absent", DataType::Float),
    );
    let sample = |n, seed| {
        let batch = sample_parquet(&out, &[&absent, &i], n, seed).unwrap();
        assert_eq!(batch.column(0).null_count(), batch.num_rows());
        batch
            .column(1)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    };
    let first = sample(200, 1);
    assert_eq!(first.len(), 200);
    assert!(first.is_sorted_by(|a, b| a < b));
    assert_eq!(first, sample(200, 1));
    assert_ne!(first, sample(200, 2));
    assert!(
        first.iter().any(|v| *v > 65_536),
        "rows of the last row group take part"
    );
    assert_eq!(sample(1_000_000, 1).len(), 70_000);
    assert_eq!(sample(0, 1).len(), 0);
    let head = head_parquet(&out, &[&i], 3).unwrap();
    assert_eq!(
        head.column(0).as_primitive::<Int64Type>().values(),
        &[0, 1, 2]
    );
}

#[test]
fn made_up_rows_fit_every_type() {
    let mut columns: Vec<Column> = [
        ("f", DataType::Float),
        ("i", DataType::Int),
        ("b", DataType::Bool),
        ("s", DataType::Str),
        ("c", DataType::Category),
        ("t", DataType::Timestamp),
        ("v", DataType::Vector),
        ("ranged", DataType::Int),
        ("huge", DataType::Float),
    ]
    .map(|(name, t)| column(name, t))
    .into();
    columns[4].categories = Some(vec![Value::from(3), Value::from("x")]);
    columns[6].n_dimensions = Some(2);
    (columns[7].min, columns[7].max) = (Some(1.0), Some(4.0));
    (columns[8].min, columns[8].max) = (Some(f64::MAX), Some(f64::MAX));
    let rows = synthetic_rows(&columns.iter().collect::<Vec<_>>(), 3).unwrap();
    let text: Vec<String> = batch_to_rows(&rows)
        .iter()
        .map(|row| serde_json::to_string(row).unwrap())
        .collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    {"f":5.5,"i":5,"b":true,"s":"mock_value","c":"3","t":"2024-01-01T00:00:00.000000+00:00","v":[0.5,0.5],"ranged":3,"huge":1.7976931348623157e+308}
    {"f":6.5,"i":6,"b":false,"s":"mock_value","c":"x","t":"2024-01-02T00:00:00.000000+00:00","v":[1.5,1.5],"ranged":2,"huge":1.7976931348623157e+308}
    {"f":7.5,"i":7,"b":true,"s":"mock_value","c":"3","t":"2024-01-03T00:00:00.000000+00:00","v":[2.5,2.5],"ranged":3,"huge":1.7976931348623157e+308}
    "#);
}

proptest! {
    #[test]
    fn exactly_n_rows_are_picked(total in 0usize..500, n in 0usize..600, seed: u64) {
        let ranges = pick(total, n, seed);
        prop_assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), n.min(total));
        prop_assert!(ranges.is_sorted_by(|a, b| a.end < b.start));
        prop_assert!(ranges.last().is_none_or(|r| r.end <= total));
    }
}

#[test]
fn every_row_is_picked_equally_often() {
    let mut counts = [0_u32; 10];
    for seed in 0..4000 {
        for row in pick(10, 3, seed).into_iter().flatten() {
            counts[row] += 1;
        }
    }
    // 1200 expected; the standard deviation is 29.
    assert!(
        counts.iter().all(|c| (1050..1350).contains(c)),
        "{counts:?}"
    );
}
