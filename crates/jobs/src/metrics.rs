//! How long jobs took and how they ended, since the server started.

use std::time::Duration;

use prometheus_client::metrics::{family::Family, histogram::Histogram};

/// Of a job: `kind` and `outcome`.
type Labels = [(&'static str, String); 2];

/// Seconds: steps that copy a file, resolve, build, wait for a model.
const BUCKETS: [f64; 12] = [
    0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0,
];

/// Seconds from the making of a job to its end, by `kind` and `outcome` (`success`, `failure`,
/// `revoked`).
pub type JobSeconds = Family<Labels, Histogram, fn() -> Histogram>;

pub(crate) fn job_seconds() -> JobSeconds {
    Family::new_with_constructor(|| Histogram::new(BUCKETS))
}

pub(crate) fn ended(seconds: &JobSeconds, kind: &str, status: &str, took: Duration) {
    let labels = [
        ("kind", kind.to_owned()),
        ("outcome", status.to_ascii_lowercase()),
    ];
    seconds.get_or_create(&labels).observe(took.as_secs_f64());
}
