//! What the number of replicas does and never does, for any load.

use proptest::prelude::*;

use super::*;

fn range(min: Option<u32>, max: Option<u32>) -> Scaling {
    Scaling {
        min_replicas: min,
        max_replicas: max,
        idle_timeout: 30,
        target_concurrency: 4,
    }
}

/// A deployment under a load that the test makes.
struct World {
    replicas: u32,
    scaling: Scaling,
    generation: i64,
    scaler: Scaler,
    now: Instant,
    asked: Instant,
    windows: Windows,
}

impl World {
    fn new(replicas: u32, scaling: Scaling) -> Self {
        let now = Instant::now();
        Self {
            replicas,
            scaling,
            generation: 1,
            scaler: Scaler::new(replicas, scaling, 1, None, now),
            now,
            asked: now,
            windows: Windows::default(),
        }
    }

    /// One look with so many requests underway; replicas are up at once.
    fn look(&mut self, active: usize) -> (u32, Option<Instant>) {
        if active > 0 {
            self.asked = self.now;
        }
        let demand = Demand {
            active,
            idle: if active > 0 {
                Duration::ZERO
            } else {
                self.now - self.asked
            },
            served: self.scaler.goal > 0,
        };
        let said = (self.replicas, self.scaling, self.generation);
        self.scaler.decide(said, demand, &self.windows, self.now)
    }

    /// Looks for so many seconds, as often as it is sampled.
    fn load(&mut self, active: usize, seconds: u64) -> u32 {
        let end = self.now + Duration::from_secs(seconds);
        let mut goal = self.look(active).0;
        while self.now < end {
            self.now += self.windows.sample;
            goal = self.look(active).0;
        }
        goal
    }
}

#[test]
fn without_a_range_nothing_moves() {
    let mut world = World::new(3, range(None, None));
    assert_eq!(world.look(0), (3, None));
    assert_eq!(world.load(500, 100), 3);
    assert_eq!(world.load(0, 1000), 3);
}

#[test]
fn replicas_follow_the_load_up_soon_and_down_late() {
    let mut world = World::new(1, range(None, Some(4)));
    assert_eq!(world.load(3, 60), 1);
    assert_eq!(world.look(11).0, 1, "a burst is the queue's");
    assert_eq!(world.load(11, 5), 3);
    assert_eq!(world.load(100, 5), 4, "the most");
    assert_eq!(world.load(5, 58), 4, "it might come again");
    assert_eq!(world.load(5, 8), 2);
    assert_eq!(world.load(0, 120), 1);
}

#[test]
fn a_load_that_comes_and_goes_keeps_what_its_peaks_need() {
    let mut world = World::new(1, range(None, Some(4)));
    for _ in 0..10 {
        assert_eq!(world.load(16, 10), 4);
        assert_eq!(world.load(0, 30), 4);
    }
}

#[test]
fn what_the_user_says_is_where_it_starts_again() {
    let mut world = World::new(1, range(Some(1), Some(8)));
    assert_eq!(world.load(32, 10), 8);
    world.replicas = 2;
    world.generation += 1;
    assert_eq!(world.look(32).0, 2);
    assert_eq!(world.load(32, 5), 8, "and follows the load from there");
    // Something else was said.
    world.generation += 1;
    world.scaling.idle_timeout = 99;
    assert_eq!(world.look(32).0, 8);
}

#[test]
fn it_sleeps_when_nobody_asks_and_wakes_when_somebody_does() {
    let mut world = World::new(2, range(Some(0), None));
    assert_eq!(world.load(1, 100), 2);
    let (goal, again) = world.look(0);
    assert_eq!(
        (goal, again),
        (2, Some(world.now + Duration::from_secs(30)))
    );
    assert_eq!(world.load(0, 29), 2);
    assert_eq!(world.load(0, 2), 0);
    assert_eq!(world.load(0, 1000), 0);
    assert_eq!(world.look(1).0, 2, "at once");
    assert_eq!(world.load(0, 29), 2);
    assert_eq!(world.load(0, 2), 0);
    world.generation += 1;
    assert_eq!(world.look(0).0, 2, "it is to be seen whether that works");
}

#[test]
fn it_does_not_sleep_before_it_has_served() {
    let mut world = World::new(1, range(Some(0), None));
    for _ in 0..100 {
        world.now += Duration::from_secs(1);
        let demand = Demand {
            active: 0,
            idle: Duration::from_secs(1000),
            served: false,
        };
        let said = (1, world.scaling, 1);
        assert_eq!(
            world
                .scaler
                .decide(said, demand, &world.windows, world.now)
                .0,
            1
        );
    }
    assert_eq!(world.load(0, 29), 1);
    assert_eq!(world.load(0, 2), 0);
}

#[test]
fn a_restarted_server_goes_on_with_what_was_decided() {
    let now = Instant::now();
    let goal = |scaling, before| Scaler::new(2, scaling, 1, before, now).goal;
    assert_eq!(goal(range(Some(0), Some(4)), Some(0)), 0);
    assert_eq!(goal(range(Some(1), Some(4)), Some(3)), 3);
    assert_eq!(
        goal(range(Some(1), Some(4)), Some(9)),
        4,
        "within the range"
    );
    assert_eq!(goal(range(None, None), Some(0)), 2);
    assert_eq!(goal(range(Some(1), Some(4)), None), 2);
}

proptest! {
    /// Whatever the load does: the number stays in its range; it is none only for who may sleep and
    /// has not been asked for the time-out; it never shrinks while more are needed than there are;
    /// and a load that stays is followed.
    #[test]
    fn keeps_its_promises(
        replicas in 1..6u32,
        less in prop::option::of(0..6u32),
        more in prop::option::of(0..5u32),
        loads in prop::collection::vec((0..60usize, 0..40u64), 1..12),
    ) {
        let min = less.map(|less| replicas.saturating_sub(less));
        let scaling = range(min, more.map(|more| replicas + more));
        scaling.check(replicas).unwrap();
        let mut world = World::new(replicas, scaling);
        for (active, seconds) in loads {
            let end = world.now + Duration::from_secs(seconds);
            let mut last = None;
            while world.now < end {
                let (goal, again) = world.look(active);
                prop_assert!(again.is_none_or(|at| at >= world.now));
                if goal == 0 {
                    prop_assert!(scaling.sleeps() && active == 0);
                    let idle = world.now - world.asked;
                    prop_assert!(idle >= Duration::from_secs(30));
                } else {
                    let range = scaling.fewest(replicas)..=scaling.most(replicas);
                    prop_assert!(range.contains(&goal), "{goal} in {range:?}");
                }
                let needed = scaling.clamp(active.div_ceil(4) as u32, replicas);
                if let Some(last) = last && goal < last && goal > 0 {
                    prop_assert!(goal >= needed);
                }
                last = Some(goal);
                world.now += world.windows.sample;
            }
        }
        let needed = scaling.clamp(5, replicas);
        prop_assert_eq!(world.load(20, 200), if scaling.grows(replicas) { needed } else { replicas });
    }
}
