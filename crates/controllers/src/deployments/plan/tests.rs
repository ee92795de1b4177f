//! What the plan may and may not do, for any state it can find.

use luthier_types::{Code, Mebibytes, Millicpu};
use proptest::prelude::*;

use super::*;

fn template(revision: u128, memory: u32) -> Template {
    Template {
        revision: RevisionId(uuid::Uuid::from_u128(revision)),
        resources: Resources {
            cpu: Millicpu(100),
            memory: Mebibytes(memory),
        },
        outside: None,
    }
}

fn reason() -> Error {
    Error::new(Code::ModelServeError, "it ended")
}

/// A world in which the plan is applied at once and replicas come up and die as told.
struct World {
    desired: Desired,
    replicas: Vec<ReplicaView>,
    memory: Memory,
    now: Instant,
    next: u128,
    /// Whether replicas take other resources, or must be replaced.
    takes: bool,
}

impl World {
    fn new(template: Option<Template>, replicas: u32) -> Self {
        Self {
            desired: Desired {
                template,
                replicas,
                sleeps: false,
                generation: 1,
            },
            replicas: vec![],
            memory: Memory::default(),
            now: Instant::now(),
            next: 0,
            takes: true,
        }
    }

    fn want(&mut self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.desired);
        self.desired.generation += 1;
    }

    fn pass(&mut self) -> Plan {
        let plan = plan(&self.desired, &self.replicas, &mut self.memory, self.now);
        for template in &plan.start {
            self.next += 1;
            self.replicas.push(ReplicaView {
                id: ReplicaId(uuid::Uuid::from_u128(self.next)),
                template: *template,
                state: State::Proving,
                refused: None,
            });
        }
        for (id, resources) in &plan.resize {
            let replica = self.replicas.iter_mut().find(|r| r.id == *id).unwrap();
            if self.takes {
                replica.template.resources = *resources;
            } else {
                replica.refused = Some(*resources);
            }
        }
        // Removed at once.
        self.replicas.retain(|r| !plan.remove.contains(&r.id));
        plan
    }

    fn all_ready(&mut self, template: Template) {
        for replica in &mut self.replicas {
            if replica.template == template && matches!(replica.state, State::Proving) {
                replica.state = State::Ready;
            }
        }
    }

    fn die(&mut self, template: Template) {
        let replica = self.replicas.iter_mut().find(|r| r.template == template);
        replica.unwrap().state = State::Dead(reason());
    }

    fn count(&self, template: Template) -> usize {
        self.replicas
            .iter()
            .filter(|r| r.template == template)
            .count()
    }

    /// Lets everything come up.
    fn settle(&mut self) -> Plan {
        for _ in 0..20 {
            self.pass();
            if let Some(template) = self.desired.template {
                self.all_ready(template);
            }
            self.now += Duration::from_secs(61);
        }
        self.pass()
    }
}

#[test]
fn one_replica_proves_a_template_before_the_rest_start() {
    let a = template(1, 256);
    let mut world = World::new(Some(a), 3);
    assert_eq!(world.pass().phase, Phase::Starting);
    assert_eq!(world.count(a), 1);
    world.pass();
    assert_eq!(world.count(a), 1);
    world.all_ready(a);
    let plan = world.pass();
    // Nothing else serves, so the first may.
    assert_eq!(
        (world.count(a), plan.traffic.len(), plan.phase),
        (3, 1, Phase::Starting)
    );
    world.all_ready(a);
    let plan = world.pass();
    assert_eq!((plan.traffic.len(), plan.phase), (3, Phase::Ready));
}

#[test]
fn the_old_serves_until_as_many_new_ones_are_ready() {
    let (a, b) = (template(1, 256), template(2, 256));
    let mut world = World::new(Some(a), 2);
    world.settle();
    world.want(|d| d.template = Some(b));
    let plan = world.pass();
    assert_eq!(
        (plan.traffic.len(), plan.phase, world.count(b)),
        (2, Phase::Starting, 1)
    );
    world.all_ready(b);
    let plan = world.pass();
    assert_eq!((world.count(a), world.count(b)), (2, 2));
    assert!(plan.traffic.iter().all(|id| {
        world
            .replicas
            .iter()
            .any(|r| r.id == *id && r.template == a)
    }));
    world.all_ready(b);
    let plan = world.pass();
    assert_eq!(
        (plan.phase, world.count(a), world.count(b)),
        (Phase::Ready, 0, 2)
    );
    assert_eq!(world.memory.serving, Some(b));
}

