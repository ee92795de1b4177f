//! One replica: its kept connections and how busy it is.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use luthier_types::ReplicaId;
use tokio::sync::Notify;

use crate::connection::{Connection, Failure};

/// A replica. Kept over changes of the set it belongs to, so that its connections are too.
pub(crate) struct Replica {
    pub(crate) id: ReplicaId,
    pub(crate) socket: PathBuf,
    idle: Mutex<Vec<Connection>>,
    in_flight: AtomicUsize,
    /// The last exchange failed; others are preferred until one succeeds.
    suspect: AtomicBool,
    /// Told when nothing is in flight any more.
    drained: Notify,
}

impl Replica {
    pub(crate) fn new(id: ReplicaId, socket: PathBuf) -> Self {
        Self {
            id,
            socket,
            idle: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            suspect: AtomicBool::new(false),
            drained: Notify::new(),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Takes one of `limit` places; false when all are taken.
    pub(crate) fn enter(&self, limit: usize) -> bool {
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok()
    }

    /// Gives the place back.
    pub(crate) fn leave(&self) {
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

    /// Closes the idle connections.
    pub(crate) fn close_idle(&self) {
        self.pool().clear();
    }

    /// One exchange, on a kept connection if one is usable.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let result = self.try_exchange(request, limit).await;
        let failed = matches!(result, Err(Failure::Connect(_) | Failure::Broken(_)));
        if self.is_suspect() != failed {
            self.suspect.store(failed, Ordering::Relaxed);
        }
        result
    }

    async fn try_exchange(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut connection = match self.kept() {
            Some(connection) => connection,
            None => Connection::open(&self.socket).await?,
        };
        let answer = connection.exchange(request, limit).await?;
        self.pool().push(connection);
        Ok(answer)
    }

    /// A kept connection that the replica has not closed meanwhile.
    fn kept(&self) -> Option<Connection> {
        loop {
            let mut connection = self.pool().pop()?;
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
