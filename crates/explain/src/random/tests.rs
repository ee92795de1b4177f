//! Draws are in range, even, and decided by seed and stream.

use super::Stream;

#[test]
fn streams_of_a_seed_repeat_and_differ_from_each_other() {
    let draws = |seed, number| {
        let mut stream = Stream::new(seed, number);
        [0; 4].map(|_: i32| stream.below(usize::MAX))
    };
    assert_eq!(draws(1, 2), draws(1, 2));
    assert_ne!(draws(1, 2), draws(1, 3));
    assert_ne!(draws(1, 2), draws(2, 2));
}

#[test]
fn below_is_even() {
    let mut stream = Stream::new(3, 0);
    let mut counts = [0; 7];
    for _ in 0..70_000 {
        counts[stream.below(7)] += 1;
    }
    // The standard deviation of a count is 93.
    assert!(
        counts
            .iter()
            .all(|count: &i32| (count - 10_000).abs() < 500),
        "{counts:?}"
    );
}

#[test]
fn unit_is_even_in_its_interval() {
    let mut stream = Stream::new(4, 0);
    let draws: Vec<f64> = (0..10_000).map(|_| stream.unit()).collect();
    assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
    let mean = draws.iter().sum::<f64>() / 10_000.0;
    assert!((mean - 0.5).abs() < 0.015, "{mean}");
}

#[test]
fn every_subset_of_a_size_is_as_likely() {
    let mut stream = Stream::new(5, 0);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..20_000 {
        let subset = stream.subset(6, 3);
        assert!(subset.len() == 3 && subset.iter().all(|&member| member < 6));
        *counts.entry(subset).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 20);
    // The standard deviation of a count is 31.
    assert!(
        counts
            .values()
            .all(|count: &i32| (count - 1000).abs() < 170),
        "{counts:?}"
    );
}

#[test]
fn the_ends_of_subset_sizes_hold() {
    let mut stream = Stream::new(6, 0);
    assert!(stream.subset(4, 0).is_empty());
    assert_eq!(stream.subset(4, 4).len(), 4);
}

#[test]
fn every_order_is_as_likely() {
    let mut counts = std::collections::BTreeMap::new();
    for number in 0..6000 {
        let mut items = [0, 1, 2];
        Stream::new(3, number).shuffle(&mut items);
        *counts.entry(items).or_insert(0) += 1;
    }
    // Each of the six 1000 times, with a standard deviation of 29.
    assert_eq!(counts.len(), 6);
    assert!(
        counts.values().all(|count| (880..1120).contains(count)),
        "{counts:?}"
    );
}
