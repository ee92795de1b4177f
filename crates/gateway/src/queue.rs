//! Who waits for a replica of one model, and what goes there together. No clock, no IO.
//!
//! First come, first served. An entry may take others with it that wait behind it and are like it:
//! they are predicted as one table. Those behind it have been waiting for the same
//! replicas.

use std::collections::VecDeque;

/// What can wait.
pub(crate) trait Waits {
    /// Bytes of memory that it holds.
    fn bytes(&self) -> usize;
    /// Rows to predict.
    fn rows(&self) -> usize;
    /// Whether it may be predicted in one table with `other`: an equivalence.
    fn goes_with(&self, other: &Self) -> bool;
}

/// How much may go together. One entry always goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) entries: usize,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Bounds {
    /// Nothing goes together.
    pub(crate) const ALONE: Self = Self {
        entries: 1,
        rows: 0,
        bytes: 0,
    };
}

/// Names an entry for as long as it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Entries in the order in which they are served.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    entries: VecDeque<(Ticket, T)>,
    bytes: usize,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            next: 0,
        }
    }
}

impl<T: Waits> Queue<T> {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the entries weigh together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts an entry last.
    pub(crate) fn push(&mut self, entry: T) -> Ticket {
        let ticket = self.ticket();
        self.bytes += entry.bytes();
        self.entries.push_back((ticket, entry));
        ticket
    }

    /// Puts an entry first: one that has waited before.
    pub(crate) fn push_first(&mut self, entry: T) -> Ticket {
        let ticket = self.ticket();
        self.bytes += entry.bytes();
        self.entries.push_front((ticket, entry));
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Takes an entry out of its turn; `None` when it waits no more.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let at = self.entries.iter().position(|(t, _)| *t == ticket)?;
        self.remove_at(at)
    }

    /// Takes every entry that is `lost`, in order.
    pub(crate) fn remove_all(&mut self, lost: impl Fn(&T) -> bool) -> Vec<T> {
        let mut out = vec![];
        while let Some(at) = self.entries.iter().position(|(_, entry)| lost(entry)) {
            out.extend(self.remove_at(at));
        }
        out
    }

    /// Takes the first entry for which `choose` finds something, with that, and of those behind it
    /// that go with it as many as the bounds allow, in order. Those before it keep their turn.
    pub(crate) fn take<R>(
        &mut self,
        bounds: Bounds,
        choose: impl Fn(&T) -> Option<R>,
    ) -> Option<(R, Vec<T>)> {
        let (at, found) = self
            .entries
            .iter()
            .enumerate()
            .find_map(|(at, (_, entry))| choose(entry).map(|found| (at, found)))?;
        let mut group = vec![self.remove_at(at)?];
        let (mut rows, mut bytes) = (group[0].rows(), group[0].bytes());
        let mut next = at;
        while group.len() < bounds.entries
            && let Some((_, entry)) = self.entries.get(next)
        {
            if !group[0].goes_with(entry) {
                next += 1;
                continue;
            }
            rows = rows.saturating_add(entry.rows());
            bytes = bytes.saturating_add(entry.bytes());
            // None overtakes another like it by being smaller.
            if rows > bounds.rows || bytes > bounds.bytes {
                break;
            }
            group.extend(self.remove_at(next));
        }
        Some((found, group))
    }

    fn remove_at(&mut self, at: usize) -> Option<T> {
        let (_, entry) = self.entries.remove(at)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
