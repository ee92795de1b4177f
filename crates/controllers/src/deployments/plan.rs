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
//! A replica that dies after its template has served is replaced, ever more slowly while that
//! goes on happening.

use luthier_types::{Error, OutsideId, Phase, ReplicaId, Resources, RevisionId};
use tokio::time::{Duration, Instant};

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
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Desired {
    /// The replicas' template; `None` when none shall run.
    pub template: Option<Template>,
    /// How many; at least one.
    pub replicas: u32,
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
    /// The replicas that traffic shall reach.
    pub traffic: Vec<ReplicaId>,
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
        traffic: vec![],
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
    let reason_of = |template: Template| {
        replicas.iter().find_map(|r| match &r.state {
            State::Dead(reason) if r.template == template => Some(reason.clone()),
            _ => None,
        })
    };
    // Several that die together count as one death.
    if let Some(reason) = memory.serving.and_then(reason_of) {
        memory.backoff.died(reason, now);
    }
    if memory.serving != Some(wanted)
        && memory.rejected.is_none()
        && let Some(reason) = reason_of(wanted)
    {
        memory.rejected = Some((wanted, desired.generation, reason));
    }

    let ready = |template: Template| {
        let of = move |r: &&ReplicaView| r.template == template && matches!(r.state, State::Ready);
        replicas.iter().filter(of).map(|r| r.id)
    };
    let proving = |template: Template| {
        let of =
            move |r: &&ReplicaView| r.template == template && matches!(r.state, State::Proving);
        replicas.iter().filter(of).map(|r| r.id)
    };
    // One address outside is one replica.
    let goal_of = |template: Template| match template.outside {
        Some(_) => 1,
        None => desired.replicas.max(1) as usize,
    };
    let goal = goal_of(wanted);

    if memory.serving != Some(wanted) && memory.rejected.is_none() {
        let proven = ready(wanted).count();
        let others = memory.serving.map_or(0, |s| ready(s).count());
        if proven >= goal || (proven > 0 && others == 0) {
            memory.serving = Some(wanted);
            memory.backoff = Backoff::default();
        } else {
            let mut coming: Vec<ReplicaId> = proving(wanted).collect();
            coming.sort();
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

    if let Some(serving) = memory.serving {
        let goal = goal_of(serving);
        // The oldest are kept, those that answer before those that do not yet.
        let mut kept: Vec<ReplicaId> = ready(serving).collect();
        kept.sort();
        let answering = kept.len().min(goal);
        let mut coming: Vec<ReplicaId> = proving(serving).collect();
        coming.sort();
        kept.extend(coming);
        plan.remove.extend(kept.drain(goal.min(kept.len())..));
        plan.traffic = kept[..answering].to_vec();
        let missing = goal - kept.len();
        if missing > 0 {
            match memory.backoff.next() {
                Some(next) if next > now => plan.again = Some(next),
                _ => plan.start.extend(std::iter::repeat_n(serving, missing)),
            }
        }
    }
    let needed = |t: Template| memory.serving == Some(t) || (rolling && t == wanted);
    plan.remove.extend(
        replicas
            .iter()
            .filter(present)
            .filter(|r| !dead(r) && !needed(r.template))
            .map(|r| r.id),
    );

    if let Some((_, _, reason)) = &memory.rejected {
        plan.phase = Phase::Failed;
        plan.failure = Some(reason.clone());
    } else if rolling {
        plan.phase = Phase::Starting;
    } else {
        plan.failure = memory.backoff.reason.clone();
        let some = !plan.traffic.is_empty();
        let enough = plan.traffic.len() >= goal;
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

#[cfg(test)]
mod tests;
