//! How many replicas a deployment is to have now, decided from what the gateway counts.
//!
//! Without a range it is what the user said. With one:
//!
//! ```text
//!             a request comes                more underway than the target allows
//!   0 ◀──────────────────────▶ replicas ◀────────────────────────────────────▶ max
//!      nobody asked for the               for the whole stable window fewer
//!      idle time-out                      would have done: down to min, at least 1
//! ```
//!
//! What the user says anew is where it starts from again.

use std::collections::VecDeque;

use luthier_types::Scaling;
use tokio::time::{Duration, Instant};

/// Times of the decision.
#[derive(Clone, Debug)]
pub struct Windows {
    /// Time between looks at a deployment that can grow and shrink.
    pub sample: Duration,
    /// Over which the load is averaged before replicas are added.
    pub average: Duration,
    /// For which fewer replicas must have been enough before any is taken away.
    pub stable: Duration,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            sample: Duration::from_millis(500),
            average: Duration::from_secs(4),
            stable: Duration::from_secs(60),
        }
    }
}

/// What the gateway knows of a deployment's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Underway or waiting.
    pub active: usize,
    /// How long there has been none.
    pub idle: Duration,
    /// Whether any replica takes them.
    pub served: bool,
}

/// What is remembered of a deployment between decisions.
#[derive(Clone, Debug)]
pub struct Scaler {
    /// How many replicas there are to be.
    goal: u32,
    /// What the user said when that was decided.
    said: (u32, Scaling),
    generation: i64,
    /// Since when it is awake and serves, and nothing was said anew.
    awake: Instant,
    /// Since when the load has been looked at.
    started: Instant,
    /// Since when the goal has been what it is.
    since: Instant,
    /// Requests underway, and the replicas that would have done, newest last.
    samples: VecDeque<(Instant, usize, u32)>,
}

impl Scaler {
    /// Starts with what the user said, or goes on with what was decided before the server's restart.
    pub fn new(
        replicas: u32,
        scaling: Scaling,
        generation: i64,
        goal: Option<u32>,
        now: Instant,
    ) -> Self {
        let goal = goal.unwrap_or(replicas);
        Self {
            goal: if goal == 0 && scaling.sleeps() {
                0
            } else {
                scaling.clamp(goal, replicas)
            },
            said: (replicas, scaling),
            generation,
            awake: now,
            started: now,
            since: now,
            samples: VecDeque::new(),
        }
    }

    /// How many replicas there are to be, and when to look again at the latest.
    pub fn decide(
        &mut self,
        (replicas, scaling, generation): (u32, Scaling, i64),
        demand: Demand,
        windows: &Windows,
        now: Instant,
    ) -> (u32, Option<Instant>) {
        let range = |(replicas, s): (u32, Scaling)| (replicas, s.min_replicas, s.max_replicas);
        if range(self.said) != range((replicas, scaling)) {
            *self = Self::new(replicas, scaling, generation, None, now);
        } else if self.generation != generation {
            // Something else was said: it is to be seen whether that works.
            self.generation = generation;
            self.awake = now;
            if self.goal == 0 {
                self.set(replicas, now);
            }
        }
        if !demand.served {
            self.awake = now;
        }
        if self.goal == 0 {
            if demand.active > 0 {
                self.set(replicas, now);
            }
            return (self.goal, None);
        }
        let again = self.maybe_sleep(&scaling, demand, now);
        if self.goal == 0 {
            return (0, None);
        }
        if !scaling.grows(replicas) {
            return (self.goal, again);
        }
        self.look(replicas, &scaling, demand.active, windows, now);
        let sample = now + windows.sample;
        (self.goal, Some(again.map_or(sample, |at| at.min(sample))))
    }

    fn set(&mut self, goal: u32, now: Instant) {
        self.goal = goal;
        self.started = now;
        self.since = now;
        self.samples.clear();
    }

    /// Falls asleep when nobody has asked for the idle time-out; else tells when that may be.
    fn maybe_sleep(&mut self, scaling: &Scaling, demand: Demand, now: Instant) -> Option<Instant> {
        if !scaling.sleeps() {
            return None;
        }
        let limit = Duration::from_secs(scaling.idle_timeout.into());
        if demand.active > 0 || !demand.served {
            return Some(now + limit);
        }
        let idle = demand.idle.min(now - self.awake);
        if idle >= limit {
            self.set(0, now);
        }
        Some(now + limit.saturating_sub(idle))
    }

    /// Takes a sample of the load and follows it.
    fn look(
        &mut self,
        replicas: u32,
        scaling: &Scaling,
        active: usize,
        windows: &Windows,
        now: Instant,
    ) {
        let within = |window: Duration| move |at: Instant| now - at < window;
        let recent = within(windows.average);
        let old = within(windows.stable.max(windows.average));
        while self.samples.front().is_some_and(|(at, ..)| !old(*at)) {
            self.samples.pop_front();
        }
        let (sum, count) = self
            .samples
            .iter()
            .filter(|(at, ..)| recent(*at))
            .fold((active, 1), |(sum, count), (_, active, _)| {
                (sum + active, count + 1)
            });
        let target = scaling.target_concurrency.max(1) as usize;
        let needed = |requests: usize, looks: usize| {
            let n = requests.div_ceil(looks * target);
            scaling.clamp(u32::try_from(n).unwrap_or(u32::MAX), replicas)
        };
        let enough = needed(sum, count);
        self.samples.push_back((now, active, enough));
        // A burst that is over before it has been looked at for a while is the queue's.
        if enough > self.goal && now - self.started >= windows.average {
            self.goal = enough;
            self.since = now;
        } else if enough < self.goal && now - self.since >= windows.stable {
            let most = self.samples.iter().map(|(_, _, enough)| *enough).max();
            let most = most.unwrap_or(enough).max(needed(active, 1));
            if most < self.goal {
                self.goal = most;
                self.since = now;
            }
        }
    }
}

#[cfg(test)]
mod tests;
