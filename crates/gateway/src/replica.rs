//! One replica: its kept connections, how busy it is, and whether it is to be trusted.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use luthier_types::{ReplicaId, RunnerAddress};
use tokio::{sync::Notify, time::Instant};

use crate::connection::{Connection, Failure};

/// How long a replica that failed is left alone while there are others. One that has ended is
/// taken out by the controller well before.
const SUSPECT: Duration = Duration::from_secs(1);

/// A replica. Kept over changes of the set it belongs to, so that its connections are too.
pub(crate) struct Replica {
    pub(crate) id: ReplicaId,
    pub(crate) at: RunnerAddress,
    idle: Mutex<Vec<Connection>>,
    in_flight: AtomicUsize,
    /// Of these, calls that could have been joined.
    small: AtomicUsize,
    /// Requests answered.
    answered: AtomicU64,
    /// Until when others are preferred, because an exchange failed.
    suspect: Mutex<Option<Instant>>,
    /// Told when nothing is in flight any more.
    drained: Notify,
}

impl Replica {
    pub(crate) fn new(id: ReplicaId, at: RunnerAddress) -> Self {
        Self {
            id,
            at,
            idle: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            small: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            suspect: Mutex::default(),
            drained: Notify::new(),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn is_suspect(&self, now: Instant) -> bool {
        lock(&self.suspect).is_some_and(|until| now < until)
    }

    /// Whether a call runs that could have been joined.
    pub(crate) fn has_small(&self) -> bool {
        self.small.load(Ordering::Acquire) > 0
    }

    /// Requests that it has answered.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Counts the requests that one call answered.
    pub(crate) fn has_answered(&self, requests: usize) {
        self.answered.fetch_add(requests as u64, Ordering::Relaxed);
    }

    /// Takes one of `limit` places; false when all are taken.
    pub(crate) fn enter(&self, limit: usize, small: bool) -> bool {
        let entered = self
            .in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok();
        if entered && small {
            self.small.fetch_add(1, Ordering::AcqRel);
        }
        entered
    }

    /// Gives the place back.
    pub(crate) fn leave(&self, small: bool) {
        if small {
            self.small.fetch_sub(1, Ordering::AcqRel);
        }
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.drained.notify_waiters();
        }
    }

    /// Returns when nothing is in flight.
    pub(crate) async fn drain(&self) {
        loop {
            let mut told = std::pin::pin!(self.drained.notified());
            // Listen before looking, so that the last one to leave is not missed.
            told.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            told.await;
        }
    }

    /// A kept connection that the replica has not closed meanwhile, or a new one.
    pub(crate) async fn connection(&self) -> Result<Connection, Failure> {
        loop {
            let kept = lock(&self.idle).pop();
            let Some(mut connection) = kept else {
                return Connection::open(&self.at).await;
            };
            if connection.is_usable() {
                return Ok(connection);
            }
        }
    }

    /// Keeps a connection for the next exchange.
    pub(crate) fn keep(&self, connection: Connection) {
        lock(&self.idle).push(connection);
    }

    /// Closes the idle connections.
    pub(crate) fn close_idle(&self) {
        lock(&self.idle).clear();
    }

    /// Takes note of how an exchange ended.
    pub(crate) fn met(&self, failure: Option<&Failure>) {
        let failed = matches!(failure, Some(Failure::Connect(_) | Failure::Broken(_)));
        *lock(&self.suspect) = failed.then(|| Instant::now() + SUSPECT);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
