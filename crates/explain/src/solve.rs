//! Shapley values from the values of coalitions.

use faer::{Mat, Side, linalg::solvers::Solve};
use luthier_types::Error;

use crate::coalitions::{Coalitions, choose};

/// The values of a game with one or more outputs. Lists of values are per output.
pub(crate) struct Game<'a> {
    pub(crate) coalitions: &'a Coalitions,
    /// Value of the empty coalition.
    pub(crate) empty: &'a [f64],
    /// Value of all players together.
    pub(crate) full: &'a [f64],
    /// Values of the coalitions, one after the other.
    pub(crate) values: &'a [f64],
}

impl Game<'_> {
    /// Shapley values: for each output one number per player. They add up to `full - empty` but
    /// for rounding.
    pub(crate) fn shapley_values(&self) -> Result<Vec<Vec<f64>>, Error> {
        match self.coalitions.players() {
            // The formulae below would round; this is what they stand for.
            0 => Ok(vec![vec![]; self.empty.len()]),
            1 => Ok(self
                .full
                .iter()
                .zip(self.empty)
                .map(|(full, empty)| vec![full - empty])
                .collect()),
            _ if self.coalitions.complete() => Ok(self.exact()),
            _ => self.least_squares(),
        }
    }

    /// The definition: player i gets the mean of v(S + i) - v(S) over all S without i, sizes
    /// weighing alike (Shapley 1953). Players that change nothing get exactly 0.
    fn exact(&self) -> Vec<Vec<f64>> {
        let players = self.coalitions.players();
        let everyone = (1_usize << players) - 1;
        let outputs = self.empty.len();
        let weights: Vec<f64> = (0..players)
            .map(|s| 1.0 / (players as f64 * choose(players - 1, s)))
            .collect();
        let of_output = |output: usize| {
            let value = |mask: usize| match mask {
                0 => self.empty[output],
                mask if mask == everyone => self.full[output],
                mask => self.values[(mask - 1) * outputs + output],
            };
            let of_player = |player: usize| {
                (0..=everyone)
                    .filter(|mask| mask >> player & 1 == 0)
                    .map(|mask| {
                        weights[mask.count_ones() as usize]
                            * (value(mask | 1 << player) - value(mask))
                    })
                    .sum()
            };
            (0..players).map(of_player).collect()
        };
        (0..outputs).map(of_output).collect()
    }

    /// The least-squares fit of an additive game under the constraint that it gives the full
    /// coalition its value: with A = sum of w z z' and b = sum of w z (v - v(0)),
    /// phi = A^-1 (b - 1 (1'A^-1 b - v(1) + v(0)) / (1'A^-1 1)) (Covert & Lee 2021, equation 7).
    /// A is factored once for all outputs.
    fn least_squares(&self) -> Result<Vec<Vec<f64>>, Error> {
        let (players, outputs) = (self.coalitions.players(), self.empty.len());
        let mut matrix = Mat::<f64>::zeros(players, players);
        // The last column is for A^-1 1.
        let mut right = Mat::<f64>::zeros(players, outputs + 1);
        let mut members = Vec::with_capacity(players);
        for c in 0..self.coalitions.len() {
            let weight = self.coalitions.weight(c);
            members.clear();
            members.extend((0..players).filter(|&i| self.coalitions.contains(c, i)));
            for (place, &i) in members.iter().enumerate() {
                for &j in &members[..=place] {
                    matrix[(i, j)] += weight;
                }
                for output in 0..outputs {
                    let gain = self.values[c * outputs + output] - self.empty[output];
                    right[(i, output)] += weight * gain;
                }
            }
        }
        for i in 0..players {
            right[(i, outputs)] = 1.0;
        }
        let factor = matrix
            .llt(Side::Lower)
            .map_err(|e| Error::internal("solving for Shapley values", format!("{e:?}")))?;
        factor.solve_in_place(&mut right);
        let ones: Vec<f64> = (0..players).map(|i| right[(i, outputs)]).collect();
        let ones_sum: f64 = ones.iter().sum();
        let of_output = |output: usize| {
            let free: Vec<f64> = (0..players).map(|i| right[(i, output)]).collect();
            let total = self.full[output] - self.empty[output];
            let excess = free.iter().sum::<f64>() - total;
            free.iter()
                .zip(&ones)
                .map(|(v, one)| v - one * excess / ones_sum)
                .collect()
        };
        Ok((0..outputs).map(of_output).collect())
    }
}

#[cfg(test)]
mod tests;
