//! One model's replicas: choosing, waiting, trying again.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use http::StatusCode;
use luthier_types::{Code, Error, ReplicaId, Result};
use tokio::sync::{Notify, oneshot};

use crate::{
    call::{self, Call},
    connection::Failure,
    gateway::{Options, Stats},
    place::Place,
    queue::{Queue, Ticket, Weighs},
    replica::Replica,
};

/// What traffic reaches, exchanged as a whole.
#[derive(Default)]
pub(crate) struct Serving {
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) outputs: Vec<String>,
}

/// A model as the gateway knows it; outlives changes of its replicas.
pub(crate) struct Model {
    options: Options,
    state: Mutex<State>,
    /// Told when a replica could not be reached; shared by every model.
    failed: Arc<Notify>,
    requests: AtomicU64,
    errors: AtomicU64,
}

struct State {
    serving: Arc<Serving>,
    queue: Queue<Waiter>,
}

/// Where a request has been in vain.
#[derive(Clone, Debug, Default)]
struct Route {
    /// Replicas that could not be reached, and so have not seen it.
    unreachable: Vec<ReplicaId>,
    /// The one that broke the connection after the request was sent.
    broken: Option<ReplicaId>,
}

/// A place, and what served when it was given.
type Turn = (Place, Arc<Serving>);

/// A request that waits for its turn.
struct Waiter {
    route: Route,
    bytes: usize,
    turn: oneshot::Sender<Turn>,
}

/// The request's end of it; leaves the queue on drop.
struct Waiting<'a> {
    model: &'a Model,
    /// `None` once it has had its turn.
    ticket: Option<Ticket>,
    turn: oneshot::Receiver<Turn>,
}

// === impl Model ===

