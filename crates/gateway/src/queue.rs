//! Who waits for a replica of one model: first come, first served. No clock, no IO.

use std::collections::VecDeque;

/// Names an entry for as long as it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// What can wait.
pub(crate) trait Weighs {
    /// Bytes of memory that it holds.
    fn bytes(&self) -> usize;
}

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

impl<T: Weighs> Queue<T> {
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

    /// Takes the first entry for which `choose` finds something, with that. Those before it keep
    /// their turn.
    pub(crate) fn take<R>(&mut self, choose: impl Fn(&T) -> Option<R>) -> Option<(R, T)> {
        let (at, found) = self
            .entries
            .iter()
            .enumerate()
            .find_map(|(at, (_, entry))| choose(entry).map(|found| (at, found)))?;
        Some((found, self.remove_at(at)?))
    }

    fn remove_at(&mut self, at: usize) -> Option<T> {
        let (_, entry) = self.entries.remove(at)?;
        self.bytes -= entry.bytes();
        Some(entry)
    }
}
