//! Where the time of one call goes.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Counts the time of one call from its body on.
pub(crate) struct Watch {
    began: Instant,
    waits: Cell<Instant>,
    free: Cell<Instant>,
    model: Cell<Duration>,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            waits: Cell::new(now),
            free: Cell::new(now),
            model: Cell::default(),
        }
    }

    /// The table is there, and the model perhaps busy.
    pub(crate) fn waits_for_model(&self) {
        self.waits.set(Instant::now());
    }

    /// The GIL is there.
    pub(crate) fn model_is_free(&self) {
        self.free.set(Instant::now());
    }

    pub(crate) fn since_free(&self) -> Duration {
        self.free.get().elapsed()
    }

    pub(crate) fn in_model(&self, time: Duration) {
        self.model.set(time);
    }

    /// Milliseconds, as `Server-Timing` has them.
    pub(crate) fn header(&self) -> String {
        let queue = self.free.get().saturating_duration_since(self.waits.get());
        let model = self.model.get();
        let frame = self.began.elapsed().saturating_sub(queue + model);
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        format!(
            "queue;dur={:.3}, frame;dur={:.3}, model;dur={:.3}",
            millis(queue),
            millis(frame),
            millis(model)
        )
    }
}
