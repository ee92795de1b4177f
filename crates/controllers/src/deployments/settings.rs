//! Times and bounds of the deployment controller.

use luthier_types::{Mebibytes, runner};
use tokio::time::Duration;

use super::scaling::Windows;

/// Times and bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a replica may take until its model is loaded.
    pub load_timeout: Duration,
    /// How long the validation predict may take.
    pub validation_timeout: Duration,
    /// How long requests underway may go on in a replica that is to stop.
    pub drain_timeout: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// Time between looks at a replica that is coming up.
    pub poll: Duration,
    /// Time between health checks of a serving replica.
    pub liveness_interval: Duration,
    /// How long a health check may take.
    pub liveness_timeout: Duration,
    /// After so many failed checks in a row it is replaced.
    pub liveness_failures: u32,
    /// How long a call of the model may go on past its time, before the replica is taken to hang and
    /// is replaced.
    pub hang_timeout: Duration,
    /// How long it may take to try whether a new revision can be batched.
    pub batching_timeout: Duration,
    /// How long it may take to compare a new revision with the one that serves.
    pub comparison_timeout: Duration,
    /// Longest time between what is written of the usage of a serving replica.
    pub usage_interval: Duration,
    /// The time over which the busiest use of CPU is taken.
    pub usage_window: Duration,
    /// Longest time between passes, and between searches for containers that belong to nothing.
    pub interval: Duration,
    /// Times by which the number of replicas follows the load.
    pub windows: Windows,
    /// Whether the CPU reservation is a hard cap as well.
    pub cpu_cap: bool,
    /// Threads of the runner that serve HTTP: more than the gateway's `in_flight`, so that the
    /// controller's questions find one free.
    pub runner_threads: u32,
    /// Largest request body a runner takes, in bytes.
    pub max_body_bytes: u64,
    /// All the memory that the machine has, if known: no more is suggested.
    pub machine_memory: Option<Mebibytes>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            load_timeout: Duration::from_secs(120),
            validation_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            poll: Duration::from_millis(50),
            liveness_interval: Duration::from_secs(3),
            liveness_timeout: Duration::from_secs(5),
            liveness_failures: 3,
            hang_timeout: Duration::from_secs(30),
            batching_timeout: Duration::from_secs(10),
            comparison_timeout: Duration::from_secs(20),
            usage_interval: Duration::from_secs(15),
            usage_window: Duration::from_secs(60),
            interval: Duration::from_secs(5),
            windows: Windows::default(),
            cpu_cap: false,
            runner_threads: runner::HTTP_THREADS,
            max_body_bytes: runner::MAX_BODY_BYTES,
            machine_memory: None,
        }
    }
}
