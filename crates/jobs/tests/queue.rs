//! The queue and the worker over a real database: order, leases, retries, cancel, compensation,
//! panics, logs; and the trials themselves on a kind that passes them.

#![expect(clippy::unwrap_used, reason = "test helpers fail the test")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use luthier_jobs::{
    Job, JobKind, NewJob, Pause, Queue, StepContext, WorkerOptions,
    testing::{self, World, finished, options, start_worker, until},
};
use luthier_store::Store;
use luthier_types::{Code, Error, JobId, JobStatus, Result};
use serde_json::{Value, json};

/// A queue in a database of its own.
struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    queue: Queue,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let queue = Queue::new(store.pool().clone());
        Self { dir, store, queue }
    }

    async fn enqueue(&self, kind: &'static str, key: Option<&str>) -> JobId {
        let mut db = self.store.write().await.unwrap();
        let job = NewJob {
            kind,
            name: "Test".to_owned(),
            payload: json!({"n": 1}),
            info: json!({}),
            exclusive_key: key.map(str::to_owned),
        };
        let id = self.queue.enqueue(&mut db, job).await.unwrap();
        db.commit().await.unwrap();
        self.queue.wake();
        id
    }
}

type StepFn = dyn Fn(&StepContext, &str) -> Step + Send + Sync;

enum Step {
    Give(Value),
    Fail(Code),
    Hang,
    Panic,
}

/// A kind whose steps do what a closure says, and that remembers what ran.
struct Scripted {
    steps: &'static [&'static str],
    script: Box<StepFn>,
    ran: Mutex<Vec<String>>,
    undone: AtomicU32,
    undo_failures: AtomicU32,
}

impl Scripted {
    fn new(
        steps: &'static [&'static str],
        script: impl Fn(&StepContext, &str) -> Step + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            steps,
            script: Box::new(script),
            ran: Mutex::default(),
            undone: AtomicU32::new(0),
            undo_failures: AtomicU32::new(0),
        })
    }

    fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().clone()
    }
}

#[async_trait]
impl JobKind for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn steps(&self) -> &'static [&'static str] {
        self.steps
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        self.ran.lock().unwrap().push(step.to_owned());
        match (self.script)(ctx, step) {
            Step::Give(value) => Ok(value),
            Step::Fail(code) => Err(Error::new(code, "as told").hint("Nothing.")),
            Step::Hang => std::future::pending().await,
            Step::Panic => panic!("as told"),
        }
    }

    async fn failed(&self, _ctx: &StepContext, _error: &Error) -> Result<()> {
        if self.undo_failures.load(Ordering::SeqCst) > 0 {
            self.undo_failures.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(Code::Internal, "as told"));
        }
        self.undone.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn steps_run_in_order_and_see_earlier_results() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["one", "two"], |ctx, step| {
        assert_eq!(ctx.payload::<Value>().unwrap(), json!({"n": 1}));
        match step {
            "one" => Step::Give(json!(20)),
            _ => Step::Give(json!(ctx.need::<i64>("one").unwrap() + 1)),
        }
    });
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind.clone(), options());
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    assert_eq!((job.status, job.progress), (JobStatus::Success, 100.0));
    let steps = f.queue.steps(id).await.unwrap();
    let results: Vec<_> = steps.iter().map(|s| s.result.clone().unwrap()).collect();
    assert_eq!(results, [json!(20), json!(21)]);
    assert_eq!(kind.undone.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_uncommitted_job_does_not_exist() {
    let f = Fixture::new().await;
    let mut db = f.store.write().await.unwrap();
    let job = NewJob {
        kind: "scripted",
        name: "Test".to_owned(),
        payload: Value::Null,
        info: json!({}),
        exclusive_key: None,
    };
    let id = f.queue.enqueue(&mut db, job).await.unwrap();
    drop(db);
    assert!(f.queue.get(id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_retryable_failure_is_tried_again_a_bounded_number_of_times() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["good", "bad"], |_, step| match step {
        "good" => Step::Give(Value::Null),
        _ => Step::Fail(Code::IndexUnreachable),
    });
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind.clone(), options());
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    assert_eq!(job.status, JobStatus::Failure);
    assert_eq!(job.error.unwrap().code(), Code::IndexUnreachable);
    assert_eq!(kind.ran(), ["good", "bad", "bad", "bad", "bad"]);
    assert_eq!(kind.undone.load(Ordering::SeqCst), 1);
    let log = f.queue.logs(id, 10).await.unwrap();
    assert_eq!(log.len(), 3, "one line per further attempt: {log:?}");
}

#[tokio::test]
async fn a_retry_that_succeeds_leaves_no_error() {
    let f = Fixture::new().await;
    let tries = AtomicU32::new(0);
    let kind = Scripted::new(&["bad"], move |_, _| {
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Step::Fail(Code::Overloaded),
            _ => Step::Give(Value::Null),
        }
    });
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind, options());
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    assert_eq!(job.status, JobStatus::Success);
    assert!(job.error.is_none());
}

