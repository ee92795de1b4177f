//! The two SHAP methods against Shapley values from the definition.

use luthier_explain::Method;
use proptest::prelude::*;

use crate::harness::{
    FIDDLER, by_orders, by_subsets, close, efficient, game, nonlinear, problem, run,
};

/// A row, references for it, and a salt for the model.
pub(crate) fn instances(
    features: std::ops::RangeInclusive<usize>,
) -> impl Strategy<Value = (Vec<f64>, Vec<Vec<f64>>, f64)> {
    features.prop_flat_map(|n| {
        let row = || prop::collection::vec(-3.0..3.0, n);
        (row(), prop::collection::vec(row(), 1..5), -2.0..2.0)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..Default::default() })]

    #[test]
    fn small_games_are_exact((x, references, salt) in instances(1..=8)) {
        let model = nonlinear(salt);
        for method in [FIDDLER, Method::Shap] {
            let explanation = run(problem(&x, &references, 2, method), &model);
            efficient(&explanation);
            for (o, output) in explanation.outputs.iter().enumerate() {
                let values = game(&x, &references, |row| model(row)[o]);
                close(&output.attributions, &by_orders(&values), 1e-11);
                close(&[output.baseline_prediction], &values[..1], 1e-12);
                close(&[output.model_prediction], &values[values.len() - 1..], 1e-12);
            }
        }
    }
}

#[test]
fn the_two_oracles_agree() {
    let values = game(&[1.0, -2.0, 0.5, 3.0], &[vec![0.0; 4]], |row| {
        nonlinear(0.7)(row)[0]
    });
    close(&by_orders(&values), &by_subsets(&values), 1e-13);
}

#[test]
fn a_linear_model_has_the_closed_form() {
    // phi_j = w_j (x_j - mean of r_j), however many coalitions are evaluated: the fit is additive.
    let n = 30;
    let x: Vec<f64> = (0..n).map(|j| (j as f64).sin()).collect();
    let references: Vec<Vec<f64>> = (0..5)
        .map(|k| (0..n).map(|j| ((j * 7 + k * 3) as f64).cos()).collect())
        .collect();
    let weight = |j: usize| j as f64 - 11.5;
    let model = |row: &[f64]| vec![row.iter().enumerate().map(|(j, v)| weight(j) * v).sum()];
    let expected: Vec<f64> = (0..n)
        .map(|j| weight(j) * (x[j] - references.iter().map(|r| r[j]).sum::<f64>() / 5.0))
        .collect();
    for method in [FIDDLER, Method::Shap] {
        let explanation = run(problem(&x, &references, 1, method), model);
        close(&explanation.outputs[0].attributions, &expected, 1e-11);
        efficient(&explanation);
    }
}
