//! Whether those who wait are held for a moment, so that others can join them. No clock, no IO.
//!
//! Clients that ask, read and ask again fall into groups that take turns: while the call of one
//! group runs, the others wait, and when it ends these are called at once, before the first have
//! read their answers. Where a call costs more than its rows, one call for all of them serves
//! everybody sooner. So when a call for several ends, or one that others waited for, the next does
//! not begin before those just answered had a moment to come back. Whether they do is learnt:
//! after moments in vain there are ever fewer of them.

use std::time::Duration;

use tokio::time::Instant;

/// Shortest call that is worth a moment; those that are over sooner gain less than a moment costs.
const WORTH: Duration = Duration::from_millis(2);
/// Shortest moment: finer than this no timer is.
const SHORTEST: Duration = Duration::from_millis(1);
/// Most calls without a moment after one in vain.
const MOST_SKIPPED: u32 = 64;

/// The moment between two calls.
#[derive(Debug, Default)]
pub(crate) struct Lull {
    held: Option<Held>,
    /// Calls that go without one, after the last in vain.
    pause: u32,
    /// Of these, calls still to come.
    skip: u32,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    /// Those who wait at its beginning.
    before: usize,
    /// How many have to wait for it to end early.
    enough: usize,
}

impl Lull {
    /// Ends it, whoever has come; whether there was one. For when another call ends meanwhile: there
    /// is room for two calls now.
    pub(crate) fn end(&mut self) -> bool {
        self.held.take().is_some()
    }

    /// Begins one, if that is worth it: a call that answered `answered` requests has ended while
    /// `waiting` wait, up to `most` may go together, and calls take `took`. It is over at the time
    /// that is returned, after `longest` at most.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        (answered, waiting): (usize, usize),
        most: usize,
        took: Duration,
        longest: Duration,
    ) -> Option<Instant> {
        let enough = answered.saturating_add(waiting).min(most);
        if enough < 2 || waiting >= enough || took < WORTH || longest.is_zero() {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let until = now + (took / 2).clamp(SHORTEST, longest.max(SHORTEST));
        self.held = Some(Held {
            until,
            before: waiting,
            enough,
        });
        Some(until)
    }

    /// Whether the `waiting` are still held.
    pub(crate) fn holds(&mut self, now: Instant, waiting: usize) -> bool {
        let Some(held) = &self.held else {
            return false;
        };
        if now < held.until && waiting < held.enough {
            return true;
        }
        let (came, hoped) = (
            waiting.saturating_sub(held.before),
            held.enough - held.before,
        );
        self.pause = match came * 2 >= hoped {
            true => 0,
            false => (self.pause * 2).clamp(1, MOST_SKIPPED),
        };
        self.skip = self.pause;
        self.held = None;
        false
    }
}

#[cfg(test)]
mod tests;
