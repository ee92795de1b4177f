//! Whose turn it is: giving the places in replicas to those that wait, alone or together.

use std::{
    sync::{Arc, MutexGuard},
    time::{Duration, Instant as Deadline},
};

use arrow_array::RecordBatch;
use luthier_types::{Code, Error, ReplicaId, Result};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    join::Likeness,
    model::{Model, Serving, State, unavailable},
    place::Place,
    question::Question,
    queue::{Bounds, Ticket, Waits},
    replica::Replica,
    timings::Inside,
    together,
};

/// Where a request has been in vain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Route {
    /// Replicas that could not be reached, and so have not seen it.
    unreachable: Vec<ReplicaId>,
    /// The one that broke the connection after the request was sent.
    broken: Option<ReplicaId>,
    /// Not to be joined (again).
    alone: bool,
}

/// What a call met that brought no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Met {
    /// The replica could not be reached.
    Unreachable(ReplicaId),
    /// It broke the connection.
    Broken(ReplicaId),
    /// The model refused a joined call; which of the requests is to blame is not known.
    Refused,
}

/// What waiting ends with.
pub(crate) enum Turn {
    /// A place, and what served when it was given.
    Go(Place, Arc<Serving>),
    /// The request's part of the answer to a joined call, and the time that call took.
    Part(RecordBatch, Duration, Inside),
    /// The joined call brought no answer.
    Again(Met),
}

/// A request that waits for its turn.
pub(crate) struct Waiter {
    route: Route,
    rows: usize,
    bytes: usize,
    /// Until when it waits for a replica without a call that it could have joined.
    patient: Instant,
    /// What is to be joined, for a small request.
    small: Option<(RecordBatch, Likeness)>,
    pub(crate) deadline: Deadline,
    pub(crate) turn: oneshot::Sender<Turn>,
}

/// The request's end of it; leaves the queue on drop.
struct Waiting<'a> {
    model: &'a Model,
    /// `None` once it has had its turn.
    ticket: Option<Ticket>,
    turn: oneshot::Receiver<Turn>,
}

/// What a request wants of a replica.
struct Wish<'a> {
    route: &'a Route,
    /// It could be joined.
    small: bool,
    /// It can wait for a replica without a call that could have been joined.
    patient: bool,
}

impl Model {
    /// Exchanges what serves; gives back what did.
    pub(crate) fn replace(self: &Arc<Self>, serving: Serving) -> Arc<Serving> {
        let serving = Arc::new(serving);
        let (old, lost) = {
            let mut state = self.state();
            let old = std::mem::replace(&mut state.serving, serving.clone());
            let lost = state
                .queue
                .remove_all(|w| !w.route.leads_anywhere(&serving));
            (old, lost)
        };
        // Dropped, they learn that there is no replica for them.
        drop(lost);
        self.dispatch();
        old
    }

    /// Waits for a place, or for an answer together with others.
    pub(crate) async fn turn(
        self: &Arc<Self>,
        question: &Question,
        route: &Route,
        deadline: Deadline,
    ) -> Result<Turn> {
        let (patient, mut waiting) = {
            let mut state = self.state();
            let now = Instant::now();
            let patient = now + state.company.patience(self.options.patience);
            if !route.leads_anywhere(&state.serving) {
                return Err(unavailable());
            }
            let small = question.is_small() && !route.alone && state.serving.package.batching;
            let wish = Wish {
                route,
                small,
                patient: small,
            };
            if state.queue.is_empty()
                && !(small && state.lull.holds(now, 1))
                && let Some(place) = self.choose(&state.serving, &wish)
            {
                return Ok(Turn::Go(place, state.serving.clone()));
            }
            let ticket = self.queue_up(&mut state, question, route, deadline, patient)?;
            let waiting = Waiting {
                model: self,
                ticket: Some(ticket.0),
                turn: ticket.1,
            };
            (patient, waiting)
        };
        // Those before it may wait for other replicas than this one can go to.
        self.dispatch();
        let impatient = sleep_until(patient);
        let turn = tokio::select! {
            biased;
            turn = &mut waiting.turn => turn,
            () = impatient, if question.is_small() => {
                self.dispatch();
                (&mut waiting.turn).await
            }
        };
        waiting.ticket = None;
        turn.map_err(|_| unavailable())
    }

    fn queue_up(
        &self,
        state: &mut MutexGuard<'_, State>,
        question: &Question,
        route: &Route,
        deadline: Deadline,
        patient: Instant,
    ) -> Result<(Ticket, oneshot::Receiver<Turn>)> {
        let bytes = question.bytes();
        let new = *route == Route::default();
        let full = state.queue.len() >= self.options.waiting
            || state.queue.bytes().saturating_add(bytes) > self.options.waiting_bytes;
        if new && full {
            return Err(overloaded());
        }
        let (turn, told) = oneshot::channel();
        let waiter = Waiter {
            route: route.clone(),
            rows: question.rows(),
            bytes,
            patient,
            small: question.to_join(),
            deadline,
            turn,
        };
        if state.serving.holds {
            self.told.wanted.notify_one();
        }
        let ticket = if new {
            state.queue.push(waiter)
        } else {
            state.queue.push_first(waiter)
        };
        Ok((ticket, told))
    }

