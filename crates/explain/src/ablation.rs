//! PERMUTE, ZERO_RESET and MEAN_RESET: how the prediction changes on average when one feature
//! takes other values. The resets are the case of a reference of one made-up row.
//!
//! What is asked are questions: what does the model predict on average when some features keep the
//! explained row's values and the others take theirs from the reference rows, one after the other?
//! Question 0 has every feature from the reference, which is the baseline; question j the feature
//! j - 1 alone. Reference rows that agree in the features they give are asked about once, and those
//! that agree there with the explained row not at all.
//!
//! A large reference is gone through in two parts, each for every question, so that who is stopped in
//! the second has something to tell of every feature.

use std::{collections::VecDeque, vec::IntoIter};

use luthier_types::Error;

use crate::{
    games::STOPPED_LEVEL,
    machine::{Outcome, Plan, Stopped, misuse, too_soon},
    random::Stream,
    rows::{EXPLAINED, Reference, Rows},
    stats::{Spread, reach},
};

/// Fewest reference rows that are gone through in two parts, and the share of the first.
const MANY: usize = 64;
const FIRST: usize = 8;

/// The plan: the explained row first, then the questions.
pub(crate) struct Ablation {
    features: usize,
    references: usize,
    /// Draws per feature and the seed; without them each reference row counts once.
    draws: Option<(usize, u64)>,
    num_refs: Option<usize>,
    // Asking.
    asked_explained: bool,
    /// Per reference row, whether it belongs to the second part.
    second: Vec<bool>,
    in_second: bool,
    next_question: usize,
    replaced: Vec<usize>,
    asking: IntoIter<Reference>,
    /// Question and times of the rows without an answer, oldest first.
    in_flight: VecDeque<(usize, f64)>,
    // Answered.
    model: Vec<f64>,
    /// Per question.
    totals: Vec<Total>,
}

/// What is known of a question.
#[derive(Clone)]
struct Total {
    /// How often reference rows count in it.
    count: f64,
    /// That for those asked about so far that give the explained row, and for the others.
    same: f64,
    others: f64,
    /// That for those others that were answered.
    told: f64,
    /// Per output.
    spreads: Vec<Spread>,
}

// === impl Ablation ===

impl Ablation {
    /// Values are drawn from the reference.
    pub(crate) fn permute(rows: &Rows, outputs: usize, num_permutations: usize, seed: u64) -> Self {
        let num_refs = Some(rows.references());
        Self::new(rows, outputs, Some((num_permutations, seed)), num_refs)
    }

    /// Values come from the one row of the reference. `num_refs` is the size of the reference that
    /// row was made from.
    pub(crate) fn reset(rows: &Rows, outputs: usize, num_refs: Option<usize>) -> Self {
        Self::new(rows, outputs, None, num_refs)
    }

    fn new(
        rows: &Rows,
        outputs: usize,
        draws: Option<(usize, u64)>,
        num_refs: Option<usize>,
    ) -> Self {
        let references = rows.references();
        let mut second = vec![false; references];
        if let Some((_, seed)) = draws
            && references >= MANY
        {
            second.fill(true);
            for first in Stream::new(seed, 0).subset(references, references / FIRST) {
                second[first] = false;
            }
        }
        let total = |question: usize| Total {
            count: match draws {
                Some((draws, _)) if question > 0 => draws as f64,
                _ => references as f64,
            },
            same: 0.0,
            others: 0.0,
            told: 0.0,
            spreads: vec![Spread::default(); outputs],
        };
        Self {
            features: rows.features(),
            references,
            draws,
            num_refs,
            asked_explained: false,
            second,
            in_second: false,
            next_question: 0,
            replaced: vec![],
            asking: vec![].into_iter(),
            in_flight: VecDeque::new(),
            model: vec![],
            totals: (0..=rows.features()).map(total).collect(),
        }
    }

    /// The reference rows of a question, in the part that is gone through.
    fn drawn(&self, question: usize) -> Vec<Reference> {
        let mut times = vec![1_usize; self.references];
        if question > 0
            && let Some((draws, seed)) = self.draws
        {
            times.fill(draws / self.references);
            let mut stream = Stream::new(seed, question as u64);
            for drawn in stream.subset(self.references, draws % self.references) {
                times[drawn] += 1;
            }
        }
        let drawn = times.into_iter().zip(&self.second).enumerate();
        drawn
            .filter(|&(_, (times, second))| times > 0 && *second == self.in_second)
            .map(|(k, (times, _))| Reference {
                source: k as u32 + 1,
                times: times as f64,
            })
            .collect()
    }

