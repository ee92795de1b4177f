//! Closed forms: PERMUTE, the resets, and the uncertainty of FIDDLER_SHAP.

use luthier_explain::{Explanation, Method, Problem};

use crate::harness::{FIDDLER, close, problem, run};

fn references() -> Vec<Vec<f64>> {
    vec![
        vec![1.0, 10.0, -2.0],
        vec![3.0, 20.0, 0.5],
        vec![8.0, 60.0, 3.0],
    ]
}

const X: [f64; 3] = [5.0, 20.0, -1.0];

fn product(row: &[f64]) -> Vec<f64> {
    vec![row[0] * row[1] + row[2], row[2].exp()]
}

fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.into_iter().collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// f(x) minus the mean of f with feature j from each of `donors`.
fn ablated(j: usize, output: usize, donors: &[Vec<f64>]) -> f64 {
    product(&X)[output]
        - mean(donors.iter().map(|r| {
            let mut row = X;
            row[j] = r[j];
            product(&row)[output]
        }))
}

fn check_ablation(explanation: &Explanation, donors: &[Vec<f64>]) {
    for (o, output) in explanation.outputs.iter().enumerate() {
        assert_eq!(output.output, format!("y{o}"));
        let expected: Vec<f64> = (0..3).map(|j| ablated(j, o, donors)).collect();
        close(&output.attributions, &expected, 1e-13);
        close(&[output.model_prediction], &[product(&X)[o]], 0.0);
        close(
            &[output.baseline_prediction],
            &[mean(donors.iter().map(|r| product(r)[o]))],
            1e-13,
        );
        assert_eq!(output.uncertainties, None);
    }
    assert_eq!(explanation.ci_level, None);
}

#[test]
fn permute_over_the_whole_reference_is_its_mean() {
    for rounds in [1, 4] {
        let method = Method::Permute {
            num_permutations: 3 * rounds,
        };
        let explanation = run(problem(&X, &references(), 2, method), product);
        check_ablation(&explanation, &references());
        assert_eq!(explanation.num_refs, Some(3));
        assert_eq!(explanation.num_permutations, Some(3 * rounds));
        // The row, 3 references, and what differs from the row: 3 + 2 + 3 values.
        assert_eq!(explanation.rows_evaluated, 12);
    }
}

#[test]
fn permute_draws_without_replacement() {
    // Powers of two, so that a sum tells its terms.
    let references: Vec<Vec<f64>> = (0..20).map(|k| vec![f64::from(1 << k); 2]).collect();
    for (draws, whole_rounds) in [(1, 0), (7, 0), (19, 0), (20, 1), (47, 2)] {
        let method = Method::Permute {
            num_permutations: draws,
        };
        let explanation = run(problem(&[0.0, 0.0], &references, 1, method), |row| {
            vec![row[1]]
        });
        let output = &explanation.outputs[0];
        assert_eq!(output.attributions[0], 0.0);
        let sum = (-output.attributions[1] * draws as f64).round() as u64;
        let rest = sum - whole_rounds * ((1 << 20) - 1);
        assert_eq!(
            rest.count_ones() as usize,
            draws % 20,
            "{draws} draws: {rest:b}"
        );
        close(
            &[output.baseline_prediction],
            &[f64::from((1 << 20) - 1) / 20.0],
            1e-13,
        );
    }
}

#[test]
fn mean_reset_is_the_difference_to_the_mean() {
    let means: Vec<f64> = (0..3)
        .map(|j| mean(references().iter().map(|r| r[j])))
        .collect();
    let explanation = run(problem(&X, &references(), 2, Method::MeanReset), product);
    check_ablation(&explanation, &[means]);
    assert_eq!(
        (explanation.num_refs, explanation.num_permutations),
        (Some(3), None)
    );
    assert_eq!(explanation.rows_evaluated, 5);
}

#[test]
fn zero_reset_is_the_difference_to_zero_and_needs_no_reference() {
    let explanation = run(problem(&X, &[], 2, Method::ZeroReset), product);
    check_ablation(&explanation, &[vec![0.0; 3]]);
    assert_eq!(
        (explanation.num_refs, explanation.num_permutations),
        (None, None)
    );
    assert_eq!(explanation.rows_evaluated, 5);
}

#[test]
fn the_mean_leaves_missing_values_out() {
    let references = vec![
        vec![1.0, f64::NAN],
        vec![f64::NAN, f64::NAN],
        vec![4.0, f64::NAN],
    ];
    let model = |row: &[f64]| vec![row[0] + if row[1].is_nan() { 100.0 } else { row[1] }];
    let explanation = run(
        problem(&[5.0, 7.0], &references, 1, Method::MeanReset),
        model,
    );
    close(&explanation.outputs[0].attributions, &[2.5, -93.0], 1e-13);
    close(
        &[explanation.outputs[0].baseline_prediction],
        &[102.5],
        1e-13,
    );
}