#[tokio::test]
async fn waiting_for_a_retry_shows_as_retry_with_its_cause() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["bad"], |_, _| Step::Fail(Code::Overloaded));
    let id = f.enqueue("scripted", None).await;
    let patient = WorkerOptions {
        retry_delay: Duration::from_secs(3600),
        ..options()
    };
    let worker = start_worker(&f.queue, kind, patient);
    until("the retry", async || {
        f.queue.get(id).await.unwrap().unwrap().status == JobStatus::Retry
    })
    .await;
    let job = f.queue.get(id).await.unwrap().unwrap();
    assert_eq!(job.error.unwrap().code(), Code::Overloaded);
    worker.stop().await;
}

#[tokio::test]
async fn other_failures_are_final_at_once_and_keep_hint_and_code() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["bad", "never"], |_, _| Step::Fail(Code::InvalidPackage));
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind.clone(), options());
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    let error = job.error.unwrap();
    assert_eq!(error.code(), Code::InvalidPackage);
    assert_eq!(error.next_step(), Some("Nothing."));
    assert_eq!(kind.ran(), ["bad"]);
}

#[tokio::test]
async fn a_panic_fails_the_job_and_the_worker_lives() {
    let f = Fixture::new().await;
    let first = AtomicU32::new(0);
    let kind = Scripted::new(&["step"], move |_, _| {
        match first.fetch_add(1, Ordering::SeqCst) {
            0 => Step::Panic,
            _ => Step::Give(Value::Null),
        }
    });
    let worker = start_worker(&f.queue, kind, options());
    let bad = f.enqueue("scripted", None).await;
    let bad = finished(&f.queue, bad).await;
    assert_eq!(bad.status, JobStatus::Failure);
    assert_eq!(bad.error.unwrap().code(), Code::Internal);
    let good = f.enqueue("scripted", None).await;
    assert_eq!(finished(&f.queue, good).await.status, JobStatus::Success);
    worker.stop().await;
}

#[tokio::test]
async fn an_unknown_kind_fails_with_its_name() {
    let f = Fixture::new().await;
    let id = f.enqueue("from the future", None).await;
    let kind = Scripted::new(&["step"], |_, _| Step::Give(Value::Null));
    let worker = start_worker(&f.queue, kind, options());
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    assert_eq!(job.status, JobStatus::Failure);
    assert!(job.error.unwrap().message().contains("from the future"));
}

#[tokio::test]
async fn jobs_with_one_key_run_one_after_the_other_and_others_do_not_wait() {
    let f = Fixture::new().await;
    let open = Arc::new(AtomicU32::new(0));
    let hold = open.clone();
    let kind = Scripted::new(&["step"], move |_, _| {
        match hold.fetch_add(1, Ordering::SeqCst) {
            0 => Step::Hang,
            _ => Step::Give(Value::Null),
        }
    });
    let worker = start_worker(&f.queue, kind.clone(), options());
    let first = f.enqueue("scripted", Some("model")).await;
    until("the first to run", async || kind.ran().len() == 1).await;
    let second = f.enqueue("scripted", Some("model")).await;
    let other = f.enqueue("scripted", Some("another")).await;
    assert_eq!(finished(&f.queue, other).await.status, JobStatus::Success);
    let waiting = f.queue.get(second).await.unwrap().unwrap();
    assert_eq!(waiting.status, JobStatus::Pending);
    assert!(f.queue.cancel(first).await.unwrap());
    assert_eq!(finished(&f.queue, first).await.status, JobStatus::Revoked);
    assert_eq!(finished(&f.queue, second).await.status, JobStatus::Success);
    worker.stop().await;
}

#[tokio::test]
async fn cancelling_stops_the_step_and_undoes() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["long"], |_, _| Step::Hang);
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind.clone(), options());
    until("the step to run", async || !kind.ran().is_empty()).await;
    assert!(f.queue.cancel(id).await.unwrap());
    let job = finished(&f.queue, id).await;
    assert_eq!(job.status, JobStatus::Revoked);
    assert_eq!(job.error.unwrap().code(), Code::Cancelled);
    assert_eq!(kind.undone.load(Ordering::SeqCst), 1);
    assert!(!f.queue.cancel(id).await.unwrap(), "it has ended");
    assert!(!f.queue.cancel(JobId::new()).await.unwrap());
    worker.stop().await;
}

