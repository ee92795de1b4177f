//! Which coalitions of players are evaluated, and with what weight.
//!
//! Shapley values solve a least-squares problem over all coalitions, weighted by the Shapley
//! kernel (p - 1) / (C(p, s) s (p - s)) for s of p players (Lundberg & Lee, "A Unified Approach to
//! Interpreting Model Predictions", 2017, theorem 2). Here the sum over coalitions is
//!
//! - taken in full when the budget allows: the values are then exact;
//! - otherwise taken in full over the sizes that weigh most (1 and p - 1, 2 and p - 2, ...), and
//!   estimated over the rest from drawn coalitions, each with its complement, which cancels much of
//!   the error (Covert & Lee, "Improving KernelSHAP", 2021, section 4.1).
//!
//! Sizes 1 and p - 1 are always complete. They alone make the least-squares problem well posed,
//! and they are why a budget has a floor.

use std::collections::BTreeMap;

use crate::random::Stream;

/// The smallest budget for a game of `players`: as much again as sizes 1 and p - 1 need is left
/// for the other sizes.
pub(crate) const fn budget_floor(players: usize) -> usize {
    4 * players
}

/// Coalitions of `players`, without the empty and the full one.
#[derive(Debug)]
pub(crate) struct Coalitions {
    players: usize,
    /// 64-bit words per coalition.
    words: usize,
    /// Membership, one bit per player.
    bits: Vec<u64>,
    /// Per coalition; they add up to the kernel's total weight.
    weights: Vec<f64>,
    /// All of them are there, in the order of their bits read as a number from 1.
    complete: bool,
}

impl Coalitions {
    /// At most `budget` coalitions, which is raised to [`budget_floor`].
    pub(crate) fn new(players: usize, budget: usize, stream: &mut Stream) -> Self {
        let budget = budget.max(budget_floor(players));
        let words = players.div_ceil(64).max(1);
        let mut all = Self {
            players,
            words,
            bits: vec![],
            weights: vec![],
            complete: false,
        };
        if players < 32 && (1_usize << players) <= budget + 2 {
            all.complete = true;
            for mask in 1..(1_u64 << players).saturating_sub(1) {
                let size = mask.count_ones() as usize;
                all.push(&[mask], size_weight(players, size) / choose(players, size));
            }
        } else {
            let left = all.whole_sizes(budget);
            all.draw(left.0, left.1, stream);
        }
        all
    }

    /// Number of players, p.
    pub(crate) const fn players(&self) -> usize {
        self.players
    }

    /// Number of coalitions.
    pub(crate) fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether every coalition is there; coalition `i` then has the members of the bits of
    /// `i + 1`.
    pub(crate) const fn complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn weight(&self, coalition: usize) -> f64 {
        self.weights[coalition]
    }

    pub(crate) fn contains(&self, coalition: usize, player: usize) -> bool {
        self.bits[coalition * self.words + player / 64] >> (player % 64) & 1 == 1
    }

    fn push(&mut self, bits: &[u64], weight: f64) {
        self.bits.extend_from_slice(bits);
        self.weights.push(weight);
    }

    fn bits_of(&self, members: impl IntoIterator<Item = usize>) -> Vec<u64> {
        let mut bits = vec![0; self.words];
        for player in members {
            bits[player / 64] |= 1 << (player % 64);
        }
        bits
    }

    fn complement(&self, bits: &[u64]) -> Vec<u64> {
        let everyone = self.bits_of(0..self.players);
        bits.iter()
            .zip(everyone)
            .map(|(bits, everyone)| !bits & everyone)
            .collect()
    }

