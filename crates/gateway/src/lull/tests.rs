//! Moments between calls, on a clock of the test's own.

use proptest::prelude::*;

use super::*;

const LONGEST: Duration = Duration::from_millis(5);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn it_ends_when_those_answered_are_back() {
    let (mut lull, now) = (Lull::default(), Instant::now());
    assert_eq!(
        lull.begin(now, (8, 8), 256, ms(8), LONGEST),
        Some(now + ms(4))
    );
    assert!(lull.holds(now, 8) && lull.holds(now + ms(3), 15));
    assert!(!lull.holds(now + ms(3), 16));
    assert!(!lull.holds(now + ms(3), 3), "and is over then");
    assert!(lull.begin(now, (16, 0), 256, ms(8), LONGEST).is_some());
    assert!(
        lull.holds(now, 1),
        "the first to come back waits for the others"
    );
}

#[test]
fn there_is_none_where_nobody_is_to_join_or_a_call_is_short() {
    let (mut lull, now) = (Lull::default(), Instant::now());
    for (counts, most, took, longest) in [
        ((1, 0), 256, ms(8), LONGEST),
        ((8, 8), 8, ms(8), LONGEST),
        ((8, 8), 256, ms(1), LONGEST),
        ((8, 8), 256, ms(8), Duration::ZERO),
    ] {
        assert_eq!(lull.begin(now, counts, most, took, longest), None);
        assert!(!lull.holds(now, counts.1));
    }
}

#[test]
fn after_moments_in_vain_there_are_fewer() {
    let (mut lull, mut now) = (Lull::default(), Instant::now());
    let mut held = vec![];
    for call in 0..200 {
        if lull.begin(now, (4, 4), 256, ms(8), LONGEST).is_some() {
            held.push(call);
        }
        now += ms(8);
        assert!(!lull.holds(now, 4));
    }
    assert_eq!(held, [0, 2, 5, 10, 19, 36, 69, 134, 199]);
    // One that is not in vain makes the next ones usual again.
    while lull.begin(now, (4, 4), 256, ms(8), LONGEST).is_none() {}
    assert!(!lull.holds(now, 8));
    assert!(lull.begin(now, (4, 4), 256, ms(8), LONGEST).is_some());
}

proptest! {
    #[test]
    fn nobody_is_held_for_longer_than_the_longest(
        answered in 0_usize..300,
        waiting in 0_usize..300,
        took in 0_u64..1000,
    ) {
        let (mut lull, now) = (Lull::default(), Instant::now());
        if let Some(until) = lull.begin(now, (answered, waiting), 256, ms(took), LONGEST) {
            prop_assert!(until > now && until <= now + LONGEST);
        }
        prop_assert!(!lull.holds(now + LONGEST, waiting));
    }
}
