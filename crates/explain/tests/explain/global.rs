//! Impact and importance against their definitions.

use luthier_explain::{Global, GlobalProblem, Loss, Machine, Measure, measure};
use luthier_types::{Code, Error};
use proptest::prelude::*;

use crate::{
    harness::{answer, close, floats, nonlinear, table},
    shapley::instances,
};

fn problem(rows: &[Vec<f64>], references: &[Vec<f64>], measure: Measure) -> GlobalProblem {
    let features = rows[0].len();
    let outputs = match measure {
        Measure::Impact => 2,
        Measure::Importance(_) => 1,
    };
    GlobalProblem {
        rows: table(rows, features),
        reference: table(references, features),
        outputs: (0..outputs).map(|o| format!("y{o}")).collect(),
        measure,
        iterations: rows.len(),
        ci_level: 0.95,
        seed: 7,
    }
}

/// Measures, with a model of rows, asking ahead.
fn run(problem: GlobalProblem, model: impl Fn(&[f64]) -> Vec<f64>) -> Global {
    let mut machine = measure(problem).unwrap();
    while let Some(rows) = machine.next_batch(13).unwrap() {
        tell(&mut *machine, &rows, &model);
    }
    machine.finish().unwrap()
}

fn tell(
    machine: &mut dyn Machine<Found = Global>,
    rows: &arrow_array::RecordBatch,
    model: &impl Fn(&[f64]) -> Vec<f64>,
) {
    let answers: Vec<_> = floats(rows).iter().map(|row| model(row)).collect();
    machine.tell(&answer(&answers)).unwrap();
}

fn with(row: &[f64], feature: usize, value: f64) -> Vec<f64> {
    let mut row = row.to_vec();
    row[feature] = value;
    row
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..Default::default() })]

    #[test]
    fn with_one_reference_they_are_the_definition((r, rows, salt) in instances(1..=6)) {
        let model = nonlinear(salt);
        let found = run(problem(&rows, std::slice::from_ref(&r), Measure::Impact), &model);
        prop_assert_eq!((found.rows, found.cycles), (rows.len(), 1));
        for (output, measured) in found.measured.iter().enumerate() {
            let of = |row: &[f64]| model(row)[output];
            prop_assert_eq!(measured.output.as_ref().unwrap(), &format!("y{output}"));
            let expected: Vec<f64> = (0..r.len())
                .map(|j| mean(rows.iter().map(|x| (of(x) - of(&with(x, j, r[j]))).abs())))
                .collect();
            close(&measured.values, &expected, 1e-12);
            close(&[measured.mean], &[mean(rows.iter().map(|x| of(x)))], 1e-12);
            prop_assert_eq!(&measured.fixed_sample_ci, &None);
        }

        let targets: Vec<f64> = (0..rows.len()).map(|i| i as f64).collect();
        let importance = Measure::Importance(Loss::Squared(targets.clone()));
        let found = run(problem(&rows, std::slice::from_ref(&r), importance), &model);
        let loss = |i: usize, row: &[f64]| (targets[i] - model(row)[0]).powi(2);
        let expected: Vec<f64> = (0..r.len())
            .map(|j| mean((0..rows.len()).map(|i| {
                loss(i, &with(&rows[i], j, r[j])) - loss(i, &rows[i])
            })))
            .collect();
        close(&found.measured[0].values, &expected, 1e-9);
        prop_assert_eq!(&found.measured[0].output, &None);
    }
}

/// 40 rows and 25 references of three inputs, the last of which does nothing.
fn many() -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let row = |k: usize| (0..3).map(|j| ((j * 7 + k * 3) as f64).sin()).collect();
    let reference = |k: usize| (0..3).map(|j| ((j * 5 + k * 11) as f64).cos()).collect();
    ((0..40).map(row).collect(), (0..25).map(reference).collect())
}

fn model(row: &[f64]) -> Vec<f64> {
    vec![row[0].powi(2) - row[1], row[0] * row[1]]
}

fn exact_impact(rows: &[Vec<f64>], references: &[Vec<f64>], output: usize) -> Vec<f64> {
    let of = |row: &[f64]| model(row)[output];
    let change = |x: &[f64], j: usize| {
        mean(
            references
                .iter()
                .map(|r| (of(x) - of(&with(x, j, r[j]))).abs()),
        )
    };
    (0..3)
        .map(|j| mean(rows.iter().map(|x| change(x, j))))
        .collect()
}

#[test]
fn intervals_over_draws_cover_the_exact_value() {
    let (rows, references) = many();
    let (mut within, mut all, mut wider) = (0.0, 0.0, 0.0);
    for seed in 0..400 {
        let problem = GlobalProblem {
            iterations: 4 * rows.len() + 3,
            seed,
            ..problem(&rows, &references, Measure::Impact)
        };
        let found = run(problem, model);
        assert_eq!(found.cycles, 4);
        for (output, measured) in found.measured.iter().enumerate() {
            let exact = exact_impact(&rows, &references, output);
            let fixed = measured.fixed_sample_ci.as_ref().unwrap();
            assert_eq!((measured.values[2], fixed[2]), (0.0, 0.0));
            for j in 0..2 {
                all += 1.0;
                within += f64::from(u8::from((measured.values[j] - exact[j]).abs() <= fixed[j]));
                // Rows differ as well.
                wider += measured.random_sample_ci.as_ref().unwrap()[j] - fixed[j];
            }
        }
    }
    assert!((0.92..0.98).contains(&(within / all)), "{}", within / all);
    assert!(wider > 0.0, "{wider}");
}

