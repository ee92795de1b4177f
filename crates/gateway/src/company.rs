//! How much may be predicted together, learnt from how calls went. No clock, no IO.
//!
//! Joining pays because a call costs more than its rows. How much a row adds is the slope of the
//! line through the calls so far (least squares, older calls counting ever less); from it follows
//! how many rows may keep each other company without adding more than [`ADDED`] to the call of one
//! alone. A joined call that fails has to be made again for each of its members, so failures halve
//! their number and successes let it grow again.

use std::time::Duration;

use crate::queue::Bounds;

/// The time that company may add to a call.
const ADDED: Duration = Duration::from_millis(50);
/// Most members of a joined call.
const MOST_ENTRIES: usize = 256;
/// Most members before anything has been learnt.
const FIRST_ENTRIES: usize = 16;
/// Most rows of a joined call.
const MOST_ROWS: usize = 1024;
/// Most bytes of a joined call.
const MOST_BYTES: usize = 1 << 20;
/// Fewest members and rows that are still tried, or nothing would be learnt any more.
const FEWEST: usize = 2;
/// Longest that a call may be waited for instead of going beside it.
const MOST_PATIENCE: Duration = Duration::from_secs(1);
/// What an observation weighs after the next one.
const DECAY: f64 = 0.95;
/// Variance of the number of rows below which the line has no slope to speak of.
const SPREAD: f64 = 0.25;

/// What has been learnt of one model.
#[derive(Clone, Debug)]
pub(crate) struct Company {
    entries: usize,
    /// Seconds that a further row adds.
    slope: f64,
    // Weighted sums over calls of 1, rows, seconds, rows², rows·seconds.
    sums: [f64; 5],
}

impl Default for Company {
    fn default() -> Self {
        Self {
            entries: FIRST_ENTRIES,
            slope: 0.0,
            sums: [0.0; 5],
        }
    }
}

impl Company {
    /// How much may go together now.
    pub(crate) fn bounds(&self) -> Bounds {
        // Infinite for a slope of 0, and cut by the conversion.
        let more = (ADDED.as_secs_f64() / self.slope) as usize;
        Bounds {
            entries: self.entries,
            rows: more.saturating_add(1).clamp(FEWEST, MOST_ROWS),
            bytes: MOST_BYTES,
        }
    }

    /// How long a call takes, as a mean of the last ones.
    pub(crate) fn took(&self) -> Duration {
        let [calls, _, seconds, ..] = self.sums;
        match calls > 0.0 {
            true => Duration::try_from_secs_f64(seconds / calls).unwrap_or_default(),
            false => Duration::ZERO,
        }
    }

    /// How long to wait for a call that runs, at least `least`: twice as long as calls take. One
    /// that takes longer may never end.
    pub(crate) fn patience(&self, least: Duration) -> Duration {
        least.max((2 * self.took()).min(MOST_PATIENCE))
    }

    /// A call of `entries` requests with `rows` rows was answered after `took`.
    pub(crate) fn went_well(&mut self, entries: usize, rows: usize, took: Duration) {
        if entries > 1 {
            self.entries = (self.entries + 1).min(MOST_ENTRIES);
        }
        let (x, y) = (rows as f64, took.as_secs_f64());
        for (sum, new) in self.sums.iter_mut().zip([1.0, x, y, x * x, x * y]) {
            *sum = *sum * DECAY + new;
        }
        let [n, x, y, xx, xy] = self.sums;
        let variance = xx / n - (x / n) * (x / n);
        if variance >= SPREAD {
            self.slope = ((xy / n - (x / n) * (y / n)) / variance).max(0.0);
        }
    }

    /// The model refused a joined call.
    pub(crate) fn failed(&mut self) {
        self.entries = (self.entries / 2).max(FEWEST);
    }
}

#[cfg(test)]
mod tests;