#[test]
fn a_template_that_fails_leaves_the_old_serving_until_intent_changes() {
    let (a, b) = (template(1, 256), template(2, 256));
    let mut world = World::new(Some(a), 1);
    world.settle();
    world.want(|d| d.template = Some(b));
    world.pass();
    world.die(b);
    for _ in 0..3 {
        let plan = world.pass();
        assert_eq!((plan.phase, plan.traffic.len()), (Phase::Failed, 1));
        assert_eq!(plan.failure.unwrap().message(), "it ended");
        assert_eq!((world.count(a), world.count(b)), (1, 0));
        world.now += Duration::from_secs(100);
    }
    world.want(|_| {});
    assert_eq!(world.pass().phase, Phase::Starting);
    assert_eq!(world.count(b), 1);
}

#[test]
fn going_back_to_what_serves_is_ready_at_once() {
    let (a, b) = (template(1, 256), template(2, 256));
    let mut world = World::new(Some(a), 1);
    world.settle();
    world.want(|d| d.template = Some(b));
    world.pass();
    world.die(b);
    world.pass();
    world.want(|d| d.template = Some(a));
    let plan = world.pass();
    assert_eq!(plan.phase, Phase::Ready);
    assert!(plan.failure.is_none() && plan.start.is_empty());
}