#[test]
fn what_changes_nothing_is_not_asked_and_more_rows_than_draws_are_left_out() {
    let rows = vec![vec![1.0, 2.0, 3.0]; 10];
    let references = [vec![1.0, 0.0, 3.0]];
    let problem = GlobalProblem {
        iterations: 4,
        ..problem(&rows, &references, Measure::Impact)
    };
    let found = run(problem, model);
    // Each as it is, and with the second input.
    assert_eq!((found.rows, found.of, found.rows_evaluated), (4, 4, 8));
    close(&found.measured[0].values, &[0.0, 2.0, 0.0], 1e-12);
    assert_eq!(found.measured[0].mean_ci, Some(0.0));
}

#[test]
fn stopped_it_tells_of_the_rows_it_has_done() {
    let (rows, references) = many();
    let mut machine = measure(problem(&rows, &references, Measure::Impact)).unwrap();
    let asked = machine.next_batch(20).unwrap().unwrap();
    tell(&mut *machine, &asked, &model);
    machine.stop();
    let found = machine.finish().unwrap();
    assert_eq!((found.rows, found.of, found.rows_evaluated), (5, 40, 20));
    // In an order of its own, which the seed decides.
    let whole = run(problem(&rows, &references, Measure::Impact), model);
    let five = GlobalProblem {
        iterations: 5,
        ..problem(&rows, &references, Measure::Impact)
    };
    assert_eq!(found.measured, run(five, model).measured);
    assert_ne!(found.measured, whole.measured);

    let mut machine = measure(problem(&rows, &references, Measure::Impact)).unwrap();
    let asked = machine.next_batch(3).unwrap().unwrap();
    tell(&mut *machine, &asked, &model);
    machine.stop();
    assert_eq!(machine.finish().unwrap_err().code(), Code::PredictTimeout);
}

#[test]
fn log_losses_are_of_the_probability_given_to_what_was_true() {
    let rows = [vec![0.2], vec![0.8]];
    let p = |row: &[f64]| vec![row[0]];
    let loss = Measure::Importance(Loss::BinaryLog(vec![true, false]));
    let found = run(problem(&rows, &[vec![0.5]], loss), p);
    close(&[found.measured[0].mean], &[-(0.2_f64.ln())], 1e-12);
    close(
        &found.measured[0].values,
        &[0.2_f64.ln() - 0.5_f64.ln()],
        1e-12,
    );

    let two = |row: &[f64]| vec![row[0], 1.0 - row[0]];
    let loss = Measure::Importance(Loss::ClassLog(vec![1, 0]));
    let problem = GlobalProblem {
        outputs: vec!["y0".to_owned(), "y1".to_owned()],
        ..problem(&rows, &[vec![0.5]], loss)
    };
    let found = run(problem, two);
    assert_eq!(found.measured.len(), 1);
    close(&[found.measured[0].mean], &[-(0.8_f64.ln())], 1e-12);
    // A probability of 0 for what was true has a loss that is finite.
    let sure = Measure::Importance(Loss::BinaryLog(vec![true]));
    let found = run(self::problem(&[vec![0.0]], &[vec![0.5]], sure), p);
    assert!(found.measured[0].mean.is_finite());
}

#[test]
fn what_is_not_a_problem_is_refused() {
    let (rows, references) = many();
    let valid = || problem(&rows, &references, Measure::Impact);
    let none = |batch: &arrow_array::RecordBatch| batch.slice(0, 0);
    let refused = |problem: GlobalProblem, text: &str| {
        let error: Error = measure(problem).err().unwrap();
        assert_eq!(error.code(), Code::BadRequest);
        assert!(error.message().contains(text), "{error}");
    };
    refused(
        GlobalProblem {
            rows: none(&valid().rows),
            ..valid()
        },
        "0 rows",
    );
    refused(
        GlobalProblem {
            reference: none(&valid().reference),
            ..valid()
        },
        "0 reference",
    );
    refused(
        GlobalProblem {
            reference: table(&[vec![1.0]], 1),
            ..valid()
        },
        "same inputs",
    );
    refused(
        GlobalProblem {
            outputs: vec![],
            ..valid()
        },
        "no model output",
    );
    refused(
        GlobalProblem {
            iterations: 0,
            ..valid()
        },
        "num_iterations",
    );
    refused(
        GlobalProblem {
            ci_level: 1.0,
            ..valid()
        },
        "ci_level",
    );
    let short = Measure::Importance(Loss::Squared(vec![1.0]));
    refused(problem(&rows, &references, short), "1 targets");
    let other = Measure::Importance(Loss::ClassLog(vec![7; 40]));
    refused(problem(&rows, &references, other), "targets");
}
