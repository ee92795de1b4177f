//! What is learnt from calls of known cost.

use proptest::prelude::*;

use super::*;

/// Lets calls be as large as is allowed, and sometimes single, for a model of this cost.
fn after_calls(fixed: f64, each: f64, calls: usize) -> Bounds {
    let mut company = Company::default();
    for n in 0..calls {
        let rows = if n % 4 == 0 {
            1
        } else {
            company.bounds().rows.min(16)
        };
        let took = Duration::from_secs_f64(fixed + each * rows as f64);
        company.went_well(rows, rows, took);
    }
    company.bounds()
}

#[test]
fn rows_that_cost_little_go_in_numbers_and_dear_ones_in_pairs() {
    assert_eq!(after_calls(0.003, 0.000_02, 50).rows, MOST_ROWS);
    // However long the call takes by itself.
    assert_eq!(after_calls(2.0, 0.000_02, 50).rows, MOST_ROWS);
    assert_eq!(after_calls(0.001, 0.005, 50).rows, 11);
    assert_eq!(after_calls(0.001, 0.2, 50).rows, 2);
}

#[test]
fn failures_halve_and_successes_restore() {
    let mut company = Company::default();
    for expected in [8, 4, 2, 2] {
        company.failed();
        assert_eq!(company.bounds().entries, expected);
    }
    company.went_well(1, 1, Duration::from_millis(1));
    assert_eq!(company.bounds().entries, 2, "single calls prove nothing");
    for _ in 0..3 {
        company.went_well(2, 2, Duration::from_millis(1));
    }
    assert_eq!(company.bounds().entries, 5);
}

proptest! {
    #[test]
    fn bounds_are_always_sensible(
        calls in prop::collection::vec((1usize..300, 0u64..10_000_000, any::<bool>()), 0..200)
    ) {
        let mut company = Company::default();
        for (rows, micros, good) in calls {
            if good {
                company.went_well(rows, rows, Duration::from_micros(micros));
            } else {
                company.failed();
            }
            let bounds = company.bounds();
            prop_assert!((FEWEST..=MOST_ENTRIES).contains(&bounds.entries));
            prop_assert!((FEWEST..=MOST_ROWS).contains(&bounds.rows));
        }
    }

    /// Once the cost is known, company adds no more than it may.
    #[test]
    fn company_adds_no_more_than_it_may(fixed in 0.0..0.5f64, each in 0.000_001..0.05f64) {
        let rows = after_calls(fixed, each, 100).rows;
        prop_assert!((rows - 1) as f64 * each <= ADDED.as_secs_f64() * 1.05 || rows == FEWEST);
    }
}
