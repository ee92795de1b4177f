//! The only source of chance: numbered streams of a seeded ChaCha generator.

use std::collections::BTreeSet;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// One stream of draws, decided by a seed and the number of the stream.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(number);
        Self(generator)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in 0..n, n > 0 (Lemire, "Fast random integer generation in an interval", 2019).
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        let biased = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.0.next_u64()) * u128::from(n);
            if wide as u64 >= biased {
                return (wide >> 64) as usize;
            }
        }
    }

    /// Puts `items` into a uniformly drawn order (Fisher & Yates; Knuth, TAOCP 2, section 3.4.2).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// A uniformly drawn subset of 0..n with `size` members (Floyd; Bentley, CACM 30(9), 1987).
    pub(crate) fn subset(&mut self, n: usize, size: usize) -> BTreeSet<usize> {
        let mut chosen = BTreeSet::new();
        for last in n - size..n {
            let drawn = self.below(last + 1);
            if !chosen.insert(drawn) {
                chosen.insert(last);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests;
