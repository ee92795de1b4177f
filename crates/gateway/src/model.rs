//! One model's replicas: choosing, waiting, trying again.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use http::StatusCode;
use luthier_types::{Code, Error, ReplicaId, Result};
use tokio::sync::Notify;

use crate::{
    call::{self, Call},
    connection::Failure,
    gateway::{Options, Stats},
    replica::Replica,
};

/// What traffic reaches, exchanged as a whole.
pub(crate) struct Serving {
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) outputs: Vec<String>,
}

/// A model as the gateway knows it; outlives changes of its replicas.
pub(crate) struct Model {
    serving: RwLock<Arc<Serving>>,
    waiting: AtomicUsize,
    /// Told when a place in a replica is free or the replicas have changed.
    freed: Notify,
    /// Told when a replica could not be reached; shared by every model.
    failed: Arc<Notify>,
    requests: AtomicU64,
    errors: AtomicU64,
}

/// A place in a replica, given back on drop.
struct Place<'a> {
    model: &'a Model,
    replica: Arc<Replica>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.replica.leave();
        self.model.freed.notify_one();
    }
}

/// A place in the queue, given back on drop.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, limit: usize) -> Option<Self> {
        count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok()
            .then(|| Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

// === impl Model ===

impl Model {
    pub(crate) fn new(failed: Arc<Notify>) -> Self {
        Self {
            serving: RwLock::new(Arc::new(Serving {
                replicas: vec![],
                outputs: vec![],
            })),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            failed,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.serving
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Exchanges what serves; gives back what did.
    pub(crate) fn replace(&self, serving: Serving) -> Arc<Serving> {
        let old = std::mem::replace(
            &mut *self.serving.write().unwrap_or_else(PoisonError::into_inner),
            Arc::new(serving),
        );
        self.freed.notify_waiters();
        old
    }

    pub(crate) fn stats(&self) -> Stats {
        let serving = self.serving();
        Stats {
            replicas: serving.replicas.len(),
            in_flight: serving.replicas.iter().map(|r| r.in_flight()).sum(),
            waiting: self.waiting.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    /// Sends `call` to a replica and gives its successful answer, with what served then.
    pub(crate) async fn ask(
        &self,
        call: &Call,
        options: &Options,
        deadline: Instant,
    ) -> Result<(Bytes, Arc<Serving>)> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let result =
            match tokio::time::timeout_at(deadline.into(), self.attempts(call, options)).await {
                Ok(Ok((status, body, serving))) => match call::refusal(status, &body) {
                    Some(error) => Err(error),
                    None => Ok((body, serving)),
                },
                Ok(Err(error)) => Err(error),
                Err(_) => Err(call::out_of_time()),
            };
        if result.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Sends until one replica answers. A replica that cannot be reached costs nothing, for it has
    /// not seen the request; a connection that broke after the request was sent is tried once
    /// more and no oftener, so that a request that ends replicas does not end them all.
    async fn attempts(
        &self,
        call: &Call,
        options: &Options,
    ) -> Result<(StatusCode, Bytes, Arc<Serving>)> {
        let mut unreachable: Vec<ReplicaId> = vec![];
        // The replica that broke the connection, and how.
        let mut broken: Option<(ReplicaId, Error)> = None;
        loop {
            let last = broken.as_ref().map(|(id, _)| *id);
            let (place, serving) = match self.place(options, &unreachable, last).await {
                Ok(place) => place,
                // None is left, perhaps because of this request: it is not to be sent again.
                Err(error) => return Err(broken.map_or(error, |(_, ended)| ended)),
            };
            let replica = &place.replica;
            match replica.exchange(call.request()?, options.max_answer).await {
                Ok((status, body)) => return Ok((status, body, serving)),
                Err(Failure::TooLarge) => return Err(call::too_large(options.max_answer)),
                Err(Failure::Connect(e)) => {
                    tracing::warn!(replica = %replica.id, error = %e, "replica cannot be reached");
                    unreachable.push(replica.id);
                    self.failed.notify_one();
                }
                Err(Failure::Broken(e)) => {
                    tracing::warn!(replica = %replica.id, error = %e, "replica broke the connection");
                    self.failed.notify_one();
                    let ended = ended().source(e);
                    if broken.is_some() {
                        return Err(ended);
                    }
                    broken = Some((replica.id, ended));
                }
            }
        }
    }

    /// A place in the least busy replica, once there is one.
    async fn place(
        &self,
        options: &Options,
        unreachable: &[ReplicaId],
        broken: Option<ReplicaId>,
    ) -> Result<(Place<'_>, Arc<Serving>)> {
        let mut queued = None;
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            if queued.is_some() {
                // Listen before looking, so that no place freed between the two is missed.
                freed.as_mut().enable();
            }
            let serving = self.serving();
            let usable = |r: &&Arc<Replica>| !unreachable.contains(&r.id);
            if !serving.replicas.iter().any(|r| usable(&r)) {
                return Err(unavailable());
            }
            // The one that broke is the last choice, and one that failed last time the next to last.
            let rank = |r: &&Arc<Replica>| (broken == Some(r.id), r.is_suspect(), r.in_flight());
            let free = |r: &&Arc<Replica>| r.in_flight() < options.in_flight;
            while let Some(replica) = serving
                .replicas
                .iter()
                .filter(usable)
                .filter(free)
                .min_by_key(rank)
            {
                if replica.enter(options.in_flight) {
                    let place = Place {
                        model: self,
                        replica: replica.clone(),
                    };
                    return Ok((place, serving));
                }
            }
            if queued.is_none() {
                queued = Some(Waiting::enter(&self.waiting, options.waiting).ok_or_else(full)?);
            } else {
                freed.await;
            }
        }
    }
}

pub(crate) fn unavailable() -> Error {
    Error::new(Code::ModelUnavailable, "no replica of the model is serving")
        .hint("Look at the deployment's state; if it is stopped, activate it.")
}

/// The end of a request that may have ended its replicas.
fn ended() -> Error {
    Error::new(Code::ModelServeError, "the replica ended while it answered").hint(
        "Look at the deployment's state and log for the reason; if it ran out of memory, raise the \
         memory or send fewer rows at a time.",
    )
}

fn full() -> Error {
    Error::new(
        Code::Overloaded,
        "the model has more waiting requests than it can take",
    )
    .hint("Try again later, send fewer requests at a time, or give the deployment more replicas.")
}
