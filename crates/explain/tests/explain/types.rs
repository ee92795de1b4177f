//! Columns of every type: what the model sees, missing values, and what the resets refuse.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeListArray, Float64Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray, UInt8Array,
    cast::AsArray,
    types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type},
};
use luthier_explain::{Method, Problem};
use luthier_types::Code;

use crate::harness::{FIDDLER, answer, batch, by_orders, close, drive, efficient, problem, run};

const REFERENCES: usize = 3;

/// The explained row, then the references.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    let categories: DictionaryArray<Int32Type> = [Some("red"), Some("blue"), None, Some("red")]
        .into_iter()
        .collect();
    let vectors = [Some([1.0, 2.0]), Some([0.0, 2.0]), None, Some([1.0, 2.0])];
    let vectors = vectors.map(|v| v.map(|v| v.map(Some)));
    let vectors = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(vectors, 2);
    vec![
        (
            "float",
            Arc::new(Float64Array::from(vec![0.5, f64::NAN, -1.0, 2.0])),
        ),
        (
            "int",
            Arc::new(Int64Array::from(vec![Some(3), Some(4), None, Some(3)])),
        ),
        (
            "bool",
            Arc::new(BooleanArray::from(vec![
                Some(true),
                Some(false),
                Some(true),
                None,
            ])),
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![
                Some("éa"),
                Some("b"),
                Some(""),
                None,
            ])),
        ),
        (
            "time",
            Arc::new(
                TimestampMicrosecondArray::from(vec![5_000_000, 0, 9, -7]).with_timezone("UTC"),
            ),
        ),
        ("category", Arc::new(categories)),
        ("vector", Arc::new(vectors)),
    ]
}

/// Row `source` of feature j from `picks[j]`.
fn pick(picks: &[usize]) -> RecordBatch {
    let columns = columns().into_iter().zip(picks);
    batch(columns.map(|((name, column), &at)| (name.to_owned(), column.slice(at, 1))))
}

fn rows(from: usize, len: usize) -> RecordBatch {
    batch(
        columns()
            .into_iter()
            .map(|(name, column)| (name.to_owned(), column.slice(from, len))),
    )
}

/// A model whose prediction depends on every value, its absence, and their products.
fn model(rows: &RecordBatch) -> Vec<Vec<f64>> {
    let (float, int) = (rows["float"].as_primitive::<Float64Type>(), &rows["int"]);
    let (int, flag) = (int.as_primitive::<Int64Type>(), rows["bool"].as_boolean());
    let time = rows["time"].as_primitive::<TimestampMicrosecondType>();
    let text = rows["text"].as_string::<i32>();
    let category = rows["category"].as_dictionary::<Int32Type>();
    let category = category.downcast_dict::<StringArray>().unwrap();
    let vector = rows["vector"].as_fixed_size_list();
    let of_row = |i: usize| {
        let values = [
            if float.value(i).is_nan() {
                9.0
            } else {
                float.value(i)
            },
            int.iter().nth(i).unwrap().map_or(-1.0, |v| v as f64),
            flag.iter().nth(i).unwrap().map_or(0.3, f64::from),
            text.iter().nth(i).unwrap().map_or(-2.0, |v| v.len() as f64),
            time.value(i) as f64 / 1e6,
            category
                .into_iter()
                .nth(i)
                .unwrap()
                .map_or(0.7, |v| v.len() as f64),
            vector
                .iter()
                .nth(i)
                .unwrap()
                .map_or(4.0, |v| v.as_primitive::<Float64Type>().value(0)),
        ];
        let pairs = values
            .iter()
            .zip(&values[1..])
            .map(|(a, b)| a * b)
            .sum::<f64>();
        vec![values.iter().sum::<f64>() + pairs, pairs.sin()]
    };
    (0..rows.num_rows()).map(of_row).collect()
}

fn mixed(method: Method) -> Problem {
    let row = rows(0, 1);
    let outputs = vec!["y0".to_owned(), "y1".to_owned()];
    Problem {
        row,
        reference: rows(1, REFERENCES),
        outputs,
        method,
        seed: 1,
    }
}

#[test]
fn shapley_values_over_mixed_types_are_exact() {
    let n = columns().len();
    let schema = rows(0, 1).schema();
    for method in [FIDDLER, Method::Shap] {
        let explanation = drive(mixed(method), |asked| {
            assert_eq!(asked.schema(), schema);
            answer(&model(asked))
        })
        .unwrap();
        efficient(&explanation);
        for (o, output) in explanation.outputs.iter().enumerate() {
            let value = |mask: usize, reference: usize| {
                let picks: Vec<_> = (0..n)
                    .map(|j| if mask >> j & 1 == 1 { 0 } else { reference })
                    .collect();
                model(&pick(&picks))[0][o]
            };
            let values: Vec<f64> = (0..1 << n)
                .map(|mask| (1..=REFERENCES).map(|k| value(mask, k)).sum::<f64>() / 3.0)
                .collect();
            close(&output.attributions, &by_orders(&values), 1e-12);
        }
    }
}

