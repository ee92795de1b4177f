//! The three trials every kind of job must pass: each step run twice, the job failing at each step,
//! and the server killed after each step's effect and before its result is recorded.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use luthier_types::{Code, Error, JobId, JobStatus, Result};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Job, JobKind, Pause, Queue, StepContext, Worker, WorkerOptions};

/// A fresh world with everything one job needs. Each trial of each step makes a new one.
#[async_trait]
pub trait World: Send + Sync {
    /// The queue.
    fn queue(&self) -> &Queue;
    /// The kind on trial, as a new server process would make it.
    fn kind(&self) -> Arc<dyn JobKind>;
    /// Enqueues the one job.
    async fn enqueue(&self) -> JobId;
    /// Panics unless the state is what one undisturbed run leaves.
    async fn check_success(&self, job: &Job);
    /// Panics unless nothing of the job is left behind; `step` is where it failed.
    async fn check_failure(&self, job: &Job, step: &str);
}

/// Whether a failure at this point comes too late for the job to fail.
fn is_decided(kind: &dyn JobKind, step: &str, when: When) -> bool {
    let place = |step: &str| kind.steps().iter().position(|s| *s == step);
    let decider = kind.decides().and_then(place);
    match (place(step), decider) {
        (Some(at), Some(decider)) if at == decider => when == When::After,
        (Some(at), Some(decider)) => at > decider,
        _ => false,
    }
}

/// Where [`failing`] makes a step fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    After,
}

/// Runs the kind with every step run twice, and checks for success.
///
/// # Panics
/// When the world's check does.
pub async fn every_step_twice<W: World>(make: impl AsyncFn() -> W) {
    let world = make().await;
    let job = world.enqueue().await;
    let worker = start(&world, Arc::new(Twice(world.kind())), options());
    let job = finished(world.queue(), job).await;
    worker.stop().await;
    world.check_success(&job).await;
}

/// Fails the job at each step in turn, before its effect and after it, and checks that nothing is
/// left behind. Once the step that decides has had its effect, a failure must not stop the job from
/// doing all that one undisturbed run does.
///
/// # Panics
/// When the world's check does, or the job did not fail as told.
pub async fn failing_at_each_step<W: World>(make: impl AsyncFn() -> W) {
    let steps = make().await.kind().steps();
    for (step, when) in steps
        .iter()
        .flat_map(|s| [(*s, When::Before), (*s, When::After)])
    {
        let world = make().await;
        let job = world.enqueue().await;
        let inner = world.kind();
        let decided = is_decided(inner.as_ref(), step, when);
        let failing = Arc::new(Failing {
            inner,
            step,
            when,
            once: decided,
            failed: AtomicBool::new(false),
        });
        let worker = start(&world, failing.clone(), options());
        let job = finished(world.queue(), job).await;
        worker.stop().await;
        assert!(failing.failed.load(Ordering::SeqCst), "{when:?} {step}");
        if decided {
            world.check_success(&job).await;
            continue;
        }
        let message = job.error.as_ref().map(Error::message);
        assert_eq!(message, Some(INJECTED), "failing {when:?} {step}");
        assert_eq!(job.status, JobStatus::Failure, "failing {when:?} {step}");
        world.check_failure(&job, step).await;
    }
}

/// Kills the worker after the effect of each step in turn and before its result is recorded, lets a
/// new one take up the job, and checks for success. `scratch` is an empty directory.
///
/// # Panics
/// When the world's check does.
pub async fn killed_at_each_step<W: World>(scratch: &Path, make: impl AsyncFn() -> W) {
    let steps = make().await.kind().steps();
    for step in steps {
        let world = make().await;
        let job = world.enqueue().await;
        let kind = world.kind();
        let marker = scratch.join(format!("{}.{step}", kind.kind()));
        let step = format!("{}.{step}", kind.kind());
        let pause_after = Some(Pause {
            step: step.clone(),
            marker: marker.clone(),
        });
        let doomed = start(
            &world,
            kind,
            WorkerOptions {
                pause_after,
                ..options()
            },
        );
        until(&format!("the pause after {step}"), async || {
            let reached = marker.exists();
            let ended = match world.queue().get(job).await {
                Ok(Some(job)) if job.status.is_final() => Some(job),
                _ => None,
            };
            assert!(reached || ended.is_none(), "ended before {step}: {ended:?}");
            reached
        })
        .await;
        doomed.kill().await;
        assert_eq!(world.queue().reclaim().await.ok(), Some(1), "{step}");
        let worker = start(&world, world.kind(), options());
        let job = finished(world.queue(), job).await;
        worker.stop().await;
        world.check_success(&job).await;
    }
}