#[tokio::test]
async fn a_cancelled_job_that_never_ran_runs_no_step() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["step"], |_, _| Step::Give(Value::Null));
    let id = f.enqueue("scripted", None).await;
    f.queue.cancel(id).await.unwrap();
    let worker = start_worker(&f.queue, kind.clone(), options());
    assert_eq!(finished(&f.queue, id).await.status, JobStatus::Revoked);
    worker.stop().await;
    assert!(kind.ran().is_empty());
}

#[tokio::test]
async fn a_stopping_worker_gives_its_job_back_without_counting_the_attempt() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["long"], |_, _| Step::Hang);
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind.clone(), options());
    until("the step to run", async || !kind.ran().is_empty()).await;
    worker.stop().await;
    let job = f.queue.get(id).await.unwrap().unwrap();
    assert_eq!((job.status, job.attempt), (JobStatus::Started, 0));
    let kind = Scripted::new(&["long"], |_, _| Step::Give(Value::Null));
    let worker = start_worker(&f.queue, kind, options());
    assert_eq!(finished(&f.queue, id).await.status, JobStatus::Success);
    worker.stop().await;
}

#[tokio::test]
async fn a_dead_workers_job_is_taken_up_after_its_lease_and_not_before() {
    let f = Fixture::new().await;
    let hanging = Scripted::new(&["done", "long"], |_, step| match step {
        "done" => Step::Give(json!(1)),
        _ => Step::Hang,
    });
    let id = f.enqueue("scripted", None).await;
    let doomed = start_worker(&f.queue, hanging.clone(), options());
    until("the long step", async || hanging.ran().len() == 2).await;
    doomed.kill().await;
    // Still leased: a second worker leaves it alone, which the job behind it in the queue shows.
    let kind = Scripted::new(&["done", "long"], |_, _| Step::Give(json!(2)));
    let worker = start_worker(&f.queue, kind.clone(), options());
    let other = f.enqueue("scripted", None).await;
    finished(&f.queue, other).await;
    assert_eq!(
        f.queue.get(id).await.unwrap().unwrap().status,
        JobStatus::Started
    );
    sqlx::query("UPDATE jobs SET lease_until = 0 WHERE lease_until IS NOT NULL")
        .execute(f.store.pool())
        .await
        .unwrap();
    f.queue.wake();
    assert_eq!(finished(&f.queue, id).await.status, JobStatus::Success);
    worker.stop().await;
    assert_eq!(
        kind.ran(),
        ["done", "long", "long"],
        "the recorded step did not run again"
    );
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing_more() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["long"], |_, _| Step::Hang);
    let id = f.enqueue("scripted", None).await;
    let brief = WorkerOptions {
        lease: Duration::from_millis(200),
        ..options()
    };
    let worker = start_worker(&f.queue, kind.clone(), brief);
    until("the step to run", async || !kind.ran().is_empty()).await;
    sqlx::query("UPDATE jobs SET lease_owner = 'another', lease_until = ?")
        .bind(i64::MAX)
        .execute(f.store.pool())
        .await
        .unwrap();
    f.queue.cancel(id).await.unwrap();
    // The worker notices and goes on to other jobs; this one stays as the other worker has it.
    worker.stop().await;
    let job = f.queue.get(id).await.unwrap().unwrap();
    assert_eq!(job.status, JobStatus::Started);
    assert_eq!(kind.undone.load(Ordering::SeqCst), 0);
}

/// What a step of the clock by so much does to everything stored, as seen after it.
async fn step_clock(f: &Fixture, by: jiff::SignedDuration) {
    let by = i64::try_from(by.as_micros()).unwrap();
    sqlx::query("UPDATE jobs SET run_at = run_at - ?1, lease_until = lease_until - ?1")
        .bind(by)
        .execute(f.store.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_clock_set_forward_starts_no_running_job_again() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["step"], |_, _| Step::Hang);
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind.clone(), options());
    until("the step to run", async || kind.ran().len() == 1).await;
    step_clock(&f, jiff::SignedDuration::from_hours(1)).await;
    // The worker looks into the queue and takes what comes after it.
    let unknown = f.enqueue("from the future", None).await;
    finished(&f.queue, unknown).await;
    assert_eq!(kind.ran(), ["step"], "not taken up a second time");
    assert!(f.queue.cancel(id).await.unwrap());
    assert_eq!(finished(&f.queue, id).await.status, JobStatus::Revoked);
    worker.stop().await;
}

