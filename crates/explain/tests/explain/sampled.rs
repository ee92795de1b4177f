//! Games too large to enumerate: estimates come close to the exact values, and closer with more.

use luthier_explain::{Method, Problem};

use crate::harness::{by_subsets, efficient, game, nonlinear, problem, run};

const FEATURES: usize = 14;

fn setting() -> (Vec<f64>, Vec<Vec<f64>>) {
    let x = (0..FEATURES)
        .map(|j| (1.3 * j as f64).sin() * 2.0)
        .collect();
    let reference = |k: usize| {
        (0..FEATURES)
            .map(|j| ((j * 5 + k * 11) as f64).cos())
            .collect()
    };
    (x, (0..6).map(reference).collect())
}

/// Root mean square of the errors, relative to that of the exact values.
fn error(found: &[f64], exact: &[f64]) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let off = squares(&mut found.iter().zip(exact).map(|(f, e)| f - e));
    (off / squares(&mut exact.iter().copied())).sqrt()
}

fn errors(method: Method, seed: u64) -> Vec<f64> {
    let (x, references) = setting();
    let model = nonlinear(0.9);
    let explanation = run(
        Problem {
            seed,
            ..problem(&x, &references, 2, method)
        },
        &model,
    );
    efficient(&explanation);
    explanation
        .outputs
        .iter()
        .enumerate()
        .map(|(o, output)| {
            let exact = by_subsets(&game(&x, &references, |row| model(row)[o]));
            error(&output.attributions, &exact)
        })
        .collect()
}

#[test]
fn fiddler_shap_comes_closer_with_more_coalitions() {
    let mut last = f64::INFINITY;
    for (num_permutations, tolerance) in [(60, 0.2), (300, 0.06), (5000, 0.01)] {
        let found = errors(
            Method::FiddlerShap {
                num_permutations,
                ci_level: 0.95,
            },
            3,
        )[0];
        assert!(
            found < tolerance && found < last,
            "{num_permutations}: {found}"
        );
        last = found;
    }
}

#[test]
fn shap_comes_close() {
    let found = errors(Method::Shap, 3)[0];
    assert!(found < 0.04, "{found}");
}

#[test]
fn interactions_of_two_features_cost_no_accuracy() {
    // The second output has no others. Complements cancel their errors, so even a small budget
    // finds the exact values.
    for method in [
        Method::FiddlerShap {
            num_permutations: 60,
            ci_level: 0.95,
        },
        Method::Shap,
    ] {
        let found = errors(method, 5)[1];
        assert!(found < 1e-11, "{found}");
    }
}

#[test]
fn errors_average_out_over_seeds() {
    // Were the weights of the drawn coalitions wrong, the errors would share a part.
    let (x, references) = setting();
    let model = nonlinear(0.9);
    let method = Method::FiddlerShap {
        num_permutations: 200,
        ci_level: 0.95,
    };
    let exact = by_subsets(&game(&x, &references[..1], |row| model(row)[0]));
    let seeds = 200;
    let (mut mean, mut single) = (vec![0.0; FEATURES], 0.0);
    for seed in 0..seeds {
        let problem = Problem {
            seed,
            ..problem(&x, &references[..1], 2, method.clone())
        };
        let found = run(problem, &model).outputs.swap_remove(0).attributions;
        single += error(&found, &exact) / seeds as f64;
        for (mean, found) in mean.iter_mut().zip(found) {
            *mean += found / seeds as f64;
        }
    }
    assert!(
        error(&mean, &exact) < single / 5.0,
        "{single} -> {}",
        error(&mean, &exact)
    );
}

#[test]
fn seeds_matter_where_there_is_chance() {
    let (x, references) = setting();
    let attributions = |seed, method: &Method| {
        let problem = Problem {
            seed,
            ..problem(&x, &references, 2, method.clone())
        };
        run(problem, nonlinear(0.9))
            .outputs
            .swap_remove(0)
            .attributions
    };
    let fiddler = Method::FiddlerShap {
        num_permutations: 100,
        ci_level: 0.95,
    };
    for method in [
        fiddler,
        Method::Shap,
        Method::Permute {
            num_permutations: 2,
        },
    ] {
        assert_ne!(
            attributions(1, &method),
            attributions(2, &method),
            "{method:?}"
        );
    }
}

#[test]
fn references_do_not_share_their_errors() {
    // The model sees signs only: games against different negative rows are the same game, so that
    // what differs between their values is what was drawn.
    let x = vec![1.0; FEATURES];
    let references: Vec<Vec<f64>> = (1..=40).map(|k| vec![-f64::from(k); FEATURES]).collect();
    let model = |row: &[f64]| {
        let signs: Vec<f64> = row
            .iter()
            .enumerate()
            .map(|(j, v)| v.signum() * (1.0 + 0.2 * j as f64))
            .collect();
        nonlinear(0.9)(&signs)
    };
    let exact = by_subsets(&game(&x, &references[..1], |row| model(row)[0]));
    let method = Method::FiddlerShap {
        num_permutations: 100,
        ci_level: 0.95,
    };
    let explained = |references: &[Vec<f64>]| {
        run(problem(&x, references, 2, method.clone()), model)
            .outputs
            .swap_remove(0)
    };
    let (one, all) = (explained(&references[..1]), explained(&references));
    let (one, many) = (
        error(&one.attributions, &exact),
        error(&all.attributions, &exact),
    );
    assert!(many < one / 3.0, "{one} -> {many}");
    // And the interval knows of them.
    assert!(
        all.uncertainties
            .unwrap()
            .iter()
            .all(|&half_width| half_width > 0.0)
    );
}

#[test]
fn the_budget_bounds_the_rows() {
    let (x, references) = setting();
    let rows = |num_permutations| {
        let method = Method::FiddlerShap {
            num_permutations,
            ci_level: 0.95,
        };
        let explanation = run(problem(&x, &references, 2, method), nonlinear(0.9));
        (
            explanation.rows_evaluated,
            explanation.num_permutations.unwrap(),
        )
    };
    let (evaluated, effective) = rows(300);
    assert_eq!((evaluated, effective), (1 + 6 * 301, 300));
    // Less than the estimator needs: raised to four coalitions per feature, and said so.
    assert_eq!(rows(1), (1 + 6 * 57, 56));
}
