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
}

impl World {
    fn new(template: Option<Template>, replicas: u32) -> Self {
        Self {
            desired: Desired {
                template,
                replicas,
                generation: 1,
            },
            replicas: vec![],
            memory: Memory::default(),
            now: Instant::now(),
            next: 0,
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
            });
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

#[derive(Clone, Debug)]
enum Happening {
    Want(u8),
    Replicas(u32),
    Up,
    Death(usize),
    Later(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..4u8).prop_map(Happening::Want),
        (1..4u32).prop_map(Happening::Replicas),
        Just(Happening::Up),
        Just(Happening::Up),
        (0..8usize).prop_map(Happening::Death),
        (0..90u64).prop_map(Happening::Later),
    ]
}

proptest! {
    /// Whatever happens: traffic reaches only ready replicas of one template; a ready replica of
    /// it is only ended when surplus or when another template serves; there is never more than
    /// the serving set and a wanted one beside it; and when things calm down, what is wanted
    /// serves.
    #[test]
    fn keeps_its_promises(happenings in prop::collection::vec(happening(), 0..60)) {
        let templates = [template(1, 256), template(2, 256), template(2, 512)];
        let mut world = World::new(Some(templates[0]), 2);
        for happening in happenings {
            match happening {
                Happening::Want(n) => {
                    let template = templates.get(usize::from(n)).copied();
                    world.want(|d| d.template = template);
                }
                Happening::Replicas(n) => world.want(|d| d.replicas = n),
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
                prop_assert_eq!(Some(replica.template), world.memory.serving);
                prop_assert!(!plan.remove.contains(id));
            }
            if world.memory.serving != served && world.memory.serving.is_some() {
                // Traffic moved only to what has proven itself.
                prop_assert!(!plan.traffic.is_empty());
            }
            for id in &plan.remove {
                let replica = find(id);
                if matches!(replica.state, State::Ready) && Some(replica.template) == world.memory.serving {
                    prop_assert_eq!(plan.traffic.len(), world.desired.replicas as usize);
                }
            }
            prop_assert!(world.replicas.len() <= 2 * world.desired.replicas as usize);
        }
        world.want(|_| {});
        let plan = world.settle();
        match world.desired.template {
            Some(template) => {
                prop_assert_eq!(plan.phase, Phase::Ready);
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
