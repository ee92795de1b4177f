//! The durable queue: jobs made of recorded steps, run under a lease.
//!
//! A job is enqueued in the transaction that makes it necessary. A [`Worker`] claims it with a
//! lease that it keeps alive while it works; when the worker dies, the lease runs out (or is
//! reclaimed at the next start, see [`Queue::reclaim`]) and another worker goes on after the last
//! recorded step. A step may therefore run more than once, and must not mind.
//!
//! ```text
//!            claim                    last step recorded
//! PENDING ──────────▶ STARTED ───────────────────────────▶ SUCCESS
//!                     │  ▲   │ fails for good  ┌─ hook `failed` ─▶ FAILURE
//!  retryable failure  ▼  │   └────────────────▶┤   (recorded)
//!                    RETRY   cancelled         └─────────────────▶ REVOKED
//! ```
//!
//! The decision that a job has failed is recorded with its error before the hook `failed` runs, so
//! that a hook cut short by a crash runs again, and the steps do not. Where the effect of a step
//! cannot be undone, [`JobKind::decides`] names it: the job cannot fail any more after it.

#![forbid(unsafe_code)]

mod job;
mod kind;
mod log;
mod metrics;
mod queue;
mod run;
pub mod testing;
mod worker;

pub use job::{Job, LogLine, NewJob, Step};
pub use kind::{JobKind, StepContext};
pub use log::Logger;
pub use metrics::JobSeconds;
pub use queue::Queue;
pub use run::COMPENSATE;
pub use worker::{Pause, Worker, WorkerOptions};
