//! Where the time of a request goes, for the header `Server-Timing`.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What the time of a request is spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Reading the request into a table.
    Parse,
    /// Waiting for a place in a replica, for company there, and for Python.
    Queue,
    /// The way to the replica and back.
    Transfer,
    /// Making a pandas frame of the table, and a table of the result.
    Frame,
    /// The model's own code. A call that brings no answer is this as a whole.
    Model,
    /// Writing the answer.
    Encode,
    /// The explanation's own arithmetic.
    Explain,
}

const PARTS: [(Part, &str); 7] = [
    (Part::Parse, "parse"),
    (Part::Queue, "queue"),
    (Part::Transfer, "transfer"),
    (Part::Frame, "frame"),
    (Part::Model, "model"),
    (Part::Encode, "encode"),
    (Part::Explain, "explain"),
];

/// The time of one request, part by part. Calls that run side by side add up.
#[derive(Debug)]
pub struct Timings {
    began: Instant,
    /// Nanoseconds, in the order of `PARTS`.
    spent: [AtomicU64; PARTS.len()],
}

/// Counts time for one part at a time, also when it is dropped in the midst of one.
#[derive(Debug)]
pub struct Clock<'t> {
    timings: &'t Timings,
    part: Part,
    since: Instant,
}

/// What a replica says of the time that a call took in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) queue: Duration,
    pub(crate) frame: Duration,
    pub(crate) model: Duration,
}

// === impl Timings ===

impl Default for Timings {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            spent: Default::default(),
        }
    }
}

impl Timings {
    /// Counts time for `part` from now on.
    pub fn start(&self, part: Part) -> Clock<'_> {
        Clock {
            timings: self,
            part,
            since: Instant::now(),
        }
    }

    fn add(&self, part: Part, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.spent[part as usize].fetch_add(nanos, Ordering::Relaxed);
    }

    /// The value of the header `Server-Timing`: milliseconds of each part that every request has,
    /// of the explanation if there was one, and of the whole until now.
    pub fn header(&self) -> String {
        let mut header = String::with_capacity(160);
        for ((part, name), nanos) in PARTS.iter().zip(&self.spent) {
            let nanos = nanos.load(Ordering::Relaxed);
            if *part != Part::Explain || nanos > 0 {
                let millis = Duration::from_nanos(nanos).as_secs_f64() * 1e3;
                header.push_str(&format!("{name};dur={millis:.3}, "));
            }
        }
        let total = self.began.elapsed().as_secs_f64() * 1e3;
        header.push_str(&format!("total;dur={total:.3}"));
        header
    }
}

// === impl Clock ===

impl Clock<'_> {
    /// Goes on with another part.
    pub fn switch(&mut self, part: Part) {
        let elapsed = self.lap();
        self.timings.add(self.part, elapsed);
        self.part = part;
    }

    /// As [`Clock::switch`], of a part that ended with a call of `call` in all (or that was nothing
    /// else), of which the replica gives account.
    pub(crate) fn answered(&mut self, call: Option<Duration>, inside: Inside, part: Part) {
        let elapsed = self.lap();
        let call = call.unwrap_or(elapsed);
        let way = call.saturating_sub(inside.queue + inside.frame + inside.model);
        self.timings.add(self.part, elapsed.saturating_sub(call));
        self.timings.add(Part::Transfer, way);
        self.timings.add(Part::Queue, inside.queue);
        self.timings.add(Part::Frame, inside.frame);
        self.timings.add(Part::Model, inside.model);
        self.part = part;
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.since, now)
    }
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        let elapsed = self.lap();
        self.timings.add(self.part, elapsed);
    }
}

// === impl Inside ===

impl Inside {
    /// Reads a replica's header; what it does not say is nothing.
    pub(crate) fn read(header: &str) -> Self {
        let mut inside = Self::default();
        for metric in header.split(',') {
            let mut fields = metric.split(';').map(str::trim);
            let place = match fields.next() {
                Some("queue") => &mut inside.queue,
                Some("frame") => &mut inside.frame,
                Some("model") => &mut inside.model,
                _ => continue,
            };
            let millis = fields
                .find_map(|field| field.strip_prefix("dur="))
                .and_then(|millis| millis.parse::<f64>().ok());
            let time = millis.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
            *place = time.unwrap_or_default();
        }
        inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn spent(timings: &Timings, part: Part) -> Duration {
        Duration::from_nanos(timings.spent[part as usize].load(Ordering::Relaxed))
    }

    #[test]
    fn a_replicas_account_is_read_and_what_is_wrong_in_it_is_nothing() {
        let inside = Inside::read("queue;dur=1, frame;dur=2.5;desc=x,model; dur=4");
        let expected = Inside {
            queue: MS,
            frame: MS * 5 / 2,
            model: MS * 4,
        };
        assert_eq!(inside, expected);
        for wrong in [
            "",
            "model",
            "model;dur=x",
            "model;dur=-1",
            "model;dur=1e300",
            ";;,,=",
        ] {
            assert_eq!(Inside::read(wrong), Inside::default(), "{wrong}");
        }
    }

    #[test]
    fn a_call_is_divided_by_the_replicas_account() {
        let timings = Timings::default();
        let inside = Inside {
            queue: MS,
            frame: MS * 2,
            model: MS * 3,
        };
        let mut clock = timings.start(Part::Queue);
        clock.since -= MS * 100;
        clock.answered(Some(MS * 10), inside, Part::Encode);
        drop(clock);
        assert_eq!(spent(&timings, Part::Transfer), MS * 4);
        assert_eq!(spent(&timings, Part::Frame), MS * 2);
        assert_eq!(spent(&timings, Part::Model), MS * 3);
        let queue = spent(&timings, Part::Queue);
        assert!(queue >= MS * 91 && queue < MS * 99, "{queue:?}");
    }

    #[test]
    fn a_clock_that_is_dropped_has_counted() {
        let timings = Timings::default();
        let mut clock = timings.start(Part::Parse);
        clock.since -= MS * 7;
        clock.switch(Part::Model);
        clock.since -= MS * 9;
        drop(clock);
        assert!(spent(&timings, Part::Parse) >= MS * 7);
        assert!(spent(&timings, Part::Model) >= MS * 9);
    }

    #[test]
    fn the_header_has_every_part_in_order() {
        let timings = Timings::default();
        timings.add(Part::Model, MS * 3 / 2);
        let header = timings.header();
        let (parts, total) = header.split_once(", total;dur=").unwrap();
        assert_eq!(
            parts,
            "parse;dur=0.000, queue;dur=0.000, transfer;dur=0.000, frame;dur=0.000, \
             model;dur=1.500, encode;dur=0.000"
        );
        assert!(total.parse::<f64>().is_ok());
        timings.add(Part::Explain, MS);
        assert!(
            timings
                .header()
                .contains("encode;dur=0.000, explain;dur=1.000, total;dur=")
        );
    }
}