#[test]
fn deaths_are_answered_ever_more_slowly_and_forgotten_after_health() {
    let a = template(1, 256);
    let mut world = World::new(Some(a), 1);
    world.settle();
    let mut pauses = vec![];
    for crashes in 1..10 {
        world.die(a);
        let plan = world.pass();
        assert_eq!((plan.phase, plan.traffic.len()), (Phase::Starting, 0));
        assert_eq!(plan.crashes, crashes);
        assert!(plan.start.is_empty() && plan.failure.is_some());
        let again = plan.again.unwrap();
        pauses.push((again - world.now).as_secs());
        world.now = again;
        assert_eq!(world.pass().start.len(), 1);
        world.all_ready(a);
        assert_eq!(world.pass().phase, Phase::Ready);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    world.now += HEALTHY_AFTER;
    let plan = world.pass();
    assert!(plan.failure.is_none() && plan.crashes == 0);
    world.die(a);
    let plan = world.pass();
    assert_eq!((plan.again.unwrap() - world.now).as_secs(), 1);
}

#[test]
fn a_deployment_short_of_a_dead_replica_stays_ready() {
    let a = template(1, 256);
    let mut world = World::new(Some(a), 3);
    world.settle();
    world.die(a);
    let plan = world.pass();
    assert_eq!((plan.phase, plan.traffic.len()), (Phase::Ready, 2));
    assert!(plan.failure.is_some());
}

#[test]
fn scaling_starts_and_ends_the_difference_and_keeps_the_oldest() {
    let a = template(1, 256);
    let mut world = World::new(Some(a), 2);
    world.settle();
    let oldest: Vec<ReplicaId> = world.replicas.iter().map(|r| r.id).collect();
    world.want(|d| d.replicas = 4);
    let plan = world.pass();
    assert_eq!((plan.start.len(), plan.phase), (2, Phase::Starting));
    assert_eq!(world.settle().phase, Phase::Ready);
    world.want(|d| d.replicas = 2);
    let plan = world.pass();
    assert_eq!((plan.remove.len(), plan.phase), (2, Phase::Ready));
    assert_eq!(
        world.replicas.iter().map(|r| r.id).collect::<Vec<_>>(),
        oldest
    );
}

#[test]
fn inactive_ends_all_and_active_proves_again() {
    let a = template(1, 256);
    let mut world = World::new(Some(a), 2);
    world.settle();
    world.want(|d| d.template = None);
    let plan = world.pass();
    assert_eq!(
        (plan.phase, plan.traffic.len(), world.replicas.len()),
        (Phase::Stopped, 0, 0)
    );
    world.want(|d| d.template = Some(a));
    assert_eq!(world.settle().phase, Phase::Ready);
}

#[test]
fn replicas_take_other_resources_as_they_run() {
    let (a, b) = (template(1, 600), template(1, 900));
    let mut world = World::new(Some(a), 2);
    world.settle();
    let ids: Vec<ReplicaId> = world.replicas.iter().map(|r| r.id).collect();
    world.want(|d| d.template = Some(b));
    let plan = world.pass();
    assert_eq!((plan.phase, plan.traffic.len()), (Phase::Starting, 2));
    assert_eq!(plan.resize.len(), 2);
    let plan = world.pass();
    assert_eq!((plan.phase, plan.traffic), (Phase::Ready, ids));
    assert!(plan.resize.is_empty() && plan.start.is_empty() && plan.remove.is_empty());
    assert_eq!(world.memory.serving, Some(b));
}

#[test]
fn what_cannot_take_them_stands_in_until_others_do() {
    let (a, b) = (template(1, 900), template(1, 600));
    let mut world = World::new(Some(a), 2);
    world.settle();
    world.takes = false;
    world.want(|d| d.template = Some(b));
    world.pass();
    let plan = world.pass();
    assert_eq!(
        (plan.start.len(), plan.traffic.len()),
        (1, 2),
        "one proves it"
    );
    world.all_ready(b);
    let plan = world.pass();
    assert_eq!((plan.start.len(), plan.traffic.len()), (1, 2));
    assert_eq!(plan.phase, Phase::Starting);
    assert_eq!((world.count(a), world.count(b)), (1, 2), "one stands in");
    world.all_ready(b);
    let plan = world.pass();
    assert_eq!((plan.phase, plan.traffic.len()), (Phase::Ready, 2));
    assert_eq!((world.count(a), world.count(b)), (0, 2));
}

#[test]
fn where_one_takes_them_only_the_others_are_replaced() {
    let (a, b) = (template(1, 900), template(1, 600));
    let mut world = World::new(Some(a), 2);
    world.settle();
    world.replicas[1].refused = Some(b.resources);
    world.want(|d| d.template = Some(b));
    assert_eq!(world.pass().resize.len(), 1);
    let plan = world.pass();
    assert_eq!((plan.start.len(), plan.traffic.len()), (1, 2));
    assert_eq!(plan.phase, Phase::Starting);
    world.all_ready(b);
    let plan = world.pass();
    assert_eq!((plan.phase, plan.traffic.len()), (Phase::Ready, 2));
    assert_eq!(world.count(a), 0);
}

#[test]
fn resources_that_do_not_prove_themselves_leave_the_old_serving() {
    let (a, b) = (template(1, 900), template(1, 600));
    let mut world = World::new(Some(a), 2);
    world.settle();
    world.takes = false;
    world.want(|d| d.template = Some(b));
    world.pass();
    world.pass();
    world.die(b);
    let plan = world.pass();
    assert_eq!((plan.phase, plan.traffic.len()), (Phase::Failed, 2));
    assert_eq!((world.count(a), world.count(b)), (2, 0));
    assert_eq!(plan.crashes, 0, "nothing that served has died");
}

#[test]
fn what_a_replica_was_told_at_its_start_decides() {
    let of = |cpu, memory| Resources {
        cpu: Millicpu(cpu),
        memory: Mebibytes(memory),
    };
    for (from, to, fits) in [
        (of(100, 512), of(1000, 16384), true),
        (of(100, 512), of(1001, 512), false),
        (of(1500, 512), of(2000, 512), true),
        (of(100, 512), of(100, 511), false),
        (of(100, 300), of(100, 301), true),
        (of(100, 300), of(100, 302), false),
    ] {
        assert_eq!(fits_in_place(from, to), fits, "{from:?} to {to:?}");
    }
}

#[test]
fn one_that_sleeps_has_no_replicas_and_holds_its_requests_until_they_are_back() {
    let a = template(1, 256);
    let mut world = World::new(Some(a), 2);
    world.desired.sleeps = true;
    assert!(!world.pass().hold, "it has not proven itself");
    let plan = world.settle();
    assert!(!plan.hold && plan.phase == Phase::Ready);
    world.desired.replicas = 0;
    let plan = world.pass();
    assert!(plan.hold && plan.traffic.is_empty());
    assert_eq!((plan.phase, world.replicas.len()), (Phase::Idle, 0));
    world.desired.replicas = 2;
    let plan = world.pass();
    assert!(plan.hold);
    assert_eq!((plan.phase, plan.start.len()), (Phase::Starting, 2));
    world.all_ready(a);
    let plan = world.pass();
    assert!(!plan.hold);
    assert_eq!((plan.phase, plan.traffic.len()), (Phase::Ready, 2));

    world.desired.replicas = 0;
    world.pass();
    world.desired.replicas = 1;
    world.pass();
    world.die(a);
    let plan = world.pass();
    assert!(!plan.hold, "who waits is told why");
    assert!(plan.failure.is_some());
}

#[test]
fn what_has_not_proven_itself_does_not_sleep() {
    let (a, b) = (template(1, 256), template(2, 256));
    let mut world = World::new(Some(a), 1);
    world.desired.sleeps = true;
    world.settle();
    world.desired.replicas = 0;
    assert_eq!(world.pass().phase, Phase::Idle);
    world.want(|d| d.template = Some(b));
    assert_eq!(world.pass().phase, Phase::Starting);
    assert_eq!(world.count(b), 1);
    world.all_ready(b);
    assert_eq!(world.pass().phase, Phase::Ready, "it takes traffic first");
    assert_eq!(world.memory.serving, Some(b));
    let plan = world.pass();
    assert_eq!((plan.phase, world.replicas.len()), (Phase::Idle, 0));
}

#[derive(Clone, Debug)]
enum Happening {
    Want(u8),
    Replicas(u32),
    /// Whether replicas take other resources from now on.
    Takes(bool),
    Up,
    Death(usize),
    Later(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..4u8).prop_map(Happening::Want),
        (0..4u32).prop_map(Happening::Replicas),
        any::<bool>().prop_map(Happening::Takes),
        Just(Happening::Up),
        Just(Happening::Up),
        (0..8usize).prop_map(Happening::Death),
        (0..90u64).prop_map(Happening::Later),
    ]
}