impl Model {
    pub(crate) fn new(options: Options, failed: Arc<Notify>) -> Self {
        let state = State {
            serving: Arc::default(),
            queue: Queue::default(),
        };
        Self {
            options,
            state: Mutex::new(state),
            failed,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.state().serving.clone()
    }

    /// Exchanges what serves; gives back what did.
    pub(crate) fn replace(self: &Arc<Self>, serving: Serving) -> Arc<Serving> {
        let old = {
            let mut state = self.state();
            let old = std::mem::replace(&mut state.serving, Arc::new(serving));
            let serving = state.serving.clone();
            let lost = |w: &Waiter| (!w.route.leads_anywhere(&serving)).then_some(());
            // Dropped, they learn that there is no replica for them.
            while state.queue.take(lost).is_some() {}
            old
        };
        self.dispatch();
        old
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.state();
        let replicas = &state.serving.replicas;
        Stats {
            replicas: replicas.len(),
            in_flight: replicas.iter().map(|r| r.in_flight()).sum(),
            waiting: state.queue.len(),
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    /// Sends `call` to a replica and gives its successful answer, with what served then.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        call: &Call,
        deadline: Instant,
    ) -> Result<(Bytes, Arc<Serving>)> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let result =
            match tokio::time::timeout_at(deadline.into(), self.attempts(call, deadline)).await {
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
        self: &Arc<Self>,
        call: &Call,
        deadline: Instant,
    ) -> Result<(StatusCode, Bytes, Arc<Serving>)> {
        let Options {
            max_answer, linger, ..
        } = self.options;
        let mut route = Route::default();
        loop {
            let (place, serving) = self.turn(&route, call.body.len()).await?;
            let replica = place.replica().id;
            let request = call.request(deadline)?;
            match place.exchange(request, max_answer, linger).await {
                Ok((status, body)) => return Ok((status, body, serving)),
                Err(Failure::TooLarge) => return Err(call::too_large(max_answer)),
                Err(Failure::Connect(e)) => {
                    tracing::warn!(%replica, error = %e, "replica cannot be reached");
                    self.failed.notify_one();
                    route.unreachable.push(replica);
                }
                Err(Failure::Broken(e)) => {
                    tracing::warn!(%replica, error = %e, "replica broke the connection");
                    self.failed.notify_one();
                    if route.broken.replace(replica).is_some() {
                        return Err(ended(e));
                    }
                }
            }
        }
    }

    /// Waits for a place in a replica.
    async fn turn(self: &Arc<Self>, route: &Route, bytes: usize) -> Result<Turn> {
        let mut waiting = {
            let mut state = self.state();
            if !route.leads_anywhere(&state.serving) {
                return Err(unavailable());
            }
            if state.queue.is_empty()
                && let Some(place) = self.choose(&state.serving, route)
            {
                return Ok((place, state.serving.clone()));
            }
            let (turn, told) = oneshot::channel();
            let waiter = Waiter {
                route: route.clone(),
                bytes,
                turn,
            };
            let ticket = if route.is_new() {
                let full = state.queue.len() >= self.options.waiting
                    || state.queue.bytes().saturating_add(bytes) > self.options.waiting_bytes;
                if full {
                    return Err(overloaded());
                }
                state.queue.push(waiter)
            } else {
                state.queue.push_first(waiter)
            };
            Waiting {
                model: self,
                ticket: Some(ticket),
                turn: told,
            }
        };
        // Those before it may wait for other replicas than this one can go to.
        self.dispatch();
        let turn = (&mut waiting.turn).await;
        waiting.ticket = None;
        turn.map_err(|_| unavailable())
    }

    /// Gives free places to those that wait.
    fn dispatch(self: &Arc<Self>) {
        loop {
            let (waiter, turn) = {
                let mut state = self.state();
                let serving = state.serving.clone();
                let choose = |w: &Waiter| self.choose(&serving, &w.route);
                let Some((place, waiter)) = state.queue.take(choose) else {
                    return;
                };
                (waiter, (place, serving))
            };
            // If it has left meanwhile, the place comes back by being dropped.
            let _ = waiter.turn.send(turn);
        }
    }

    /// A place in the least busy of the replicas that a request can go to. One that has failed
    /// lately, or broken this very request, is for those that have no other.
    fn choose(self: &Arc<Self>, serving: &Serving, route: &Route) -> Option<Place> {
        let now = tokio::time::Instant::now();
        let good = |r: &Arc<Replica>| route.broken != Some(r.id) && !r.is_suspect(now);
        let open = || serving.replicas.iter().filter(|r| route.is_open(r.id));
        let some_good = open().any(good);
        let replica = open()
            .filter(|r| !some_good || good(r))
            .min_by_key(|r| r.in_flight())?;
        Place::take(self, replica, self.options.in_flight)
    }

    /// Gives a place in `replica` back.
    pub(crate) fn left(self: &Arc<Self>, replica: &Replica) {
        replica.leave();
        self.dispatch();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Route, Waiter, Waiting ===

impl Route {
    fn is_new(&self) -> bool {
        self.unreachable.is_empty() && self.broken.is_none()
    }

    fn is_open(&self, replica: ReplicaId) -> bool {
        !self.unreachable.contains(&replica)
    }

    fn leads_anywhere(&self, serving: &Serving) -> bool {
        serving.replicas.iter().any(|r| self.is_open(r.id))
    }
}

impl Weighs for Waiter {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.model.state().queue.remove(ticket);
        }
    }
}

pub(crate) fn unavailable() -> Error {
    Error::new(Code::ModelUnavailable, "no replica of the model is serving")
        .hint("Look at the deployment's state; if it is stopped, activate it.")
}

fn overloaded() -> Error {
    Error::new(
        Code::Overloaded,
        "the model has more waiting requests than it can take",
    )
    .hint("Try again later, send fewer requests at a time, or give the deployment more replicas.")
}

fn ended(cause: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::new(
        Code::ModelUnavailable,
        "the replica ended while it answered",
    )
    .hint(
        "Look at the deployment's state and log for the reason; if it ran out of memory, raise the \
         memory or send fewer rows at a time.",
    )
    .source(cause)
}
