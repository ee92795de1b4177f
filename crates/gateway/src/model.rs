//! One model: sending a request to its replicas until one answers.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    call::{self, Call},
    company::Company,
    connection::{self, Failure},
    gateway::{Options, Package, Stats, Told},
    join::{joined, split},
    lull::Lull,
    place::Place,
    question::Question,
    queue::Queue,
    recent::Recent,
    replica::Replica,
    timings::{Clock, Part, Timings},
    trace,
    turns::{Met, Route, Turn, Waiter},
};
use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::future::try_join_all;
use http::Request;
use http_body_util::Full;
use luthier_types::{Code, Error, Result, TRACES};
use tracing::Instrument as _;

/// What traffic reaches, exchanged as a whole.
#[derive(Default)]
pub(crate) struct Serving {
    pub(crate) replicas: Vec<Arc<Replica>>,
    pub(crate) package: Package,
    /// Whether requests wait although there is no replica.
    pub(crate) holds: bool,
}

/// A model as the gateway knows it; outlives changes of its replicas.
pub(crate) struct Model {
    pub(crate) options: Options,
    state: Mutex<State>,
    pub(crate) recent: Recent,
    pub(crate) told: Told,
    active: AtomicUsize,
    made: Instant,
    /// When a request was last answered, in milliseconds since it was made.
    asked: AtomicU64,
    requests: AtomicU64,
    errors: AtomicU64,
    calls: AtomicU64,
    joined: AtomicU64,
    batches: [AtomicU64; Stats::BATCHES.len() + 1],
}

pub(crate) struct State {
    pub(crate) serving: Arc<Serving>,
    pub(crate) queue: Queue<Waiter>,
    pub(crate) company: Company,
    pub(crate) lull: Lull,
}

/// A successful answer: the replica's to a call of one's own, or one's part of that to a joined one.
enum Answer {
    Body(Bytes, Arc<Serving>),
    Part(RecordBatch),
}

// === impl Model ===

impl Model {
    pub(crate) fn new(options: Options, told: Told) -> Self {
        let state = State {
            serving: Arc::default(),
            queue: Queue::default(),
            company: Company::default(),
            lull: Lull::default(),
        };
        Self {
            recent: Recent::new(options.recent_rows),
            options,
            state: Mutex::new(state),
            told,
            active: AtomicUsize::new(0),
            made: Instant::now(),
            asked: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            batches: Default::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.state().serving.clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.state();
        let replicas = &state.serving.replicas;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            replicas: replicas.len(),
            in_flight: replicas.iter().map(|r| r.in_flight()).sum(),
            waiting: state.queue.len(),
            active: self.active.load(Ordering::Relaxed),
            holds: state.serving.holds,
            requests: count(&self.requests),
            errors: count(&self.errors),
            calls: count(&self.calls),
            joined: count(&self.joined),
            batches: std::array::from_fn(|i| count(&self.batches[i])),
        }
    }

    /// How long nobody has asked.
    pub(crate) fn idle(&self) -> Duration {
        if self.active.load(Ordering::Acquire) > 0 {
            return Duration::ZERO;
        }
        let asked = Duration::from_millis(self.asked.load(Ordering::Relaxed));
        self.made.elapsed().saturating_sub(asked)
    }

    /// Predicts `inputs`: a small table alone or together with what else waits, a large one in parts
    /// by the replicas that have nothing else to do.
    pub(crate) async fn predict(
        self: &Arc<Self>,
        inputs: RecordBatch,
        deadline: Instant,
        timings: &Timings,
    ) -> Result<RecordBatch> {
        let answer = async {
            let Some(parts) = split(&inputs, self.idle_for_parts()) else {
                return self.predict_whole(inputs, deadline, timings).await;
            };
            let asked = parts
                .into_iter()
                .map(|part| self.predict_whole(part, deadline, timings));
            let answers = try_join_all(asked).await?;
            match joined(answers.iter()) {
                Ok(answer) => Ok(answer),
                // The model chose other types for some part: it is to see the whole.
                Err(_) => self.predict_whole(inputs, deadline, timings).await,
            }
        };
        self.counted(deadline, answer).await
    }

    async fn predict_whole(
        self: &Arc<Self>,
        inputs: RecordBatch,
        deadline: Instant,
        timings: &Timings,
    ) -> Result<RecordBatch> {
        let rows = inputs.num_rows();
        let question = Question::predict(inputs);
        let mut clock = timings.start(Part::Queue);
        match self.attempts(&question, deadline, &mut clock).await? {
            Answer::Part(table) => Ok(table),
            Answer::Body(body, serving) => call::prediction(body, &serving.package.outputs, rows),
        }
    }

    /// How many replicas have nothing to do, if the model may be asked in parts at all.
    fn idle_for_parts(&self) -> usize {
        let serving = self.serving();
        if !serving.package.batching {
            return 0;
        }
        let idle = |r: &&Arc<Replica>| r.in_flight() == 0;
        serving.replicas.iter().filter(idle).count()
    }

    /// Calls a hook, whose answer is JSON.
    pub(crate) async fn explain(
        self: &Arc<Self>,
        call: Call,
        deadline: Instant,
        timings: &Timings,
    ) -> Result<serde_json::Value> {
        let question = Question::hook(call);
        let answer = async {
            let mut clock = timings.start(Part::Queue);
            match self.attempts(&question, deadline, &mut clock).await? {
                Answer::Body(body, _) => call::json(&body),
                Answer::Part(_) => Err(Error::internal("calling a hook", "it was joined")),
            }
        };
        self.counted(deadline, answer).await
    }

