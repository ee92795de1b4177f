//! What Shapley values promise, whether the games are solved exactly or from drawn coalitions.

use luthier_explain::{Explanation, Method};
use proptest::prelude::*;

use crate::{
    harness::{FIDDLER, close, efficient, nonlinear, problem, run, run_by},
    shapley::instances,
};

/// Small budgets, so that games of 8 players are drawn.
const DRAWN: Method = Method::FiddlerShap {
    num_permutations: 20,
    ci_level: 0.9,
};

const METHODS: [Method; 3] = [FIDDLER, DRAWN, Method::Shap];

fn attributions(explanation: &Explanation) -> Vec<&[f64]> {
    explanation
        .outputs
        .iter()
        .map(|output| output.attributions.as_slice())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..Default::default() })]

    #[test]
    fn efficiency((x, references, salt) in instances(1..=12)) {
        for method in METHODS {
            efficient(&run(problem(&x, &references, 2, method), nonlinear(salt)));
        }
    }

    #[test]
    fn a_feature_that_the_model_ignores_gets_nothing((x, references, salt) in instances(2..=7)) {
        let model = nonlinear(salt);
        for method in [FIDDLER, Method::Shap] {
            let explanation =
                run(problem(&x, &references, 2, method), |row| model(&row[..row.len() - 1]));
            for attributions in attributions(&explanation) {
                prop_assert!(attributions[x.len() - 1].abs() < 1e-13);
            }
        }
    }

    #[test]
    fn a_feature_that_does_not_differ_gets_exactly_nothing(
        (x, mut references, salt) in instances(2..=12),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(x.len());
        references.iter_mut().for_each(|r| r[at] = x[at]);
        for method in METHODS {
            let explanation = run(problem(&x, &references, 2, method), nonlinear(salt));
            efficient(&explanation);
            for output in explanation.outputs {
                prop_assert_eq!(output.attributions[at], 0.0);
                prop_assert!(output.uncertainties.is_none_or(|u| u[at] == 0.0));
            }
        }
    }

    #[test]
    fn features_with_equal_effect_get_equal_shares((mut x, mut references, salt) in instances(2..=7)) {
        x[1] = x[0];
        references.iter_mut().for_each(|r| r[1] = r[0]);
        let model = nonlinear(salt);
        let symmetric = |row: &[f64]| {
            let mut swapped = row.to_vec();
            swapped.swap(0, 1);
            model(row).iter().zip(model(&swapped)).map(|(a, b)| a + b).collect()
        };
        for method in [FIDDLER, Method::Shap] {
            for attributions in attributions(&run(problem(&x, &references, 2, method), symmetric)) {
                close(&attributions[..1], &attributions[1..2], 1e-12);
            }
        }
    }

    #[test]
    fn attributions_are_linear_in_the_model(
        (x, references, salt) in instances(1..=12),
        (a, b) in (-3.0..3.0, -3.0..3.0),
    ) {
        let (f, g) = (nonlinear(salt), nonlinear(salt + 1.0));
        // All in one explanation: every output sees the same coalitions.
        let model = |row: &[f64]| {
            let (f, g) = (f(row)[0], g(row)[1]);
            vec![f, g, a * f + b * g]
        };
        for method in METHODS {
            let explanation = run(problem(&x, &references, 3, method), model);
            let [f, g, mixed] = attributions(&explanation)[..] else { unreachable!() };
            let expected: Vec<f64> = f.iter().zip(g).map(|(f, g)| a * f + b * g).collect();
            close(mixed, &expected, 1e-10);
        }
    }

    #[test]
    fn the_same_problem_gives_the_same_numbers_in_batches_of_any_size(
        (x, references, salt) in instances(1..=10),
        size in 1_usize..50,
    ) {
        let permute = Method::Permute { num_permutations: 3 };
        for method in METHODS.into_iter().chain([permute, Method::ZeroReset, Method::MeanReset]) {
            let explained = |most| {
                let problem = problem(&x, &references, 2, method.clone());
                run_by(most, problem, nonlinear(salt))
            };
            let whole = explained(usize::MAX);
            prop_assert_eq!(&whole, &explained(size));
            prop_assert_eq!(&whole, &explained(usize::MAX));
        }
    }

    #[test]
    fn repeating_the_reference_changes_no_attribution_of_exact_games(
        (x, references, salt) in instances(1..=6),
    ) {
        for method in [FIDDLER, Method::Shap] {
            let once = run(problem(&x, &references, 2, method.clone()), nonlinear(salt));
            let twice = [references.clone(), references.clone()].concat();
            let twice = run(problem(&x, &twice, 2, method), nonlinear(salt));
            prop_assert_eq!(twice.rows_evaluated, once.rows_evaluated);
            prop_assert_eq!(twice.num_refs, Some(2 * references.len()));
            for (twice, once) in attributions(&twice).into_iter().zip(attributions(&once)) {
                close(twice, once, 1e-11);
            }
        }
    }
}
