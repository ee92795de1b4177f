//! The least-squares solution over all coalitions is the Shapley value, as theory has it.

use super::Game;
use crate::{coalitions::Coalitions, random::Stream};

#[test]
fn least_squares_over_all_coalitions_is_exact() {
    for players in 2..=9 {
        let mut stream = Stream::new(1, players as u64);
        let coalitions = Coalitions::new(players, 1 << players, &mut stream);
        let outputs = 3;
        let mut draw = |n: usize| {
            (0..n)
                .map(|_| stream.unit() * 10.0 - 5.0)
                .collect::<Vec<_>>()
        };
        let (empty, full) = (draw(outputs), draw(outputs));
        let values = draw(outputs * coalitions.len());
        let game = Game {
            coalitions: &coalitions,
            empty: &empty,
            full: &full,
            values: &values,
        };
        let (exact, fitted) = (game.exact(), game.least_squares().unwrap());
        for (exact, fitted) in exact.iter().flatten().zip(fitted.iter().flatten()) {
            assert!(
                (exact - fitted).abs() < 1e-11,
                "{players} players: {exact}, {fitted}"
            );
        }
    }
}

#[test]
fn the_smallest_budget_is_solvable_for_any_number_of_players() {
    for players in [5, 6, 7, 30, 63, 64, 65, 150] {
        let coalitions = Coalitions::new(players, 1, &mut Stream::new(2, players as u64));
        assert!(!coalitions.complete());
        // An additive game, which the fit must give back.
        let worth = |player: usize| player as f64 - 2.5;
        let values: Vec<f64> = (0..coalitions.len())
            .map(|c| {
                (0..players)
                    .filter(|&i| coalitions.contains(c, i))
                    .map(worth)
                    .sum()
            })
            .collect();
        let full = [(0..players).map(worth).sum()];
        let game = Game {
            coalitions: &coalitions,
            empty: &[0.0],
            full: &full,
            values: &values,
        };
        for (player, value) in game.shapley_values().unwrap()[0].iter().enumerate() {
            assert!(
                (value - worth(player)).abs() < 1e-9,
                "{players} players: {player}: {value}"
            );
        }
    }
}