    /// Begins the next question; `false` after the last.
    fn begin(&mut self, rows: &Rows) -> bool {
        if self.next_question == self.totals.len() {
            if self.in_second || !self.second.contains(&true) {
                return false;
            }
            self.in_second = true;
            self.next_question = 0;
        }
        let question = self.next_question;
        self.next_question += 1;
        self.replaced = match question.checked_sub(1) {
            None => (0..self.features).collect(),
            Some(feature) => vec![feature],
        };
        let (mut distinct, same) = rows.distinct(&self.replaced, self.drawn(question));
        if let Some((_, seed)) = self.draws {
            // Who is stopped in the middle has a sample of them.
            Stream::new(seed, u64::MAX - question as u64).shuffle(&mut distinct);
        }
        let total = &mut self.totals[question];
        total.same += same;
        total.others += distinct.iter().map(|r| r.times).sum::<f64>();
        self.asking = distinct.into_iter();
        true
    }
}

impl Plan for Ablation {
    type Outcome = Outcome;

    fn next_row(&mut self, rows: &Rows, picks: &mut [u32]) -> bool {
        picks.fill(EXPLAINED);
        if !self.asked_explained {
            self.asked_explained = true;
            return true;
        }
        let reference = loop {
            if let Some(reference) = self.asking.next() {
                break reference;
            }
            if !self.begin(rows) {
                return false;
            }
        };
        for &feature in &self.replaced {
            picks[feature] = reference.source;
        }
        self.in_flight
            .push_back((self.next_question - 1, reference.times));
        true
    }

    fn answer(&mut self, outputs: &[f64]) -> Result<(), Error> {
        if self.model.is_empty() {
            self.model = outputs.to_vec();
            return Ok(());
        }
        let (question, times) = self
            .in_flight
            .pop_front()
            .ok_or_else(|| misuse("told a row it did not ask"))?;
        let total = &mut self.totals[question];
        total.told += times;
        for (spread, value) in total.spreads.iter_mut().zip(outputs) {
            spread.push(*value, times);
        }
        Ok(())
    }

    fn conclude(mut self: Box<Self>) -> Result<Outcome, Error> {
        let model = std::mem::take(&mut self.model);
        let mut stopped: Option<Stopped> = None;
        for total in &mut self.totals {
            let done = total.conclude(&model).ok_or_else(too_soon)?;
            if done < total.count {
                let at = stopped.map_or(usize::MAX, |s| s.done);
                stopped = Some(Stopped {
                    done: at.min(done as usize),
                    of: self.draws.map_or(1, |(draws, _)| draws),
                });
            }
        }
        let (baseline, features) = self
            .totals
            .split_first()
            .ok_or_else(|| misuse("told of no question"))?;
        let reach = reach(STOPPED_LEVEL);
        let outputs = 0..model.len();
        let half_width = |total: &Total, output: usize| {
            total.spreads[output].half_width(reach * total.left().sqrt())
        };
        let half_widths = outputs.clone().map(|output| {
            let of_feature = features.iter().map(|total| half_width(total, output));
            of_feature.collect::<Option<Vec<f64>>>()
        });
        Ok(Outcome {
            attributions: outputs
                .clone()
                .map(|o| {
                    let of_feature = features.iter().map(|t| model[o] - t.spreads[o].mean());
                    of_feature.collect()
                })
                .collect(),
            uncertainties: stopped.and_then(|_| half_widths.collect()),
            num_refs: self.num_refs,
            num_permutations: self.draws.map(|(draws, _)| draws),
            ci_level: stopped.map(|_| STOPPED_LEVEL),
            stopped,
            baseline: outputs.map(|o| baseline.spreads[o].mean()).collect(),
            model,
        })
    }
}

// === impl Total ===

impl Total {
    /// Counts the rows that give the explained one, as far as the others were answered. Gives how
    /// often reference rows count in what is known then; `None` when nothing is.
    fn conclude(&mut self, model: &[f64]) -> Option<f64> {
        let same = match self.others > 0.0 {
            true => self.same * self.told / self.others,
            false => self.same,
        };
        let done = self.told + same;
        if model.is_empty() || done == 0.0 {
            return None;
        }
        self.told = done;
        if same > 0.0 {
            for (spread, value) in self.spreads.iter_mut().zip(model) {
                spread.push(*value, same);
            }
        }
        Some(done)
    }

    /// The share that is not known, once it is concluded.
    fn left(&self) -> f64 {
        (1.0 - self.told / self.count).max(0.0)
    }
}