    /// A call of `replica` for so many requests that could be joined has ended: those who wait may be
    /// held for a moment, unless another replica has nothing to do.
    pub(crate) fn ended(self: &Arc<Self>, replica: &Replica, entries: usize) {
        let interrupted = self.state().lull.end();
        if interrupted {
            self.dispatch();
        }
        let mut state = self.state();
        let idle = |r: &Arc<Replica>| r.id != replica.id && r.in_flight() == 0;
        if state.serving.replicas.iter().any(idle) {
            return;
        }
        let counts = (entries, state.queue.len());
        let (most, took) = (state.company.bounds().entries, state.company.took());
        let longest = self.options.lull;
        let until = state
            .lull
            .begin(Instant::now(), counts, most, took, longest);
        // Without a runtime everything is at its end.
        if let Some(until) = until
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let model = Arc::clone(self);
            runtime.spawn(async move {
                sleep_until(until).await;
                model.dispatch();
            });
        }
    }

    /// Gives free places to those that wait.
    pub(crate) fn dispatch(self: &Arc<Self>) {
        loop {
            let (place, serving, mut group) = {
                let mut state = self.state();
                let serving = state.serving.clone();
                let batching = serving.package.batching;
                let bounds = if batching {
                    state.company.bounds()
                } else {
                    Bounds::ALONE
                };
                let now = Instant::now();
                let waiting = state.queue.len();
                let held = state.lull.holds(now, waiting);
                let choose = |w: &Waiter| {
                    let small = batching && w.small.is_some() && !w.route.alone;
                    if small && held {
                        return None;
                    }
                    let wish = Wish {
                        route: &w.route,
                        small,
                        patient: small && now < w.patient,
                    };
                    self.choose(&serving, &wish)
                };
                let Some((mut place, group)) = state.queue.take(bounds, choose) else {
                    return;
                };
                place.hold(group.len());
                (place, serving, group)
            };
            if group.len() > 1 {
                tokio::spawn(together::predict(self.clone(), place, serving, group));
            } else if let Some(waiter) = group.pop() {
                // If it has left meanwhile, the place comes back by being dropped.
                let _ = waiter.turn.send(Turn::Go(place, serving));
            }
        }
    }

    /// A place in the least busy of the replicas that a request can go to. One that has failed
    /// lately, or broken this very request, is for those that have no other.
    fn choose(self: &Arc<Self>, serving: &Serving, wish: &Wish<'_>) -> Option<Place> {
        let now = Instant::now();
        let route = wish.route;
        let good = |r: &Arc<Replica>| route.broken != Some(r.id) && !r.is_suspect(now);
        let open = || serving.replicas.iter().filter(|r| route.is_open(r.id));
        let some_good = open().any(good);
        let replica = open()
            .filter(|r| !some_good || good(r))
            .filter(|r| !(wish.patient && r.has_small()))
            .min_by_key(|r| r.in_flight())?;
        Place::take(self, replica, self.options.in_flight, wish.small)
    }
}

// === impl Route ===

impl Route {
    /// Takes note of what an attempt met.
    pub(crate) fn met(&mut self, met: Met) {
        match met {
            Met::Unreachable(replica) => self.unreachable.push(replica),
            Met::Broken(replica) => {
                self.broken = Some(replica);
                self.alone = true;
            }
            Met::Refused => self.alone = true,
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    fn is_open(&self, replica: ReplicaId) -> bool {
        !self.unreachable.contains(&replica)
    }

    fn leads_anywhere(&self, serving: &Serving) -> bool {
        serving.holds || serving.replicas.iter().any(|r| self.is_open(r.id))
    }
}

// === impl Waiter, Waiting ===

impl Waiter {
    /// What is to be joined; `None` never for one of several that were taken together.
    pub(crate) fn inputs(&self) -> Option<&RecordBatch> {
        self.small.as_ref().map(|(inputs, _)| inputs)
    }
}

impl Waits for Waiter {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn goes_with(&self, other: &Self) -> bool {
        match (&self.small, &other.small) {
            (Some((_, mine)), Some((_, its))) => {
                !self.route.alone && self.route == other.route && mine == its
            }
            _ => false,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.model.state().queue.remove(ticket);
        }
    }
}

fn overloaded() -> Error {
    Error::new(
        Code::Overloaded,
        "the model has more waiting requests than it can take",
    )
    .hint("Try again later, send fewer requests at a time, or give the deployment more replicas.")
}
