//! Against published quantiles and the textbook formulae.

use super::{Spread, normal_quantile};

#[test]
fn quantiles_are_those_of_the_tables() {
    for (p, expected) in [
        (0.5, 0.0),
        (0.75, 0.674_489_750_196_081_7),
        (0.9, 1.281_551_565_544_600_4),
        (0.975, 1.959_963_984_540_054),
        (0.995, 2.575_829_303_548_900_4),
        (0.999_95, 3.890_591_886_413_1),
    ] {
        assert!((normal_quantile(p) - expected).abs() < 1e-8, "{p}");
        assert!((normal_quantile(1.0 - p) + expected).abs() < 1e-8, "{p}");
    }
    assert!((normal_quantile(1e-12) + 7.034_483_8).abs() < 1e-6);
}

#[test]
fn a_spread_is_mean_and_standard_error() {
    let values = [(2.0, 1.0), (4.0, 3.0), (-1.0, 2.0)];
    let mut counted = Spread::default();
    let mut repeated = Spread::default();
    for (value, times) in values {
        counted.push(value, times);
        for _ in 0..times as usize {
            repeated.push(value, 1.0);
        }
    }
    // 2, 4, 4, 4, -1, -1: mean 2, squares 0 + 3 * 4 + 2 * 9 = 30.
    let error = (30.0_f64 / 5.0 / 6.0).sqrt();
    for spread in [counted, repeated] {
        assert!((spread.mean() - 2.0).abs() < 1e-15);
        assert!((spread.standard_error().unwrap() - error).abs() < 1e-15);
    }
}

#[test]
fn one_value_has_no_spread() {
    let mut spread = Spread::default();
    assert_eq!(spread.standard_error(), None);
    spread.push(3.0, 1.0);
    assert_eq!(spread.standard_error(), None);
    spread.push(3.0, 1.0);
    assert_eq!(spread.standard_error(), Some(0.0));
}