proptest! {
    /// Whatever happens: traffic reaches only ready replicas of one revision; a ready replica of
    /// it is only ended when surplus or when another template serves; there is never more than
    /// the serving set and a wanted one beside it; and when things calm down, what is wanted
    /// serves, or sleeps.
    #[test]
    fn keeps_its_promises(happenings in prop::collection::vec(happening(), 0..60)) {
        let templates = [template(1, 256), template(2, 600), template(2, 900)];
        let mut world = World::new(Some(templates[0]), 2);
        for happening in happenings {
            match happening {
                Happening::Want(n) => {
                    let template = templates.get(usize::from(n)).copied();
                    world.want(|d| d.template = template);
                }
                Happening::Replicas(n) => world.want(|d| d.replicas = n),
                Happening::Takes(takes) => world.takes = takes,
                Happening::Up => {
                    for replica in &mut world.replicas {
                        if matches!(replica.state, State::Proving) {
                            replica.state = State::Ready;
                        }
                    }
                }
                Happening::Death(n) => {
                    if let Some(replica) = world.replicas.get_mut(n) {
                        replica.state = State::Dead(reason());
                    }
                }
                Happening::Later(seconds) => world.now += Duration::from_secs(seconds),
            }
            let before = world.replicas.clone();
            let served = world.memory.serving;
            let plan = world.pass();
            let find = |id: &ReplicaId| before.iter().find(|r| r.id == *id).unwrap();
            for id in &plan.traffic {
                let replica = find(id);
                prop_assert!(matches!(replica.state, State::Ready));
                let serving = world.memory.serving.map(|s| s.revision);
                prop_assert_eq!(Some(replica.template.revision), serving);
                prop_assert!(!plan.remove.contains(id));
            }
            let goal = world.desired.replicas.max(1) as usize;
            let asleep = plan.phase == Phase::Idle;
            if world.memory.serving != served && world.memory.serving.is_some() && !asleep {
                // Traffic moved only to what has proven itself.
                prop_assert!(!plan.traffic.is_empty());
            }
            prop_assert!(!asleep || world.replicas.is_empty());
            for (id, resources) in &plan.resize {
                let replica = find(id);
                prop_assert!(matches!(replica.state, State::Ready));
                prop_assert_ne!(replica.template.resources, *resources);
                prop_assert!(!plan.remove.contains(id));
            }
            for id in &plan.remove {
                let replica = find(id);
                if matches!(replica.state, State::Ready) && Some(replica.template) == world.memory.serving {
                    prop_assert!(asleep || plan.traffic.len() == goal);
                }
            }
            prop_assert!(world.replicas.len() <= 2 * goal);
        }
        world.want(|_| {});
        let plan = world.settle();
        match world.desired.template {
            Some(template) => {
                let asleep = world.desired.replicas == 0;
                prop_assert_eq!(plan.phase, if asleep { Phase::Idle } else { Phase::Ready });
                prop_assert_eq!(plan.traffic.len(), world.desired.replicas as usize);
                prop_assert_eq!(world.memory.serving, Some(template));
                prop_assert_eq!(world.replicas.len(), plan.traffic.len());
            }
            None => {
                prop_assert_eq!(plan.phase, Phase::Stopped);
                prop_assert!(world.replicas.is_empty());
            }
        }
    }
}

#[test]
fn a_runner_outside_is_one_replica_and_what_serves_keeps_all_of_its_own() {
    let a = template(1, 256);
    let outside = Template {
        outside: Some(OutsideId(uuid::Uuid::from_u128(7))),
        ..a
    };
    let mut world = World::new(Some(a), 3);
    world.settle();
    world.want(|d| d.template = Some(outside));
    let plan = world.pass();
    assert_eq!((world.count(a), world.count(outside)), (3, 1));
    assert_eq!(plan.traffic.len(), 3, "until it has proven itself");
    world.die(outside);
    let plan = world.pass();
    assert_eq!((world.count(a), plan.traffic.len()), (3, 3));
    assert_eq!(plan.phase, Phase::Failed);
    world.want(|_| {});
    let plan = world.settle();
    assert_eq!((world.count(a), world.count(outside)), (0, 1));
    assert_eq!((plan.traffic.len(), plan.phase), (1, Phase::Ready));
    // And back: the one serves until there are as many containers as wanted.
    world.want(|d| d.template = Some(a));
    world.pass();
    world.all_ready(a);
    let plan = world.pass();
    assert_eq!((world.count(a), plan.traffic.len()), (3, 1));
    world.all_ready(a);
    assert_eq!(world.pass().traffic.len(), 3);
}
