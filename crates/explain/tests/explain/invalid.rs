//! What is refused, and what the refusal says.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use luthier_explain::{Method, Problem, explain};
use luthier_types::{Code, Error};

use crate::harness::{FIDDLER, answer, batch, drive, problem, table};

fn valid() -> Problem {
    problem(&[1.0, 2.0], &[vec![0.0, 1.0]], 1, FIDDLER)
}

#[track_caller]
fn refused(problem: Problem, needle: &str) {
    let error = explain(problem).err().expect("the problem is accepted");
    assert_eq!(error.code(), Code::BadRequest);
    assert!(
        error.message().contains(needle),
        "`{error}` does not say `{needle}`"
    );
    assert!(error.next_step().is_some());
}

#[test]
fn problems_that_are_none() {
    assert!(explain(valid()).is_ok());
    refused(
        Problem {
            row: table(&[], 2),
            ..valid()
        },
        "0 were given",
    );
    refused(
        Problem {
            row: table(&[vec![1.0, 2.0], vec![1.0, 2.0]], 2),
            ..valid()
        },
        "2 were",
    );
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(1));
    let schema = Arc::new(arrow_schema::Schema::empty());
    let empty = RecordBatch::try_new_with_options(schema, vec![], &options);
    refused(
        Problem {
            row: empty.unwrap(),
            ..valid()
        },
        "no model inputs",
    );
    refused(
        Problem {
            outputs: vec![],
            ..valid()
        },
        "no model output",
    );
    for method in [
        FIDDLER,
        Method::Shap,
        Method::Permute {
            num_permutations: 1,
        },
        Method::MeanReset,
    ] {
        refused(
            Problem {
                method,
                reference: table(&[], 2),
                ..valid()
            },
            "there are none",
        );
    }
}

#[test]
fn parameters_out_of_range() {
    let fiddler = |num_permutations, ci_level| Problem {
        method: Method::FiddlerShap {
            num_permutations,
            ci_level,
        },
        ..valid()
    };
    for number in [0, 10_001, usize::MAX] {
        let said = format!("num_permutations is {number}");
        refused(fiddler(number, 0.95), &said);
        let permute = Method::Permute {
            num_permutations: number,
        };
        refused(
            Problem {
                method: permute,
                ..valid()
            },
            &said,
        );
    }
    assert!(explain(fiddler(10_000, 0.0)).is_ok());
    for level in [-0.1, 1.0, 95.0, f64::NAN, f64::INFINITY] {
        refused(fiddler(50, level), &format!("ci_level is {level}"));
    }
}

#[test]
fn references_of_another_shape() {
    let reference = |reference| Problem {
        reference,
        ..valid()
    };
    refused(
        reference(table(&[vec![1.0; 3]], 3)),
        "3 columns and the row 2",
    );
    refused(reference(table(&[vec![1.0]], 1)), "1 columns and the row 2");
    let column = || -> ArrayRef { Arc::new(Float64Array::from(vec![1.0])) };
    let named = batch([("f0".to_owned(), column()), ("g".to_owned(), column())]);
    refused(
        reference(named),
        "`g` (Float64) where the row has `f1` (Float64)",
    );
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let typed = batch([("f0".to_owned(), ints), ("f1".to_owned(), column())]);
    refused(
        reference(typed),
        "`f0` (Int64) where the row has `f0` (Float64)",
    );
}

#[track_caller]
fn invalid(answered: impl Fn(&RecordBatch) -> RecordBatch, needle: &str) {
    for method in [
        FIDDLER,
        Method::Shap,
        Method::Permute {
            num_permutations: 1,
        },
        Method::ZeroReset,
    ] {
        let error: Error = drive(Problem { method, ..valid() }, &answered).unwrap_err();
        assert_eq!(error.code(), Code::InvalidPrediction);
        assert!(
            error.message().contains(needle),
            "`{error}` does not say `{needle}`"
        );
        assert!(error.next_step().is_some());
    }
}

fn output(column: impl arrow_array::Array + 'static) -> RecordBatch {
    batch([("y0".to_owned(), Arc::new(column) as ArrayRef)])
}

#[test]
fn answers_that_are_none() {
    invalid(
        |rows| answer(&vec![vec![1.0]; rows.num_rows() + 1]),
        "answered",
    );
    invalid(
        |rows| answer(&vec![vec![1.0]; rows.num_rows() - 1]),
        "answered",
    );
    let other = |rows: &RecordBatch| {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0; rows.num_rows()]));
        batch([("score".to_owned(), column)])
    };
    invalid(other, "no column `y0`, only [\"score\"]");
    invalid(
        |rows| output(StringArray::from(vec!["1"; rows.num_rows()])),
        "`y0` is Utf8",
    );
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let last = |rows: &RecordBatch| {
            let mut values = vec![1.0; rows.num_rows()];
            *values.last_mut().unwrap() = value;
            output(Float64Array::from(values))
        };
        invalid(last, &format!("predicted {value} for the output `y0`"));
    }
    invalid(
        |rows| output(Int64Array::from(vec![None; rows.num_rows()])),
        "the output `y0`",
    );
}
