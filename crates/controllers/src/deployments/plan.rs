//! What to do for one deployment, decided without doing anything.
//!
//! A *template* is what replicas are made of: a revision with resources. At most two matter at a
//! time: the one that serves and the one that is wanted.
//!
//! ```text
//!            wanted ≠ serving                    as many ready as wanted,
//!  ┌─────────┐  start one; when it is ready  ┌─────────┐  or nothing else serves  ┌──────────┐
//!  │ serving │ ───────────────────────────▶  │ rolling │ ───────────────────────▶ │ serving  │
//!  │ the old │  start the rest               │ (both)  │  switch, remove the old  │ the new  │
//!  └─────────┘                               └─────────┘                          └──────────┘
//!       ▲                                         │ one dies before the switch
//!       └─────────────────────────────────────────┘ remove the new; `Failed`
//! ```
//!
//! When only the resources differ, replicas that can take the new ones as they run do so, and the
//! first of them has proven the template. Where none can, one new replica proves it. From then on the
//! old ones *stand in*: they take traffic until enough of the new are there.
//!
//! A replica that dies after its template has served is replaced, ever more slowly while that
//! goes on happening. A deployment of which no replica is wanted for now is *asleep*.

use luthier_types::{Error, OutsideId, Phase, ReplicaId, Resources, RevisionId};
use tokio::time::{Duration, Instant};

use super::spec;

/// What a replica is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// The revision.
    pub revision: RevisionId,
    /// What it may use.
    pub resources: Resources,
    /// Who runs it, when that is not a container of the server.
    pub outside: Option<OutsideId>,
}

impl Template {
    /// Whether they differ in resources at most.
    fn is_like(self, other: Self) -> bool {
        (self.revision, self.outside) == (other.revision, other.outside)
    }
}

/// How far a replica is.
#[derive(Clone, Debug)]
pub enum State {
    /// Starting, loading, being validated.
    Proving,
    /// Proven and alive.
    Ready,
    /// Ended or given up: why.
    Dead(Error),
    /// Being drained, stopped and removed.
    Removing,
}

/// A replica as the plan sees it.
#[derive(Clone, Debug)]
pub struct ReplicaView {
    /// Its id; later ones sort after earlier.
    pub id: ReplicaId,
    /// What it is made of.
    pub template: Template,
    /// How far it is.
    pub state: State,
    /// The resources that it could not take while it runs.
    pub refused: Option<Resources>,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Desired {
    /// The replicas' template; `None` when none shall run.
    pub template: Option<Template>,
    /// How many; none when the deployment shall sleep.
    pub replicas: u32,
    /// Whether it may sleep, and requests wait while it does and wakes.
    pub sleeps: bool,
    /// Counts changes of intent.
    pub generation: i64,
}

/// Deaths of replicas that had served, and when the next may start.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    deaths: u32,
    last: Option<Instant>,
    reason: Option<Error>,
}

/// What the controller remembers of a deployment between passes.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The template that traffic reaches or last reached.
    pub serving: Option<Template>,
    /// The template that did not prove itself, for which generation, and why.
    pub rejected: Option<(Template, i64, Error)>,
    /// Of the serving template.
    pub backoff: Backoff,
    /// The generation for which `Ready` was reached.
    pub settled: Option<i64>,
}

/// What to do and to tell.
#[derive(Debug)]
pub struct Plan {
    /// One replica to start for each.
    pub start: Vec<Template>,
    /// Replicas to drain, stop and remove.
    pub remove: Vec<ReplicaId>,
    /// Replicas that shall take other resources while they run.
    pub resize: Vec<(ReplicaId, Resources)>,
    /// The replicas that traffic shall reach.
    pub traffic: Vec<ReplicaId>,
    /// Whether requests wait for a replica that is coming, or that they bring about.
    pub hold: bool,
    /// How far the deployment is.
    pub phase: Phase,
    /// Why it failed, or why a serving replica last died.
    pub failure: Option<Error>,
    /// Deaths of serving replicas that are not forgotten yet.
    pub crashes: u32,
    /// When to look again, if nothing happens before.
    pub again: Option<Instant>,
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so long without a death, deaths are forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(300);

impl Backoff {
    fn died(&mut self, reason: Error, now: Instant) {
        self.forget_old(now);
        self.deaths += 1;
        self.last = Some(now);
        self.reason = Some(reason);
    }