    /// Takes sizes 1, 2, ... (each with its complements) as long as drawing would be expected to
    /// take each of their coalitions once. Gives the first size not taken and the budget left.
    fn whole_sizes(&mut self, budget: usize) -> (usize, usize) {
        let players = self.players;
        let mut left = budget;
        for size in 1..=players / 2 {
            let count = choose(players, size) * if 2 * size == players { 1.0 } else { 2.0 };
            let rest: f64 = (size..=players / 2).map(|s| pair_weight(players, s)).sum();
            let expected = left as f64 * pair_weight(players, size) / rest;
            if size > 1 && expected < count {
                return (size, left);
            }
            let weight = pair_weight(players, size) / count;
            for members in Subsets::new(players, size) {
                let bits = self.bits_of(members);
                if 2 * size != players {
                    let complement = self.complement(&bits);
                    self.push(&complement, weight);
                }
                self.push(&bits, weight);
            }
            left -= count as usize;
        }
        (players / 2 + 1, left)
    }

    /// Draws pairs of complements with sizes from `first` up, until `budget` distinct coalitions
    /// are there or drawing brings hardly any new ones.
    fn draw(&mut self, first: usize, budget: usize, stream: &mut Stream) {
        let players = self.players;
        let weights: Vec<f64> = (first..=players / 2)
            .map(|s| pair_weight(players, s))
            .collect();
        let total: f64 = weights.iter().sum();
        if weights.is_empty() || budget < 2 {
            return;
        }
        // Sizes follow an equidistributed sequence (multiples of the golden ratio), which keeps
        // their shares closer to the kernel's than independent draws would.
        let mut position = stream.unit();
        let mut pairs: BTreeMap<Vec<u64>, usize> = BTreeMap::new();
        let mut order = vec![];
        let mut draws = 0;
        while 2 * order.len() + 2 <= budget && draws < 4 * budget {
            draws += 1;
            position = (position + 0.618_033_988_749_894_9).fract();
            let mut rest = position * total;
            let step = weights.iter().position(|&weight| {
                rest -= weight;
                rest < 0.0
            });
            let size = first + step.unwrap_or(weights.len() - 1);
            let mut bits = self.bits_of(stream.subset(players, size));
            // A pair is known by the member that has the first player.
            if bits[0] & 1 == 0 {
                bits = self.complement(&bits);
            }
            *pairs.entry(bits.clone()).or_insert_with(|| {
                order.push(bits);
                0
            }) += 1;
        }
        for bits in order {
            let share = pairs[&bits] as f64 / draws as f64;
            let complement = self.complement(&bits);
            self.push(&bits, total * share / 2.0);
            self.push(&complement, total * share / 2.0);
        }
    }
}

/// The kernel's weight of all coalitions of one size together.
fn size_weight(players: usize, size: usize) -> f64 {
    (players - 1) as f64 / (size * (players - size)) as f64
}

/// The kernel's weight of all coalitions of one size and of their complements together.
fn pair_weight(players: usize, size: usize) -> f64 {
    size_weight(players, size) * if 2 * size == players { 1.0 } else { 2.0 }
}

/// The number of subsets of a size.
pub(crate) fn choose(n: usize, size: usize) -> f64 {
    (0..size.min(n - size)).fold(1.0, |count, i| {
        (count * (n - i) as f64 / (i + 1) as f64).round()
    })
}

/// The subsets of 0..n of one size, in lexical order.
struct Subsets {
    n: usize,
    next: Option<Vec<usize>>,
}

impl Subsets {
    fn new(n: usize, size: usize) -> Self {
        Self {
            n,
            next: Some((0..size).collect()),
        }
    }
}

impl Iterator for Subsets {
    type Item = Vec<usize>;

    fn next(&mut self) -> Option<Vec<usize>> {
        let current = self.next.take()?;
        let size = current.len();
        // The last member that can move up takes those after it along.
        if let Some(at) = (0..size).rev().find(|&i| current[i] < self.n - size + i) {
            let mut following = current.clone();
            for (offset, member) in following[at..].iter_mut().enumerate() {
                *member = current[at] + 1 + offset;
            }
            self.next = Some(following);
        }
        Some(current)
    }
}

#[cfg(test)]
mod tests;