#[tokio::test]
async fn a_clock_set_back_puts_no_job_off() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["step"], |_, _| Step::Give(Value::Null));
    let id = f.enqueue("scripted", None).await;
    step_clock(&f, jiff::SignedDuration::from_hours(-1)).await;
    let worker = start_worker(&f.queue, kind, options());
    assert_eq!(finished(&f.queue, id).await.status, JobStatus::Success);
    worker.stop().await;
}

#[tokio::test]
async fn undoing_is_tried_again_when_it_fails() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["bad"], |_, _| Step::Fail(Code::InvalidPackage));
    kind.undo_failures.store(2, Ordering::SeqCst);
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind.clone(), options());
    assert_eq!(finished(&f.queue, id).await.status, JobStatus::Failure);
    worker.stop().await;
    assert_eq!(kind.undone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn undoing_cut_short_by_a_crash_runs_again_and_no_step_does() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["bad"], |_, _| Step::Fail(Code::InvalidPackage));
    // Fails for longer than the worker lives.
    kind.undo_failures.store(u32::MAX, Ordering::SeqCst);
    let id = f.enqueue("scripted", None).await;
    let slow = WorkerOptions {
        retry_delay: Duration::from_secs(3600),
        ..options()
    };
    let doomed = start_worker(&f.queue, kind.clone(), slow);
    until("the first try to undo", async || {
        kind.undo_failures.load(Ordering::SeqCst) < u32::MAX
    })
    .await;
    doomed.kill().await;
    let job = f.queue.get(id).await.unwrap().unwrap();
    assert_eq!(job.status, JobStatus::Started, "not yet shown as failed");
    f.queue.reclaim().await.unwrap();
    let fresh = Scripted::new(&["bad"], |_, _| Step::Give(Value::Null));
    let worker = start_worker(&f.queue, fresh.clone(), options());
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    assert_eq!(job.status, JobStatus::Failure);
    assert_eq!(job.error.unwrap().code(), Code::InvalidPackage);
    assert!(fresh.ran().is_empty());
    assert_eq!(fresh.undone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_step_that_kills_the_server_each_time_ends_in_failure() {
    let f = Fixture::new().await;
    let id = f.enqueue("scripted", None).await;
    sqlx::query("UPDATE jobs SET status = 'STARTED', attempt = 10")
        .execute(f.store.pool())
        .await
        .unwrap();
    let kind = Scripted::new(&["deadly"], |_, _| Step::Give(Value::Null));
    let worker = start_worker(&f.queue, kind.clone(), options());
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    assert_eq!(job.status, JobStatus::Failure);
    assert!(job.error.unwrap().message().contains("died 10 times"));
    assert!(kind.ran().is_empty());
    assert_eq!(kind.undone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn logs_are_bounded_and_long_lines_are_cut() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["chatty"], |ctx, _| {
        ctx.logger().line("first\nsecond");
        for n in 0..4000 {
            ctx.logger().line(format!("{n} {}", "é".repeat(2000)));
        }
        Step::Give(Value::Null)
    });
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind, options());
    finished(&f.queue, id).await;
    worker.stop().await;
    let log = f.queue.logs(id, 10_000).await.unwrap();
    assert_eq!(log.len(), 4000);
    assert!(log[0].line.starts_with("0 é"), "the oldest went first");
    assert!(
        log.iter()
            .all(|l| l.line.len() <= 2000 && l.step == "chatty")
    );
    assert_eq!(f.queue.logs(id, 1).await.unwrap()[0].line[..4], *"3999");
}

