//! The coalitions are distinct, within budget, and weigh what the kernel says.

use std::collections::BTreeSet;

use super::{Coalitions, budget_floor, choose, size_weight};
use crate::random::Stream;

fn members(coalitions: &Coalitions, c: usize) -> BTreeSet<usize> {
    (0..coalitions.players())
        .filter(|&player| coalitions.contains(c, player))
        .collect()
}

fn make(players: usize, budget: usize) -> Coalitions {
    Coalitions::new(players, budget, &mut Stream::new(11, 0))
}

/// Weight by size of coalition.
fn by_size(coalitions: &Coalitions) -> Vec<f64> {
    let mut weights = vec![0.0; coalitions.players() + 1];
    for c in 0..coalitions.len() {
        weights[members(coalitions, c).len()] += coalitions.weight(c);
    }
    weights
}

#[test]
fn coalitions_are_distinct_proper_and_within_budget() {
    for players in [2, 3, 5, 6, 9, 14, 64, 65, 130] {
        for budget in [1, 60, 300, 1000] {
            let coalitions = make(players, budget);
            let budget = budget.max(budget_floor(players));
            let sets: BTreeSet<_> = (0..coalitions.len())
                .map(|c| members(&coalitions, c))
                .collect();
            assert_eq!(
                sets.len(),
                coalitions.len(),
                "{players} players, budget {budget}"
            );
            assert!(
                coalitions.len() <= budget,
                "{players} players, budget {budget}"
            );
            assert!(
                sets.iter()
                    .all(|set| !set.is_empty() && set.len() < players)
            );
            // Complements come together.
            let everyone: BTreeSet<_> = (0..players).collect();
            assert!(sets.iter().all(|set| sets.contains(&(&everyone - set))));
            // Nobody is without its singleton.
            assert!((0..players).all(|player| sets.contains(&BTreeSet::from([player]))));
        }
    }
}

#[test]
fn a_budget_that_covers_everything_is_exact() {
    for (players, budget, complete) in [
        (8, 254, true),
        (8, 253, false),
        (2, 1, true),
        (1, 1, true),
        (0, 1, true),
        (70, 9999, false),
    ] {
        let coalitions = make(players, budget);
        assert_eq!(
            coalitions.complete(),
            complete,
            "{players} players, budget {budget}"
        );
        if complete {
            assert_eq!(coalitions.len(), (1_usize << players).saturating_sub(2));
        }
        for c in 0..coalitions.len() {
            if complete {
                assert!((0..players).all(|i| coalitions.contains(c, i) == ((c + 1) >> i & 1 == 1)));
            }
        }
    }
}

#[test]
fn the_whole_weighs_what_the_kernel_weighs() {
    for (players, budget) in [(6, 1000), (13, 52), (14, 300), (40, 700), (100, 1)] {
        let total: f64 = by_size(&make(players, budget)).iter().sum();
        let kernel: f64 = (1..players).map(|size| size_weight(players, size)).sum();
        assert!(
            (total / kernel - 1.0).abs() < 1e-12,
            "{players} players, budget {budget}"
        );
    }
}

#[test]
fn sizes_weigh_what_the_kernel_says() {
    // Whole sizes exactly, drawn ones nearly: the sequence of sizes is equidistributed.
    let (players, budget) = (20, 2000);
    for (size, weight) in by_size(&make(players, budget)).into_iter().enumerate() {
        if size == 0 || size == players {
            assert_eq!(weight, 0.0);
            continue;
        }
        let kernel = size_weight(players, size);
        let whole = size.min(players - size) <= 2;
        let tolerance = if whole { 1e-12 } else { 0.04 };
        assert!(
            (weight / kernel - 1.0).abs() < tolerance,
            "size {size}: {weight}, not {kernel}"
        );
    }
}

#[test]
fn the_same_stream_gives_the_same_coalitions() {
    let all = |seed| {
        let coalitions = Coalitions::new(16, 200, &mut Stream::new(seed, 0));
        (0..coalitions.len())
            .map(|c| members(&coalitions, c))
            .collect::<Vec<_>>()
    };
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
}

#[test]
fn binomials_are_right() {
    assert_eq!(
        (0..=6).map(|k| choose(6, k)).collect::<Vec<_>>(),
        [1., 6., 15., 20., 15., 6., 1.]
    );
    assert_eq!(choose(50, 25), 126_410_606_437_752.0);
}
