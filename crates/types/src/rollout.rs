//! How a revision came to be wanted, and how it differs from the one that it is to replace.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Code, Error, RevisionId};

/// What caused a revision to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Cause {
    /// The model's first artifact.
    #[default]
    Add,
    /// Another artifact, or another image for it, by the client's update.
    Update,
    /// The deployment was moved to another image.
    Move {
        /// Whether to the one it was on before.
        back: bool,
    },
    /// An earlier revision was asked for again.
    Rollback {
        /// Its number.
        to: i64,
    },
    /// A revision that was held was let through.
    Approval {
        /// Its number.
        of: i64,
    },
}

/// How far a new revision may differ from the one that serves before it is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The largest difference of any output on any row, in the output's own unit.
    pub max_prediction_change: Option<f64>,
    /// The share of rows, from 0 to 1, on which the predicted class may be another.
    pub max_decision_change: Option<f64>,
    /// The median time for one row, as a multiple of that of the revision that serves.
    pub max_latency_ratio: Option<f64>,
    /// Whether it is held whatever the figures are.
    pub hold: bool,
}

/// How a new revision differs from the one that serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The revision that served.
    pub with: RevisionId,
    /// Rows of the dataset that both answered.
    pub dataset_rows: usize,
    /// Rows of recent requests that both answered.
    pub recent_rows: usize,
    /// Per output, in order.
    pub outputs: Vec<OutputChange>,
    /// The share of rows on which the predicted class is another; `None` where there are no classes.
    pub decisions: Option<f64>,
    /// How long the models took.
    pub latency: Option<LatencyChange>,
    /// What the inputs contribute.
    pub attributions: Option<AttributionChange>,
    /// What could not be compared, and why.
    pub omitted: Vec<String>,
}

/// How the values of one output differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputChange {
    /// Its name.
    pub name: String,
    /// The mean absolute difference; `None` for what are no numbers.
    pub mean: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// The correlation of the old and the new values; `None` where one of them does not vary.
    pub correlation: Option<f64>,
    /// The share of rows whose value is another, beyond rounding.
    pub changed: f64,
    /// Rows for which only one of the two gave a value.
    pub missing: usize,
}

/// How long the models of both took, as their runners measure it, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyChange {
    /// Rows that were asked alone.
    pub asked: usize,
    /// Median for one row, of the one that serves and of the new one.
    pub one_p50: [f64; 2],
    /// 95th percentile for one row.
    pub one_p95: [f64; 2],
    /// All rows together.
    pub all: [f64; 2],
}

/// How much the contributions of the inputs differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttributionChange {
    /// Rows that were explained.
    pub rows: usize,
    /// The mean absolute difference of a contribution.
    pub mean: f64,
    /// The largest.
    pub max: f64,
    /// The inputs whose contribution changed most, with the mean absolute difference.
    pub most: Vec<(String, f64)>,
}

// === impl Cause ===

impl Cause {
    /// Whether the revision must be made of exactly what the earlier one was.
    pub const fn is_exact(&self) -> bool {
        matches!(self, Self::Rollback { .. } | Self::Approval { .. })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add => f.write_str("first artifact"),
            Self::Update => f.write_str("update"),
            Self::Move { back: false } => f.write_str("move to another image"),
            Self::Move { back: true } => f.write_str("move back to the image before"),
            Self::Rollback { to } => write!(f, "rollback to {to}"),
            Self::Approval { of } => write!(f, "approval of {of}"),
        }
    }
}

// === impl Limits ===

impl Limits {
    /// Checks that every figure can be one.
    ///
    /// # Errors
    /// [`Code::BadRequest`] for the first that cannot.
    pub fn check(&self) -> Result<(), Error> {
        for (name, limit, most) in [
            (
                "max_prediction_change",
                self.max_prediction_change,
                f64::MAX,
            ),
            ("max_decision_change", self.max_decision_change, 1.0),
            ("max_latency_ratio", self.max_latency_ratio, f64::MAX),
        ] {
            if let Some(limit) = limit
                && !(0.0..=most).contains(&limit)
            {
                return Err(Error::new(Code::BadRequest, format!("{name} is {limit}"))
                    .hint("It is a number that is not negative; a share is at most 1."));
            }
        }
        Ok(())
    }

