//! The order of asking and telling, the size of batches, and what counts as an answer.

use std::{collections::VecDeque, sync::Arc};

use arrow_array::{ArrayRef, BooleanArray, Float32Array, Int64Array, RecordBatch};
use luthier_explain::{Method, Problem, explain};
use luthier_types::Code;

use crate::harness::{
    FIDDLER, answer, batch, close, drive, drive_by, floats, nonlinear, problem, run,
};

fn setting(method: Method) -> Problem {
    problem(
        &[1.0, -2.0, 0.5],
        &[vec![0.0, 1.0, 2.0], vec![3.0, -2.0, 0.1]],
        2,
        method,
    )
}

fn predict(rows: &RecordBatch) -> RecordBatch {
    answer(
        &floats(rows)
            .iter()
            .map(|row| nonlinear(0.3)(row))
            .collect::<Vec<_>>(),
    )
}

fn methods() -> [Method; 5] {
    let permute = Method::Permute {
        num_permutations: 9,
    };
    [
        FIDDLER,
        Method::Shap,
        permute,
        Method::ZeroReset,
        Method::MeanReset,
    ]
}

#[test]
fn batches_are_bounded_and_never_empty() {
    for method in methods() {
        let mut sizes = vec![];
        let explanation = drive_by(4, setting(method), |rows| {
            sizes.push(rows.num_rows());
            predict(rows)
        })
        .unwrap();
        let (last, others) = sizes.split_last().unwrap();
        assert!(
            others.iter().all(|&size| size == 4) && (1..=4).contains(last),
            "{sizes:?}"
        );
        assert_eq!(
            explanation.rows_evaluated,
            sizes.iter().sum::<usize>() as u64
        );
    }
}

#[test]
fn several_batches_may_be_in_flight() {
    for method in methods() {
        let expected = run(setting(method.clone()), nonlinear(0.3));
        let mut machine = explain(setting(method)).unwrap();
        let mut waiting = VecDeque::new();
        while let Some(rows) = machine.next_batch(2).unwrap() {
            waiting.push_back(rows);
            if waiting.len() == 3 {
                machine
                    .tell(&predict(&waiting.pop_front().unwrap()))
                    .unwrap();
            }
        }
        for rows in waiting {
            machine.tell(&predict(&rows)).unwrap();
        }
        assert_eq!(machine.finish().unwrap(), expected);
    }
}

#[test]
fn the_end_stays_the_end() {
    let mut machine = explain(setting(Method::ZeroReset)).unwrap();
    let rows = machine.next_batch(64).unwrap().unwrap();
    assert!(machine.next_batch(64).unwrap().is_none());
    machine.tell(&predict(&rows)).unwrap();
    assert!(machine.next_batch(64).unwrap().is_none());
    assert!(machine.finish().is_ok());
}

#[test]
fn a_machine_driven_out_of_order_says_so() {
    for method in methods() {
        let mut machine = explain(setting(method.clone())).unwrap();
        assert_eq!(
            machine.tell(&answer(&[vec![1.0, 1.0]])).unwrap_err().code(),
            Code::Internal
        );
        assert_eq!(machine.finish().unwrap_err().code(), Code::Internal);

        let mut machine = explain(setting(method)).unwrap();
        while machine.next_batch(64).unwrap().is_some() {}
        assert_eq!(machine.finish().unwrap_err().code(), Code::Internal);
    }
}

#[test]
fn outputs_are_found_by_name_in_any_numeric_type() {
    let problem = Problem {
        outputs: ["small", "whole", "flag"].map(str::to_owned).to_vec(),
        ..setting(Method::Shap)
    };
    let explanation = drive(problem, |rows| {
        let rows = floats(rows);
        let of = |f: fn(&[f64]) -> f64| rows.iter().map(move |row| f(row));
        let flags: BooleanArray = of(|r| r[0]).map(|v| Some(v > 0.5)).collect();
        let whole: Int64Array = of(|r| r[1]).map(|v| Some(10 * v as i64)).collect();
        let small: Float32Array = of(|r| r[2]).map(|v| Some(v as f32)).collect();
        batch([
            (
                "unasked".to_owned(),
                Arc::new(arrow_array::NullArray::new(rows.len())) as ArrayRef,
            ),
            ("flag".to_owned(), Arc::new(flags)),
            ("whole".to_owned(), Arc::new(whole)),
            ("small".to_owned(), Arc::new(small)),
        ])
    })
    .unwrap();
    let [small, whole, flag] = &explanation.outputs[..] else {
        unreachable!()
    };
    assert_eq!(
        [&small.output, &whole.output, &flag.output],
        ["small", "whole", "flag"]
    );
    close(&small.attributions, &[0.0, 0.0, 0.5 - 1.05], 1e-7);
    close(&whole.attributions, &[0.0, -20.0 - -5.0, 0.0], 1e-13);
    close(&flag.attributions, &[0.5, 0.0, 0.0], 1e-13);
}

#[test]
fn one_feature_gets_the_whole_difference() {
    for method in [
        FIDDLER,
        Method::Shap,
        Method::Permute {
            num_permutations: 2,
        },
    ] {
        let explanation = run(problem(&[3.0], &[vec![1.0], vec![2.0]], 1, method), |row| {
            vec![row[0].powi(2)]
        });
        close(&explanation.outputs[0].attributions, &[9.0 - 2.5], 1e-14);
    }
}
