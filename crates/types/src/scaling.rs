//! Between which numbers of replicas a deployment may move by itself, and when.

use serde::{Deserialize, Serialize};

use crate::{Code, DeploymentParams, Error, units::check_range};

/// What moves a deployment's number of replicas. By default nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scaling {
    /// The fewest; none lets it sleep when nobody asks. `None` for its `replicas`.
    pub min_replicas: Option<u32>,
    /// The most. `None` for its `replicas`.
    pub max_replicas: Option<u32>,
    /// Seconds without a request after which one that may sleep does.
    pub idle_timeout: u32,
    /// Requests underway and waiting for each replica above which there are to be more.
    pub target_concurrency: u32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_replicas: None,
            max_replicas: None,
            idle_timeout: 300,
            target_concurrency: 4,
        }
    }
}

impl Scaling {
    /// Allowed idle time-outs, in seconds: up to a week.
    pub const IDLE_RANGE: std::ops::RangeInclusive<u32> = 1..=604_800;
    /// Allowed targets.
    pub const TARGET_RANGE: std::ops::RangeInclusive<u32> = 1..=1000;

    /// Checks the figures against their ranges and against `replicas`.
    ///
    /// # Errors
    /// [`Code::BadRequest`] naming what does not fit.
    pub fn check(&self, replicas: u32) -> Result<(), Error> {
        let most = *DeploymentParams::REPLICAS_RANGE.end();
        if let Some(min) = self.min_replicas {
            check_range("min_replicas", min, &(0..=most), "replicas")?;
        }
        if let Some(max) = self.max_replicas {
            check_range("max_replicas", max, &(1..=most), "replicas")?;
        }
        check_range("idle_timeout", self.idle_timeout, &Self::IDLE_RANGE, "s")?;
        let target = self.target_concurrency;
        check_range(
            "target_concurrency",
            target,
            &Self::TARGET_RANGE,
            "requests",
        )?;
        let outside = |what: &str, limit: u32, word: &str| {
            Error::new(
                Code::BadRequest,
                format!("replicas is {replicas}, {word} {what}, which is {limit}"),
            )
            .hint(format!(
                "Change {what} with it, or set it to null, which makes it the same as replicas."
            ))
        };
        match (self.min_replicas, self.max_replicas) {
            (Some(min), _) if min > replicas => Err(outside("min_replicas", min, "below")),
            (_, Some(max)) if max < replicas => Err(outside("max_replicas", max, "above")),
            _ => Ok(()),
        }
    }

    /// Whether it may have no replica at all while nobody asks.
    pub fn sleeps(&self) -> bool {
        self.min_replicas == Some(0)
    }

    /// Whether the number of replicas follows the load.
    pub fn grows(&self, replicas: u32) -> bool {
        self.fewest(replicas) < self.most(replicas)
    }

    /// The fewest replicas while it is awake. One that may sleep, but not grow, has all of them then.
    pub fn fewest(&self, replicas: u32) -> u32 {
        match (self.min_replicas, self.max_replicas) {
            (None, _) | (Some(0), None) => replicas,
            (Some(min), _) => min.max(1),
        }
    }

    /// The most replicas it can have.
    pub fn most(&self, replicas: u32) -> u32 {
        self.max_replicas.unwrap_or(replicas).max(replicas)
    }

    /// The allowed number of replicas of one that is awake nearest to `n`.
    pub fn clamp(&self, n: u32, replicas: u32) -> u32 {
        let fewest = self.fewest(replicas);
        n.clamp(fewest, self.most(replicas).max(fewest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(min: Option<u32>, max: Option<u32>) -> Scaling {
        Scaling {
            min_replicas: min,
            max_replicas: max,
            ..Scaling::default()
        }
    }

    #[test]
    fn the_range_holds_the_replicas() {
        assert!(range(None, None).check(3).is_ok());
        assert!(range(Some(0), Some(10)).check(3).is_ok());
        assert!(range(Some(3), Some(3)).check(3).is_ok());
        for (wrong, says) in [
            (range(Some(4), None), "below min_replicas, which is 4"),
            (range(None, Some(2)), "above max_replicas, which is 2"),
            (range(None, Some(11)), "outside 1 to 10"),
            (range(Some(11), None), "outside 0 to 10"),
            (range(None, Some(0)), "outside 1 to 10"),
        ] {
            let error = wrong.check(3).unwrap_err();
            assert_eq!(error.code(), Code::BadRequest);
            assert!(error.message().contains(says), "{error}");
            assert!(error.next_step().is_some());
        }
    }

    #[test]
    fn sleeping_and_following_the_load_are_apart() {
        let fixed = range(None, None);
        assert!(!fixed.sleeps() && !fixed.grows(2));
        let sleeps = range(Some(0), None);
        assert!(sleeps.sleeps() && !sleeps.grows(1));
        assert!(!range(Some(0), None).grows(2), "both, while it is awake");
        assert!(
            range(Some(0), Some(2)).grows(2),
            "down to one, while it is awake"
        );
        assert!(range(None, Some(4)).grows(2));
        assert_eq!(range(Some(1), Some(4)).clamp(0, 2), 1);
        assert_eq!(range(Some(1), Some(4)).clamp(9, 2), 4);
    }
}