    /// What of a comparison is past its limit, in words; empty when nothing is.
    pub fn exceeded(&self, found: &Comparison) -> Vec<String> {
        let mut over = vec![];
        if let Some(limit) = self.max_prediction_change {
            for output in &found.outputs {
                let name = &output.name;
                match output.max {
                    Some(max) if max > limit => over.push(format!(
                        "`{name}` changes by up to {}, where {} is allowed",
                        figure(max),
                        figure(limit)
                    )),
                    _ if output.missing > 0 => over.push(format!(
                        "`{name}` has a value in only one of the two for {} rows",
                        output.missing
                    )),
                    None if output.changed > 0.0 => {
                        over.push(format!("`{name}` changes, and is no number"));
                    }
                    _ => {}
                }
            }
        }
        if let (Some(limit), Some(share)) = (self.max_decision_change, found.decisions)
            && share > limit
        {
            over.push(format!(
                "the predicted class changes for {} of the rows, where {} is allowed",
                percent(share),
                percent(limit)
            ));
        }
        if let (Some(limit), Some(latency)) = (self.max_latency_ratio, &found.latency)
            && latency.ratio() > limit
        {
            over.push(format!(
                "one row takes {} times as long, where {} is allowed",
                figure(latency.ratio()),
                figure(limit)
            ));
        }
        over
    }
}

// === impl Comparison ===

impl Comparison {
    /// One that says only why nothing was compared.
    pub fn omitted(with: RevisionId, why: impl Into<String>) -> Self {
        Self {
            with,
            dataset_rows: 0,
            recent_rows: 0,
            outputs: vec![],
            decisions: None,
            latency: None,
            attributions: None,
            omitted: vec![why.into()],
        }
    }

    /// The comparison in lines for a person.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![];
        if !self.outputs.is_empty() {
            lines.push(format!(
                "compared with the revision that serves on {} rows of the dataset and {} of recent \
                 requests:",
                self.dataset_rows, self.recent_rows
            ));
        }
        for output in &self.outputs {
            let mut line = format!("`{}`", output.name);
            if let (Some(mean), Some(max)) = (output.mean, output.max) {
                line.push_str(&format!(
                    " differs by {} on average, {} at most;",
                    figure(mean),
                    figure(max)
                ));
            }
            line.push_str(&format!(
                " {} of the values change",
                percent(output.changed)
            ));
            if let Some(correlation) = output.correlation {
                line.push_str(&format!(", correlation {correlation:.4}"));
            }
            if output.missing > 0 {
                line.push_str(&format!(", {} in only one of the two", output.missing));
            }
            lines.push(line);
        }
        if let Some(share) = self.decisions {
            lines.push(format!(
                "the predicted class changes for {} of the rows",
                percent(share)
            ));
        }
        if let Some(l) = &self.latency {
            lines.push(format!(
                "one row takes {} ms, before {} ms (95 of 100 within {} ms, before {} ms); all rows \
                 together {} ms, before {} ms",
                figure(l.one_p50[1]),
                figure(l.one_p50[0]),
                figure(l.one_p95[1]),
                figure(l.one_p95[0]),
                figure(l.all[1]),
                figure(l.all[0])
            ));
        }
        if let Some(a) = &self.attributions {
            let most = a.most.iter();
            let most: Vec<String> = most.map(|(n, x)| format!("`{n}` {}", figure(*x))).collect();
            lines.push(format!(
                "contributions of the inputs on {} rows differ by {} on average, {} at most; most: {}",
                a.rows,
                figure(a.mean),
                figure(a.max),
                most.join(", ")
            ));
        }
        lines.extend(
            self.omitted
                .iter()
                .map(|why| format!("not compared: {why}")),
        );
        lines
    }
}

// === impl LatencyChange ===

impl LatencyChange {
    /// How many times as long the new one takes for one row.
    pub fn ratio(&self) -> f64 {
        // A microsecond, so that two models that take no time are alike.
        (self.one_p50[1] + 1e-3) / (self.one_p50[0] + 1e-3)
    }
}

/// A number with as many digits as say something.
fn figure(x: f64) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else if x.abs() >= 100.0 {
        format!("{x:.0}")
    } else if x.abs() >= 0.01 {
        format!("{x:.3}")
    } else {
        format!("{x:.2e}")
    }
}

fn percent(share: f64) -> String {
    if share == 0.0 || share == 1.0 {
        format!("{:.0} %", share * 100.0)
    } else {
        format!("{:.1} %", share * 100.0)
    }
}

#[cfg(test)]
mod tests;