    async fn counted<T>(
        &self,
        deadline: Instant,
        answer: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let _active = Active::new(self);
        let result = tokio::time::timeout_at(deadline.into(), answer)
            .await
            .unwrap_or_else(|_| Err(self.out_of_time()));
        if result.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn out_of_time(&self) -> Error {
        if self.serving().holds {
            return Error::new(
                Code::ModelStarting,
                "the model had stopped because nobody asked it, and has not come up in time",
            )
            .hint("It is starting: ask again in a moment.");
        }
        call::out_of_time()
    }

    /// Sends until one replica answers. A replica that cannot be reached costs nothing, for it has
    /// not seen the request; a connection that broke after the request was sent is tried once
    /// more and no oftener, so that a request that ends replicas does not end them all.
    /// `clock` counts for the queue, and after the answer for the way back.
    async fn attempts(
        self: &Arc<Self>,
        question: &Question,
        deadline: Instant,
        clock: &mut Clock<'_>,
    ) -> Result<Answer> {
        let mut route = Route::default();
        let mut call = None;
        // How the replica that got the request ended.
        let mut end: Option<Error> = None;
        loop {
            let waiting = tracing::trace_span!(target: TRACES, "queue");
            let turn = self.turn(question, &route, deadline).instrument(waiting);
            let turn = match turn.await {
                Ok(turn) => turn,
                // None is left, perhaps because of this request: it is not to be sent again.
                Err(error) => return Err(end.unwrap_or(error)),
            };
            let (place, serving) = match turn {
                Turn::Go(place, serving) => (place, serving),
                Turn::Part(table, took, inside) => {
                    clock.answered(Some(took), inside, Part::Transfer);
                    trace::answered_together(took, inside);
                    return Ok(Answer::Part(table));
                }
                Turn::Again(met) => {
                    route.met(met);
                    continue;
                }
            };
            clock.switch(Part::Transfer);
            let mut request = match &call {
                Some(call) => call,
                None => &*call.insert(question.call()?),
            }
            .request(deadline)?;
            let replica = place.id();
            clock.switch(Part::Model);
            let sending = tracing::trace_span!(target: TRACES, "transfer", %replica);
            trace::hand_on(&sending, request.headers_mut());
            let began = Instant::now();
            let exchange = self.exchange(place, request, 1).instrument(sending.clone());
            match exchange.await {
                Ok(answer) => {
                    trace::answered(&sending, began.elapsed(), answer.inside);
                    if let Some(error) = call::refusal(answer.status, &answer.body) {
                        return Err(error);
                    }
                    clock.answered(None, answer.inside, Part::Transfer);
                    self.answered(1);
                    if question.is_small() && serving.package.batching {
                        let took = began.elapsed();
                        self.state().company.went_well(1, question.rows(), took);
                    }
                    return Ok(Answer::Body(answer.body, serving));
                }
                Err(Failure::TooLarge(limit)) => return Err(call::too_large(limit)),
                Err(Failure::Connect(_)) => route.met(Met::Unreachable(replica)),
                Err(Failure::Broken(e)) if route.is_broken() => return Err(ended(e)),
                Err(Failure::Broken(e)) => {
                    end = Some(ended(e));
                    route.met(Met::Broken(replica));
                }
            }
            clock.switch(Part::Queue);
        }
    }

    /// One exchange with a replica, for so many requests; what goes wrong with the connection is told here.
    pub(crate) async fn exchange(
        &self,
        place: Place,
        request: Request<Full<Bytes>>,
        requests: usize,
    ) -> std::result::Result<connection::Answer, Failure> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let target = place.replica();
        let replica = target.id;
        let Options {
            max_answer, linger, ..
        } = self.options;
        let result = place.exchange(request, max_answer, linger).await;
        match &result {
            Ok(answer) => {
                // What was refused is asked again, each by itself, if it was several.
                if answer.status.is_success() {
                    target.has_answered(requests);
                }
                return result;
            }
            Err(Failure::TooLarge(_)) => return result,
            Err(Failure::Connect(e)) => {
                tracing::warn!(%replica, error = %e, "replica cannot be reached");
            }
            Err(Failure::Broken(e)) => {
                tracing::warn!(%replica, error = %e, "replica broke the connection");
            }
        }
        self.told.failed.notify_one();
        result
    }

    /// Counts requests that were answered in the company of others.
    pub(crate) fn answered_together(&self, entries: usize) {
        self.joined.fetch_add(entries as u64, Ordering::Relaxed);
        self.answered(entries);
    }

    /// Counts a call that answered so many requests.
    fn answered(&self, entries: usize) {
        let batch = Stats::BATCHES.partition_point(|most| *most < entries);
        self.batches[batch].fetch_add(1, Ordering::Relaxed);
    }
}

/// A request that is not answered yet; counted out when it is dropped.
struct Active<'a>(&'a Model);

impl<'a> Active<'a> {
    fn new(model: &'a Model) -> Self {
        model.active.fetch_add(1, Ordering::Relaxed);
        Self(model)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Before the count, so that who sees none underway sees when the last one was.
        self.0.asked.fetch_max(now, Ordering::Relaxed);
        self.0.active.fetch_sub(1, Ordering::Release);
    }
}

pub(crate) fn unavailable() -> Error {
    Error::new(Code::ModelUnavailable, "no replica of the model is serving")
        .hint("Look at the deployment's state; if it is stopped, activate it.")
}

/// The end of a request that may have ended its replicas.
fn ended(cause: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::new(
        Code::ModelServeError,
        "the replica ended while it answered",
    )
    .hint(
        "Look at the deployment's state and log for the reason; if it ran out of memory, raise the \
         memory or send fewer rows at a time.",
    )
    .source(cause)
}