/// Waits until the job has ended, at most a minute, and gives it.
///
/// # Panics
/// When it does not end, or is not there.
pub async fn finished(queue: &Queue, id: JobId) -> Job {
    let mut found = None;
    until(&format!("the end of job {id}"), async || {
        match queue.get(id).await {
            Ok(Some(job)) if job.status.is_final() => {
                found = Some(job);
                true
            }
            Ok(Some(_)) => false,
            other => panic!("job {id}: {other:?}"),
        }
    })
    .await;
    match found {
        Some(job) => job,
        None => unreachable!("found above"),
    }
}

/// Waits until `condition` holds, at most a minute.
///
/// # Panics
/// When it does not, naming `what`.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited a minute for {what}");
}

/// A worker running in a task, ended on drop as if it were killed.
pub struct Running {
    cancel: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// Starts a worker for one kind.
pub fn start_worker(queue: &Queue, kind: Arc<dyn JobKind>, options: WorkerOptions) -> Running {
    let cancel = CancellationToken::new();
    let worker = Worker::new(queue.clone(), [kind], options);
    Running {
        task: Some(tokio::spawn(worker.run(cancel.clone()))),
        cancel,
    }
}

/// Options with short waits.
pub fn options() -> WorkerOptions {
    WorkerOptions {
        poll: Duration::from_millis(50),
        retry_delay: Duration::from_millis(1),
        ..WorkerOptions::default()
    }
}

fn start<W: World>(world: &W, kind: Arc<dyn JobKind>, options: WorkerOptions) -> Running {
    start_worker(world.queue(), kind, options)
}

// === impl Running ===

impl Running {
    /// Stops in good order.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }

    /// Ends at once; what it held stays held.
    pub async fn kill(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

const INJECTED: &str = "injected by the trial";

/// Runs every step twice and gives the second result.
struct Twice(Arc<dyn JobKind>);

#[async_trait]
impl JobKind for Twice {
    fn kind(&self) -> &'static str {
        self.0.kind()
    }

    fn steps(&self) -> &'static [&'static str] {
        self.0.steps()
    }

    fn decides(&self) -> Option<&'static str> {
        self.0.decides()
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        self.0.run_step(ctx, step).await?;
        self.0.run_step(ctx, step).await
    }

    async fn failed(&self, ctx: &StepContext, error: &Error) -> Result<()> {
        self.0.failed(ctx, error).await?;
        self.0.failed(ctx, error).await
    }
}

/// Fails at one step, and undoes twice.
struct Failing {
    inner: Arc<dyn JobKind>,
    step: &'static str,
    when: When,
    /// Only the first time.
    once: bool,
    failed: AtomicBool,
}

impl Failing {
    fn fails(&self, step: &str, when: When) -> bool {
        (step, when) == (self.step, self.when)
            && !(self.failed.swap(true, Ordering::SeqCst) && self.once)
    }
}

#[async_trait]
impl JobKind for Failing {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn steps(&self) -> &'static [&'static str] {
        self.inner.steps()
    }

    fn decides(&self) -> Option<&'static str> {
        self.inner.decides()
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        let injected = || Error::new(Code::ModelServeError, INJECTED);
        if self.fails(step, When::Before) {
            return Err(injected());
        }
        let result = self.inner.run_step(ctx, step).await?;
        if self.fails(step, When::After) {
            return Err(injected());
        }
        Ok(result)
    }

    async fn failed(&self, ctx: &StepContext, error: &Error) -> Result<()> {
        self.inner.failed(ctx, error).await?;
        self.inner.failed(ctx, error).await
    }
}
