//! Running means with their spread, and the quantiles of the normal distribution.

/// Mean and variance of values seen one at a time, each a whole number of times (Welford's
/// recurrence, with counts).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    pub(crate) fn push(&mut self, value: f64, times: f64) {
        self.count += times;
        let off = value - self.mean;
        self.mean += off * (times / self.count);
        self.squares += times * off * (value - self.mean);
    }

    pub(crate) const fn mean(&self) -> f64 {
        self.mean
    }

    /// Standard error of the mean; `None` for fewer than two values.
    pub(crate) fn standard_error(&self) -> Option<f64> {
        (self.count > 1.0).then(|| (self.squares.max(0.0) / (self.count - 1.0) / self.count).sqrt())
    }

    /// Half the width of an interval that reaches so many standard errors; `None` for fewer than two
    /// values.
    pub(crate) fn half_width(&self, reach: f64) -> Option<f64> {
        Some(reach * self.standard_error()?)
    }
}

/// Standard errors on either side of a mean that an interval of this level reaches.
pub(crate) fn reach(ci_level: f64) -> f64 {
    normal_quantile((1.0 - ci_level) / 2.0).abs()
}

/// The standard normal quantile of `p` in (0, 1), with a relative error below 1.2e-9 (Acklam, "An
/// algorithm for computing the inverse normal cumulative distribution function", 2003).
pub(crate) fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    let horner =
        |coefficients: &[f64], at: f64| coefficients.iter().fold(0.0, |sum, c| sum * at + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        horner(&C, q) / (horner(&D, q) * q + 1.0)
    };
    if p < 0.02425 {
        tail(p)
    } else if p > 1.0 - 0.02425 {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        horner(&A, q * q) * q / (horner(&B, q * q) * q * q + 1.0)
    }
}

#[cfg(test)]
mod tests;
