//! Machines that are stopped: what they tell is of what they were told.

use luthier_explain::{Explanation, Machine, Method, Problem, Stopped, explain};
use luthier_types::Code;
use proptest::prelude::*;

use crate::harness::{FIDDLER, answer, close, efficient, floats, nonlinear, problem, run};

const FEATURES: usize = 5;
const REFERENCES: usize = 40;

fn setting(method: Method, seed: u64) -> Problem {
    let x: Vec<f64> = (0..FEATURES)
        .map(|j| (1.3 * j as f64).sin() * 2.0)
        .collect();
    let references: Vec<Vec<f64>> = (0..REFERENCES)
        .map(|k| {
            (0..FEATURES)
                .map(|j| ((j * 5 + k * 11) as f64).cos())
                .collect()
        })
        .collect();
    Problem {
        seed,
        ..problem(&x, &references, 2, method)
    }
}

/// A machine that was told `rows` rows and stopped.
fn stopped(problem: Problem, rows: usize) -> Box<dyn Machine<Found = Explanation>> {
    let model = nonlinear(0.4);
    let mut machine = explain(problem).unwrap();
    // Asked for more than it is told.
    let ahead = machine.next_batch(rows).unwrap().unwrap();
    let _ = machine.next_batch(7).unwrap();
    let answers: Vec<_> = floats(&ahead).iter().map(|row| model(row)).collect();
    machine.tell(&answer(&answers)).unwrap();
    machine.stop();
    assert!(machine.next_batch(1).unwrap().is_none());
    machine
}

fn finished(method: Method, seed: u64, rows: usize) -> Explanation {
    stopped(setting(method, seed), rows).finish().unwrap()
}

#[test]
fn games_that_were_played_count_and_others_do_not() {
    // 31 rows per game, and the explained one.
    for (rows, done) in [(32, 1), (93, 2), (94, 3), (1 + 31 * 39, 39)] {
        for method in [FIDDLER, Method::Shap] {
            let found = finished(method, 3, rows);
            let of = REFERENCES;
            assert_eq!(found.stopped, Some(Stopped { done, of }));
            assert_eq!(found.rows_evaluated, rows as u64);
            // The baseline is that of these references.
            efficient(&found);
        }
    }
}

#[test]
fn told_everything_it_was_not_stopped() {
    for method in [
        FIDDLER,
        Method::Shap,
        Method::Permute {
            num_permutations: REFERENCES,
        },
        Method::ZeroReset,
    ] {
        let problem = setting(method.clone(), 3);
        let whole = run(problem.clone(), nonlinear(0.4));
        let mut machine = stopped(problem, whole.rows_evaluated as usize);
        machine.stop();
        assert_eq!(machine.finish().unwrap(), whole);
        assert_eq!(whole.stopped, None);
    }
}

#[test]
fn with_nothing_to_tell_it_says_so() {
    let permute = Method::Permute {
        num_permutations: REFERENCES,
    };
    for (method, rows) in [
        (FIDDLER, 31),
        (Method::Shap, 1),
        // Not every input has been drawn for.
        (permute, 2 * REFERENCES),
        (Method::ZeroReset, FEATURES),
        (Method::MeanReset, FEATURES),
    ] {
        let error = stopped(setting(method, 3), rows).finish().unwrap_err();
        assert_eq!(error.code(), Code::PredictTimeout);
    }
}

#[test]
fn references_that_equal_the_row_count_as_far_as_the_others() {
    let x = vec![1.0; 3];
    let other = [0.0, 2.0, 3.0];
    let references = [
        vec![x.clone(); 20],
        (0..20)
            .map(|k| other.iter().map(|v| v + f64::from(k) / 100.0).collect())
            .collect(),
    ]
    .concat();
    let model = |row: &[f64]| vec![row.iter().product::<f64>()];
    for method in [
        Method::Shap,
        Method::Permute {
            num_permutations: 400,
        },
    ] {
        let problem = problem(&x, &references, 1, method);
        let whole = run(problem.clone(), model);
        let mut machine = explain(problem).unwrap();
        let rows = machine.next_batch(65).unwrap().unwrap();
        let answers: Vec<_> = floats(&rows).iter().map(|row| model(row)).collect();
        machine.tell(&answer(&answers)).unwrap();
        machine.stop();
        let found = machine.finish().unwrap();
        assert!(found.stopped.is_some());
        // The others hardly differ, so neither do the means.
        close(
            &found.outputs[0].attributions,
            &whole.outputs[0].attributions,
            0.1,
        );
    }
}

#[test]
fn permute_has_something_to_tell_of_every_input_after_an_eighth() {
    let x = [0.3, -0.7, 1.1];
    let references: Vec<Vec<f64>> = (0..400)
        .map(|k| vec![f64::from(k % 97), f64::from(k % 89), f64::from(k)])
        .collect();
    let method = Method::Permute {
        num_permutations: 400,
    };
    let problem = problem(&x, &references, 1, method);
    let mut machine = explain(problem).unwrap();
    let rows = machine.next_batch(1 + 4 * 50 + 10).unwrap().unwrap();
    let answers: Vec<_> = floats(&rows)
        .iter()
        .map(|row| vec![row[0] + row[1] * row[2]])
        .collect();
    machine.tell(&answer(&answers)).unwrap();
    machine.stop();
    let found = machine.finish().unwrap();
    assert_eq!(found.stopped, Some(Stopped { done: 50, of: 400 }));
    assert!(found.outputs[0].uncertainties.is_some());
}

#[test]
fn intervals_of_the_stopped_cover_what_they_would_have_found() {
    // Over orders of the references: a 95 % interval misses 5 % of the time.
    let permute = Method::Permute {
        num_permutations: REFERENCES,
    };
    for (method, rows) in [
        (Method::Shap, 1 + 31 * 20),
        (permute, 1 + REFERENCES * FEATURES + 20),
    ] {
        let whole = run(setting(method.clone(), 0), nonlinear(0.4));
        let (mut within, mut all) = (0.0, 0.0);
        for seed in 0..300 {
            let found = finished(method.clone(), seed, rows);
            for (output, exact) in found.outputs.iter().zip(&whole.outputs) {
                let intervals = output.uncertainties.as_ref().unwrap();
                let values = output.attributions.iter().zip(&exact.attributions);
                for ((value, exact), half) in values.zip(intervals) {
                    if *half == 0.0 {
                        assert!((value - exact).abs() < 1e-9);
                        continue;
                    }
                    all += 1.0;
                    within += f64::from(u8::from((value - exact).abs() <= *half));
                }
            }
        }
        assert!(
            (0.92..0.98).contains(&(within / all)),
            "{method:?}: {}",
            within / all
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..Default::default() })]

    #[test]
    fn stopped_anywhere_it_adds_up_or_says_it_cannot(rows in 1_usize..1400, seed in any::<u64>()) {
        for method in [FIDDLER, Method::Shap] {
            match stopped(setting(method, seed), rows).finish() {
                Ok(found) => efficient(&found),
                Err(error) => prop_assert_eq!(error.code(), Code::PredictTimeout),
            }
        }
    }
}