#[test]
fn permute_over_mixed_types_is_exact() {
    let method = Method::Permute {
        num_permutations: REFERENCES,
    };
    let explanation = drive(mixed(method), |asked| answer(&model(asked))).unwrap();
    let n = columns().len();
    let expected: Vec<f64> = (0..n)
        .map(|j| {
            let with = |k: usize| {
                let picks: Vec<_> = (0..n).map(|i| if i == j { k } else { 0 }).collect();
                model(&pick(&picks))[0][0]
            };
            model(&pick(&vec![0; n]))[0][0] - (with(1) + with(2) + with(3)) / 3.0
        })
        .collect();
    close(&explanation.outputs[0].attributions, &expected, 1e-12);
}

#[test]
fn missing_on_both_sides_is_no_difference() {
    let column = |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let floats = |values: Vec<f64>| -> ArrayRef { Arc::new(Float64Array::from(values)) };
    let table = |n: usize| {
        batch([
            ("null".to_owned(), column(vec![None; n])),
            ("nan".to_owned(), floats(vec![f64::NAN; n])),
            (
                "other".to_owned(),
                floats((0..n).map(|i| i as f64 - 3.0).collect()),
            ),
        ])
    };
    let missing = |asked: &RecordBatch| {
        assert_eq!(asked["null"].null_count(), asked.num_rows());
        assert!(
            asked["nan"]
                .as_primitive::<Float64Type>()
                .values()
                .iter()
                .all(|v| v.is_nan())
        );
        let other = asked["other"].as_primitive::<Float64Type>().values().iter();
        answer(&other.map(|v| vec![v * 2.0]).collect::<Vec<_>>())
    };
    for method in [
        FIDDLER,
        Method::Shap,
        Method::Permute {
            num_permutations: 4,
        },
    ] {
        let problem = problem(&[0.0], &[], 1, method);
        let problem = Problem {
            row: table(1),
            reference: table(5),
            ..problem
        };
        let attributions = drive(problem, missing)
            .unwrap()
            .outputs
            .swap_remove(0)
            .attributions;
        assert_eq!(attributions[..2], [0.0, 0.0]);
        assert_ne!(attributions[2], 0.0);
    }
}

#[test]
fn nan_against_a_number_is_attributed() {
    let model = |row: &[f64]| vec![if row[0].is_nan() { 10.0 } else { row[0] } + row[1]];
    let x = [f64::NAN, 1.0];
    let references = [vec![2.0, 1.0], vec![f64::NAN, 0.0]];
    for method in [FIDDLER, Method::Shap] {
        let explanation = run(problem(&x, &references, 1, method), model);
        close(&explanation.outputs[0].attributions, &[4.0, 0.5], 1e-13);
    }
}

#[test]
fn resets_keep_integer_columns_integers() {
    let table = |ints: Vec<Option<i64>>, bytes: Vec<u8>| {
        batch([
            (
                "int".to_owned(),
                Arc::new(Int64Array::from(ints)) as ArrayRef,
            ),
            (
                "byte".to_owned(),
                Arc::new(UInt8Array::from(bytes)) as ArrayRef,
            ),
        ])
    };
    let model = |asked: &RecordBatch| {
        let ints = asked["int"].as_primitive::<Int64Type>().values().iter();
        let bytes = asked["byte"].as_primitive::<UInt8Type>().values().iter();
        answer(
            &ints
                .zip(bytes)
                .map(|(i, b)| vec![*i as f64 + f64::from(*b)])
                .collect::<Vec<_>>(),
        )
    };
    let problem = Problem {
        row: table(vec![Some(100)], vec![100]),
        // Means -3.5, which rounds up, and 254.67.
        reference: table(vec![Some(-3), None, Some(-4)], vec![255, 255, 254]),
        ..problem(&[0.0], &[], 1, Method::MeanReset)
    };
    let reset = drive(problem.clone(), model)
        .unwrap()
        .outputs
        .swap_remove(0);
    assert_eq!(reset.attributions, [103.0, -155.0]);
    assert_eq!(reset.baseline_prediction, 252.0);
    let zero = drive(
        Problem {
            method: Method::ZeroReset,
            ..problem
        },
        model,
    )
    .unwrap();
    assert_eq!(zero.outputs[0].attributions, [100.0, 100.0]);
    assert_eq!(zero.outputs[0].baseline_prediction, 0.0);
}

#[test]
fn resets_refuse_what_has_no_zero_and_no_mean() {
    for (name, column) in columns() {
        for method in [Method::ZeroReset, Method::MeanReset] {
            let problem = Problem {
                row: batch([(name.to_owned(), column.slice(0, 1))]),
                reference: batch([(name.to_owned(), column.slice(1, 3))]),
                ..mixed(method)
            };
            let result = luthier_explain::explain(problem);
            if ["float", "int"].contains(&name) {
                assert!(result.is_ok(), "{name}");
                continue;
            }
            let error = result.err().unwrap();
            assert_eq!(error.code(), Code::BadRequest);
            assert!(error.message().contains(&format!("`{name}`")), "{error}");
            assert!(
                error
                    .next_step()
                    .unwrap()
                    .contains("FIDDLER_SHAP or PERMUTE")
            );
        }
    }
}