#[test]
fn uncertainty_is_the_normal_interval_of_the_mean() {
    // With f(x) = 2 x0 + x1 the attributions of the games are 2 (5 - r0) and 20 - r1.
    let explanation = run(problem(&X, &references(), 1, FIDDLER), |row| {
        vec![2.0 * row[0] + row[1]]
    });
    let half_width = |values: [f64; 3]| {
        let mean = mean(values);
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2.0;
        1.959_963_984_540_054 * (variance / 3.0).sqrt()
    };
    let expected = [
        half_width([8.0, 4.0, -6.0]),
        half_width([10.0, 0.0, -40.0]),
        0.0,
    ];
    close(
        explanation.outputs[0].uncertainties.as_ref().unwrap(),
        &expected,
        1e-8,
    );
    assert_eq!(explanation.ci_level, Some(0.95));
    assert_eq!(
        (explanation.num_refs, explanation.num_permutations),
        (Some(3), Some(300))
    );
}

#[test]
fn uncertainty_follows_the_level() {
    let width = |ci_level| {
        let method = Method::FiddlerShap {
            num_permutations: 50,
            ci_level,
        };
        let explanation = run(problem(&X, &references(), 1, method), product);
        explanation.outputs[0].uncertainties.as_ref().unwrap()[0]
    };
    assert_eq!(width(0.0), 0.0);
    assert!(width(0.5) < width(0.9) && width(0.9) < width(0.999));
    assert!(width(1.0 - f64::EPSILON).is_finite());
    close(
        &[width(0.9) / width(0.5)],
        &[1.644_853_627 / 0.674_489_750],
        1e-7,
    );
}

#[test]
fn one_reference_has_no_uncertainty_and_a_repeated_one_none_to_speak_of() {
    let one = &references()[..1];
    let uncertainties = |references: &[Vec<f64>]| {
        run(problem(&X, references, 2, FIDDLER), product)
            .outputs
            .swap_remove(1)
            .uncertainties
    };
    assert_eq!(uncertainties(one), None);
    close(
        &uncertainties(&[one, one].concat()).unwrap(),
        &[0.0; 3],
        1e-12,
    );
}

#[test]
fn a_reference_that_equals_the_row_counts_as_a_game_of_nothing() {
    let with_x = [vec![X.to_vec()], references()].concat();
    let without = run(problem(&X, &references(), 1, FIDDLER), product);
    for method in [FIDDLER, Method::Shap] {
        let explanation = run(problem(&X, &with_x, 1, method), product);
        assert_eq!(explanation.num_refs, Some(4));
        let expected: Vec<f64> = without.outputs[0]
            .attributions
            .iter()
            .map(|v| v * 3.0 / 4.0)
            .collect();
        close(&explanation.outputs[0].attributions, &expected, 1e-12);
    }
    // Nothing but the row itself: one row asked, nothing attributed.
    for method in [
        FIDDLER,
        Method::Shap,
        Method::Permute {
            num_permutations: 5,
        },
    ] {
        let explanation = run(problem(&X, &vec![X.to_vec(); 3], 1, method), product);
        assert_eq!(explanation.rows_evaluated, 1);
        assert_eq!(explanation.outputs[0].attributions, [0.0; 3]);
        assert_eq!(explanation.outputs[0].baseline_prediction, product(&X)[0]);
    }
}

#[test]
fn features_that_agree_with_a_reference_cost_nothing() {
    // 20 features of which 3 differ: 2^3 - 1 predictions besides the row's own.
    let x = vec![1.0; 20];
    let mut reference = x.clone();
    reference[4..7].fill(0.0);
    let sum = |row: &[f64]| vec![row.iter().sum::<f64>().powi(2)];
    for method in [FIDDLER, Method::Shap] {
        let explanation = run(problem(&x, &[reference.clone()], 1, method), sum);
        assert_eq!(explanation.rows_evaluated, 8);
    }
}

#[test]
fn the_receipt_reads_back() {
    let problem = Problem {
        seed: 99,
        ..problem(&X, &references(), 1, FIDDLER)
    };
    let explanation = run(problem, |row| vec![row[0]]);
    assert_eq!(explanation.seed, 99);
    let text = serde_json::to_string(&explanation).unwrap();
    assert_eq!(
        serde_json::from_str::<Explanation>(&text).unwrap(),
        explanation
    );
    insta::assert_snapshot!(serde_json::to_string(&explanation.method).unwrap(), @r#"{"explanation_type":"FIDDLER_SHAP","num_permutations":300,"ci_level":0.95}"#);
    for (method, name) in [
        (FIDDLER, "FIDDLER_SHAP"),
        (Method::Shap, "SHAP"),
        (
            Method::Permute {
                num_permutations: 1,
            },
            "PERMUTE",
        ),
        (Method::ZeroReset, "ZERO_RESET"),
        (Method::MeanReset, "MEAN_RESET"),
    ] {
        assert_eq!(method.name(), name);
        assert_eq!(
            serde_json::to_value(&method).unwrap()["explanation_type"],
            name
        );
    }
}
