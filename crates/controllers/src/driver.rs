//! Runs a reconciler: pass after pass, woken by a change of intent, by what the reconciler itself
//! waits for, and by a timer as the net below both.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_types::Result;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// What is driven.
#[async_trait]
pub trait Reconciler: Send {
    /// Its name, for the log.
    fn name(&self) -> &'static str;

    /// Compares what is wanted with what is and begins what brings them together. Idempotent; does
    /// not wait for slow work and does not retry.
    ///
    /// Gives the time after which to look again at the latest.
    async fn pass(&mut self) -> Result<Duration>;

    /// Returns when something happened that asks for a pass.
    ///
    /// **Cancellation:** loses nothing.
    async fn happened(&mut self);
}

/// How the last pass went.
#[derive(Clone, Debug, Default)]
pub struct LastPass {
    /// Passes so far.
    pub passes: u64,
    /// When the last one ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed, if it did: public text.
    pub error: Option<String>,
}

/// Time until the next try after a pass that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Drives `reconciler` until `cancel`, telling each pass' result to `last`. What the reconciler
/// has begun ends with its value, when this returns.
pub async fn drive(
    mut reconciler: impl Reconciler,
    wake: Arc<Notify>,
    last: watch::Sender<LastPass>,
    cancel: CancellationToken,
) {
    loop {
        // The permit of a wake during the pass is kept by `Notify` and starts the next at once.
        let wait = one_pass(&mut reconciler, &last).await;
        tokio::select! {
            () = cancel.cancelled() => break,
            () = wake.notified() => {}
            () = reconciler.happened() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    tracing::debug!(controller = reconciler.name(), "controller ended");
}

/// One pass, its result told to `last`; gives the time until the next.
pub async fn one_pass(
    reconciler: &mut impl Reconciler,
    last: &watch::Sender<LastPass>,
) -> Duration {
    let result = reconciler.pass().await;
    if let Err(error) = &result {
        tracing::error!(controller = reconciler.name(), error = %error.chain(), "pass failed");
    }
    last.send_modify(|last| {
        last.passes += 1;
        last.ended_at = Some(Timestamp::now());
        last.error = result.as_ref().err().map(luthier_types::Error::public_text);
    });
    result.unwrap_or(AFTER_FAILURE)
}