#[tokio::test]
async fn progress_counts_steps_and_parts_of_steps() {
    let f = Fixture::new().await;
    let kind = Scripted::new(&["one", "two"], |ctx, step| match step {
        "one" => Step::Give(Value::Null),
        _ => {
            ctx.progress(0.5);
            Step::Hang
        }
    });
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind, options());
    until("three quarters", async || {
        f.queue.get(id).await.unwrap().unwrap().progress == 75.0
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn open_lists_unfinished_jobs_of_a_key() {
    let f = Fixture::new().await;
    let one = f.enqueue("scripted", Some("a")).await;
    f.enqueue("scripted", Some("b")).await;
    let two = f.enqueue("scripted", Some("a")).await;
    let mut db = f.store.read().await.unwrap();
    let open = f.queue.open(&mut db, "a").await.unwrap();
    assert_eq!(open.iter().map(|j| j.id).collect::<Vec<_>>(), [one, two]);
    assert_eq!(f.queue.list(2).await.unwrap().len(), 2);
}

/// A kind whose first step renames the job for good, by a transaction, and whose second tidies up.
struct Deciding {
    store: Store,
    script: fn(&str) -> Step,
    cancel_first: bool,
    ran: Mutex<Vec<String>>,
    undone: AtomicU32,
}

impl Deciding {
    fn new(f: &Fixture, cancel_first: bool, script: fn(&str) -> Step) -> Arc<Self> {
        Arc::new(Self {
            store: f.store.clone(),
            script,
            cancel_first,
            ran: Mutex::default(),
            undone: AtomicU32::new(0),
        })
    }

    fn ran(&self) -> Vec<String> {
        self.ran.lock().unwrap().clone()
    }
}

#[async_trait]
impl JobKind for Deciding {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn steps(&self) -> &'static [&'static str] {
        &["rename", "tidy"]
    }

    fn decides(&self) -> Option<&'static str> {
        Some("rename")
    }

    async fn run_step(&self, ctx: &StepContext, step: &str) -> Result<Value> {
        if step == "rename" {
            let mut db = self.store.write().await?;
            if self.cancel_first {
                sqlx::query("UPDATE jobs SET cancel_requested = 1")
                    .execute(&mut *db)
                    .await
                    .unwrap();
            }
            sqlx::query("UPDATE jobs SET name = name || '!'")
                .execute(&mut *db)
                .await
                .unwrap();
            ctx.record(&mut db, &json!("renamed")).await?;
            db.commit().await.unwrap();
        } else {
            assert_eq!(ctx.need::<String>("rename")?, "renamed");
        }
        self.ran.lock().unwrap().push(step.to_owned());
        match (self.script)(step) {
            Step::Give(value) => Ok(value),
            Step::Fail(code) => Err(Error::new(code, "as told")),
            Step::Hang => std::future::pending().await,
            Step::Panic => panic!("as told"),
        }
    }

    async fn failed(&self, _ctx: &StepContext, _error: &Error) -> Result<()> {
        self.undone.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// The end of a job of this kind, cancelled once its first step has run where `cancel` says so.
async fn decided(f: &Fixture, kind: &Arc<Deciding>, cancel: bool) -> Job {
    let id = f.enqueue("scripted", None).await;
    let worker = start_worker(&f.queue, kind.clone(), options());
    if cancel {
        until("the first step", async || !kind.ran().is_empty()).await;
        assert!(f.queue.cancel(id).await.unwrap());
    }
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    job
}

#[tokio::test]
async fn a_job_cancelled_after_what_decides_it_was_committed_succeeds() {
    let f = Fixture::new().await;
    let kind = Deciding::new(&f, false, |step| match step {
        "rename" => Step::Hang,
        _ => Step::Give(Value::Null),
    });
    let job = decided(&f, &kind, true).await;
    assert_eq!(
        (job.status, job.name.as_str()),
        (JobStatus::Success, "Test!")
    );
    assert!(job.error.is_none());
    assert_eq!(kind.ran(), ["rename", "tidy"], "it tidies up all the same");
    assert_eq!(kind.undone.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_decides_a_job_is_not_committed_once_it_is_cancelled() {
    let f = Fixture::new().await;
    let kind = Deciding::new(&f, true, |_| Step::Give(Value::Null));
    let job = decided(&f, &kind, false).await;
    assert_eq!(
        (job.status, job.name.as_str()),
        (JobStatus::Revoked, "Test")
    );
    assert!(kind.ran().is_empty());
    assert_eq!(kind.undone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_decided_job_that_cannot_tidy_up_has_succeeded() {
    let f = Fixture::new().await;
    let kind = Deciding::new(&f, false, |step| match step {
        "rename" => Step::Panic,
        _ => Step::Fail(Code::Internal),
    });
    let job = decided(&f, &kind, false).await;
    assert_eq!(
        (job.status, job.name.as_str()),
        (JobStatus::Success, "Test!")
    );
    assert!(job.error.is_none());
    assert_eq!(kind.ran(), ["rename", "tidy", "tidy", "tidy", "tidy"]);
    assert_eq!(kind.undone.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_decided_job_that_kills_the_server_each_time_has_succeeded() {
    let f = Fixture::new().await;
    let id = f.enqueue("scripted", None).await;
    let kind = Deciding::new(&f, false, |_| Step::Hang);
    let doomed = start_worker(&f.queue, kind.clone(), options());
    until("the first step", async || !kind.ran().is_empty()).await;
    doomed.kill().await;
    sqlx::query("UPDATE jobs SET attempt = 10")
        .execute(f.store.pool())
        .await
        .unwrap();
    f.queue.reclaim().await.unwrap();
    let worker = start_worker(&f.queue, kind.clone(), options());
    let job = finished(&f.queue, id).await;
    worker.stop().await;
    assert_eq!(job.status, JobStatus::Success);
    assert_eq!(kind.ran(), ["rename"]);
}

// The trials, on a kind that writes files.

struct Files {
    dir: std::path::PathBuf,
    idempotent: bool,
}

#[async_trait]
impl JobKind for Files {
    fn kind(&self) -> &'static str {
        "files"
    }

    fn steps(&self) -> &'static [&'static str] {
        &["make", "fill"]
    }

    async fn run_step(&self, _ctx: &StepContext, step: &str) -> Result<Value> {
        let file = self.dir.join(step);
        let old = match std::fs::read_to_string(&file) {
            Ok(old) if !self.idempotent => old,
            _ => String::new(),
        };
        std::fs::write(&file, old + "x").unwrap();
        Ok(Value::Null)
    }

    async fn failed(&self, _ctx: &StepContext, _error: &Error) -> Result<()> {
        for step in self.steps() {
            let _ = std::fs::remove_file(self.dir.join(step));
        }
        Ok(())
    }
}

struct FilesWorld {
    fixture: Fixture,
    out: std::path::PathBuf,
    idempotent: bool,
}

impl FilesWorld {
    async fn make(idempotent: bool) -> Self {
        let fixture = Fixture::new().await;
        let out = fixture.dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        Self {
            fixture,
            out,
            idempotent,
        }
    }
}

fn contents(dir: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        })
        .collect()
}

#[async_trait]
impl World for FilesWorld {
    fn queue(&self) -> &Queue {
        &self.fixture.queue
    }

    fn kind(&self) -> Arc<dyn JobKind> {
        Arc::new(Files {
            dir: self.out.clone(),
            idempotent: self.idempotent,
        })
    }

    async fn enqueue(&self) -> JobId {
        self.fixture.enqueue("files", None).await
    }

    async fn check_success(&self, job: &Job) {
        assert_eq!(job.status, JobStatus::Success);
        let text = |s: &str| (s.to_owned(), "x".to_owned());
        assert_eq!(
            contents(&self.out),
            BTreeMap::from([text("make"), text("fill")])
        );
    }

    async fn check_failure(&self, _job: &Job, _step: &str) {
        assert!(contents(&self.out).is_empty());
    }
}

#[tokio::test]
async fn a_sound_kind_passes_the_trials() {
    let scratch = tempfile::tempdir().unwrap();
    testing::every_step_twice(async || FilesWorld::make(true).await).await;
    testing::failing_at_each_step(async || FilesWorld::make(true).await).await;
    testing::killed_at_each_step(scratch.path(), async || FilesWorld::make(true).await).await;
}

#[tokio::test]
#[should_panic(expected = "left == right")]
async fn a_kind_that_minds_running_twice_fails_the_first_trial() {
    testing::every_step_twice(async || FilesWorld::make(false).await).await;
}

#[tokio::test]
#[should_panic(expected = "left == right")]
async fn a_kind_that_minds_running_twice_fails_the_last_trial() {
    let scratch = tempfile::tempdir().unwrap();
    testing::killed_at_each_step(scratch.path(), async || FilesWorld::make(false).await).await;
}

#[tokio::test]
async fn a_paused_worker_holds_its_job_until_it_is_killed() {
    let f = Fixture::new().await;
    let marker = f.dir.path().join("marker");
    let kind = Scripted::new(&["one", "two"], |_, _| Step::Give(Value::Null));
    let id = f.enqueue("scripted", None).await;
    let paused = WorkerOptions {
        pause_after: Some(Pause {
            step: "scripted.one".to_owned(),
            marker: marker.clone(),
        }),
        ..options()
    };
    let worker = start_worker(&f.queue, kind.clone(), paused);
    until("the marker", async || marker.exists()).await;
    let steps = f.queue.steps(id).await.unwrap();
    assert!(steps[0].result.is_none(), "its result is not recorded");
    worker.kill().await;
    assert_eq!(kind.ran(), ["one"]);
}