    fn forget_old(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now - last >= HEALTHY_AFTER) {
            *self = Self::default();
        }
    }

    /// When the next replica may start.
    fn next(&self) -> Option<Instant> {
        let pause = FIRST_PAUSE
            .saturating_mul(1 << self.deaths.saturating_sub(1).min(16))
            .min(LONGEST_PAUSE);
        self.last.map(|last| last + pause)
    }
}

/// Decides. Changes only `memory`; told the same twice, it asks for nothing new.
pub fn plan(
    desired: &Desired,
    replicas: &[ReplicaView],
    memory: &mut Memory,
    now: Instant,
) -> Plan {
    let mut plan = Plan {
        start: vec![],
        remove: vec![],
        resize: vec![],
        traffic: vec![],
        hold: false,
        phase: Phase::Stopped,
        failure: None,
        crashes: 0,
        again: None,
    };
    let present = |r: &&ReplicaView| !matches!(r.state, State::Removing);
    let dead = |r: &ReplicaView| matches!(r.state, State::Dead(_));
    plan.remove
        .extend(replicas.iter().filter(|r| dead(r)).map(|r| r.id));
    let Some(wanted) = desired.template else {
        let rest = replicas.iter().filter(present).filter(|r| !dead(r));
        plan.remove.extend(rest.map(|r| r.id));
        *memory = Memory::default();
        return plan;
    };
    memory.backoff.forget_old(now);
    if let Some((template, generation, _)) = &memory.rejected
        && (*template != wanted || *generation != desired.generation)
    {
        memory.rejected = None;
    }
    let reason_of = |of: &dyn Fn(Template) -> bool| {
        replicas.iter().find_map(|r| match &r.state {
            State::Dead(reason) if of(r.template) => Some(reason.clone()),
            _ => None,
        })
    };
    // Several that die together count as one death; so does one that stood in.
    let stands_in = |template: Template| {
        template != wanted && memory.serving.is_some_and(|s| s.is_like(template))
    };
    if let Some(reason) = reason_of(&|t| memory.serving == Some(t) || stands_in(t)) {
        memory.backoff.died(reason, now);
    }
    if memory.serving != Some(wanted)
        && memory.rejected.is_none()
        && let Some(reason) = reason_of(&|t| t == wanted)
    {
        memory.rejected = Some((wanted, desired.generation, reason));
    }

    let are = |template: Template, ready: bool| {
        let of = move |r: &&ReplicaView| {
            r.template == template
                && match r.state {
                    State::Ready => ready,
                    State::Proving => !ready,
                    State::Dead(_) | State::Removing => false,
                }
        };
        let mut ids: Vec<ReplicaId> = replicas.iter().filter(of).map(|r| r.id).collect();
        ids.sort();
        ids
    };
    // Ready ones of the same revision with other resources, and which of them can take those.
    let others = |target: Template| {
        let of = move |r: &&ReplicaView| {
            r.template.is_like(target) && r.template != target && matches!(r.state, State::Ready)
        };
        let mut others: Vec<&ReplicaView> = replicas.iter().filter(of).collect();
        others.sort_by_key(|r| r.id);
        others
    };
    let takes = move |r: &&&ReplicaView, target: Template| {
        r.template.outside.is_none()
            && fits_in_place(r.template.resources, target.resources)
            && r.refused != Some(target.resources)
    };
    let asleep = desired.replicas == 0 && memory.serving == Some(wanted);
    // One address outside is one replica.
    let goal_of = |template: Template| match (template.outside, desired.replicas) {
        (_, 0) if asleep => 0,
        (Some(_), _) => 1,
        (None, n) => n.max(1) as usize,
    };
    let goal = goal_of(wanted);

    if memory.serving != Some(wanted) && memory.rejected.is_none() {
        let proven = are(wanted, true).len();
        let same = memory.serving.is_some_and(|s| s.is_like(wanted));
        let serve = memory.serving.map_or(0, |s| are(s, true).len());
        let in_place = same && others(wanted).iter().any(|r| takes(&r, wanted));
        if proven >= goal || (proven > 0 && (same || serve == 0)) {
            memory.serving = Some(wanted);
            memory.backoff = Backoff::default();
        } else if !in_place {
            let mut coming = are(wanted, false);
            let started = proven + coming.len();
            let surplus = started.saturating_sub(goal).min(coming.len());
            plan.remove.extend(coming.drain(coming.len() - surplus..));
            // One alone proves the template; then the rest follow.
            let goal = if proven > 0 { goal } else { 1 };
            plan.start
                .extend(std::iter::repeat_n(wanted, goal.saturating_sub(started)));
        }
    }
    plan.crashes = memory.backoff.deaths;
    let rolling = memory.serving != Some(wanted) && memory.rejected.is_none();
    let mut enough = false;

    if let Some(serving) = memory.serving {
        let goal = goal_of(serving);
        let target = match rolling && wanted.is_like(serving) {
            true => wanted,
            false => serving,
        };
        let able = |r: &&&ReplicaView| takes(r, target);
        let resized = others(target);
        let resized = resized.iter().filter(able);
        plan.resize
            .extend(resized.map(|r| (r.id, target.resources)));
        // The oldest are kept, those that answer before those that do not yet.
        let mut kept = are(serving, true);
        let answering = kept.len().min(goal);
        enough = answering >= goal;
        kept.extend(are(serving, false));
        plan.remove.extend(kept.drain(goal.min(kept.len())..));
        plan.traffic = kept[..answering].to_vec();
        let mut missing = goal - kept.len();
        // Those that stand in for who does not answer yet; who will be one of them is not missing.
        let standing = others(serving);
        let standing = standing.iter().take(goal - answering);
        for replica in standing {
            plan.traffic.push(replica.id);
            missing = missing.saturating_sub(usize::from(takes(&replica, serving)));
        }
        if missing > 0 {
            match memory.backoff.next() {
                Some(next) if next > now => plan.again = Some(next),
                _ => plan.start.extend(std::iter::repeat_n(serving, missing)),
            }
        }
        let calm = memory.backoff.deaths == 0;
        plan.hold = asleep || (desired.sleeps && calm && plan.traffic.is_empty());
    }
    let needed = |r: &ReplicaView| {
        memory.serving == Some(r.template)
            || (rolling && r.template == wanted)
            || plan.traffic.contains(&r.id)
    };
    let rest = replicas.iter().filter(present);
    let rest: Vec<ReplicaId> = rest
        .filter(|r| !dead(r) && !needed(r))
        .map(|r| r.id)
        .collect();
    plan.remove.extend(rest);
    plan.resize.retain(|(id, _)| !plan.remove.contains(id));

    if let Some((_, _, reason)) = &memory.rejected {
        plan.phase = Phase::Failed;
        plan.failure = Some(reason.clone());
    } else if rolling {
        plan.phase = Phase::Starting;
    } else if asleep {
        plan.phase = Phase::Idle;
        memory.backoff = Backoff::default();
        memory.settled = Some(desired.generation);
    } else {
        plan.failure = memory.backoff.reason.clone();
        let some = !plan.traffic.is_empty();
        // Short of replicas because some died, not because they are still coming up.
        let settled = memory.settled == Some(desired.generation) || memory.backoff.deaths > 0;
        if enough || (some && settled) {
            plan.phase = Phase::Ready;
            memory.settled = Some(desired.generation);
        } else {
            plan.phase = Phase::Starting;
        }
    }
    plan
}

/// Whether a replica can take other resources while it runs, as far as its container's making goes:
/// what it was told at its start, how many threads to use and how large its scratch space is, must
/// be what it would be told now.
fn fits_in_place(from: Resources, to: Resources) -> bool {
    spec::threads(from) == spec::threads(to) && spec::scratch(from) == spec::scratch(to)
}

#[cfg(test)]
mod tests;
