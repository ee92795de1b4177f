//! FIDDLER_SHAP and SHAP: one game per reference row, and the mean of their Shapley values
//! (Merrick & Taly, "The Explanation Game", 2020).
//!
//! That mean is what Kernel SHAP estimates (Lundberg & Lee, "A Unified Approach to Interpreting Model
//! Predictions", 2017, section 4.1) in the one game whose values are averages over the reference,
//! because Shapley values are linear in the game. Games that draw their coalitions apart err apart:
//! for as many predictions the mean is about twice as close as when all references share the same
//! coalitions.
//!
//! A feature in which the row and the reference agree is a null player of that game: it gets 0 and
//! is left out, which shrinks the game. Games are built when they are first asked about and dropped
//! when they are answered, so memory holds only those in flight.

use std::{collections::VecDeque, sync::Arc, vec::IntoIter};

use luthier_types::Error;

use crate::{
    coalitions::{Coalitions, budget_floor},
    machine::{Outcome, Plan, Stopped, misuse, too_soon},
    random::Stream,
    rows::{EXPLAINED, Reference, Rows},
    solve::Game,
    stats::{Spread, reach},
};

/// The largest game that SHAP solves exactly: all of 2^10 coalitions.
const EXACT_PLAYERS: usize = 10;
/// Coalitions beyond two per feature in a larger game of SHAP.
const BUDGET: usize = 512;

/// Confidence level of the intervals of an explanation that was stopped, unless it has one.
pub(crate) const STOPPED_LEVEL: f64 = 0.95;
/// The stream that decides the order of the references; the others are numbered like these.
const ORDER: u64 = u64::MAX;

/// How the games are played.
pub(crate) struct Rules {
    /// Most coalitions per game.
    budget: usize,
    /// Games of so many players are solved exactly whatever that takes.
    exact_players: usize,
    /// Of the intervals over the references, if they are asked for.
    ci_level: Option<f64>,
}

/// The plan: the explained row first, then for each reference its row and its coalitions.
pub(crate) struct Games {
    seed: u64,
    rules: Rules,
    num_refs: usize,
    // Asking.
    asked_explained: bool,
    references: IntoIter<Reference>,
    asking: Option<(Arc<Setup>, usize)>,
    // Answered.
    model: Vec<f64>,
    /// Number of references that equal the explained row, and of the others; and of these, how many
    /// have been played against.
    same: f64,
    others: f64,
    played: f64,
    in_flight: VecDeque<Answers>,
    /// Per output.
    baseline: Vec<Spread>,
    /// Per output and feature.
    attributions: Vec<Vec<Spread>>,
}

/// A game: who plays against which reference, and the coalitions to evaluate.
struct Setup {
    reference: Reference,
    /// The features that differ.
    players: Vec<usize>,
    coalitions: Coalitions,
}

/// A game and the predictions for it so far: the reference's, then the coalitions'.
struct Answers {
    setup: Arc<Setup>,
    values: Vec<f64>,
}

// === impl Rules ===

impl Rules {
    /// Those of FIDDLER_SHAP for rows of so many features.
    pub(crate) fn fiddler_shap(features: usize, num_permutations: usize, ci_level: f64) -> Self {
        Self {
            budget: num_permutations.max(budget_floor(features)),
            exact_players: 0,
            ci_level: Some(ci_level),
        }
    }

    /// Those of SHAP for rows of so many features.
    pub(crate) const fn shap(features: usize) -> Self {
        Self {
            budget: 2 * features + BUDGET,
            exact_players: EXACT_PLAYERS,
            ci_level: None,
        }
    }

    const fn budget(&self, players: usize) -> usize {
        if players <= self.exact_players {
            return 1 << players;
        }
        self.budget
    }
}

// === impl Games ===

impl Games {
    pub(crate) fn new(rows: &Rows, outputs: usize, rules: Rules, seed: u64) -> Self {
        let features: Vec<usize> = (0..rows.features()).collect();
        let (mut references, same) = rows.distinct(&features, rows.each());
        // Where it may be stopped, those played against are a sample of all.
        Stream::new(seed, ORDER).shuffle(&mut references);
        Self {
            seed,
            rules,
            num_refs: rows.references(),
            asked_explained: false,
            asking: None,
            model: vec![],
            same,
            others: references.iter().map(|r| r.times).sum(),
            played: 0.0,
            references: references.into_iter(),
            in_flight: VecDeque::new(),
            baseline: vec![Spread::default(); outputs],
            attributions: vec![vec![Spread::default(); rows.features()]; outputs],
        }
    }

    fn set_up(&self, rows: &Rows, reference: Reference) -> Arc<Setup> {
        let players: Vec<usize> = (0..rows.features())
            .filter(|&j| rows.class(j, reference.source) != EXPLAINED)
            .collect();
        let mut stream = Stream::new(self.seed, reference.source.into());
        let coalitions =
            Coalitions::new(players.len(), self.rules.budget(players.len()), &mut stream);
        Arc::new(Setup {
            reference,
            players,
            coalitions,
        })
    }

    fn settle(&mut self, Answers { setup, values }: Answers) -> Result<(), Error> {
        let (empty, values) = values.split_at(self.model.len());
        let game = Game {
            coalitions: &setup.coalitions,
            empty,
            full: &self.model,
            values,
        };
        let solved = game.shapley_values()?;
        let times = setup.reference.times;
        self.played += times;
        for (output, solved) in solved.into_iter().enumerate() {
            self.baseline[output].push(empty[output], times);
            let mut of_feature = vec![0.0; self.attributions[output].len()];
            for (&feature, value) in setup.players.iter().zip(solved) {
                of_feature[feature] = value;
            }
            for (spread, value) in self.attributions[output].iter_mut().zip(of_feature) {
                spread.push(value, times);
            }
        }
        Ok(())
    }

    /// References that equal the explained row: nothing differs, nothing is attributed. They are
    /// played as far as the others are.
    fn settle_same(&mut self) {
        let same = match self.others > 0.0 {
            true => self.same * self.played / self.others,
            false => self.same,
        };
        if same == 0.0 {
            return;
        }
        for (baseline, &model) in self.baseline.iter_mut().zip(&self.model) {
            baseline.push(model, same);
        }
        for spread in self.attributions.iter_mut().flatten() {
            spread.push(0.0, same);
        }
    }
}

impl Plan for Games {
    type Outcome = Outcome;

    fn next_row(&mut self, rows: &Rows, picks: &mut [u32]) -> bool {
        picks.fill(EXPLAINED);
        if !self.asked_explained {
            self.asked_explained = true;
            return true;
        }
        let (setup, at) = match self.asking.take() {
            Some(asking) => asking,
            None => {
                let Some(reference) = self.references.next() else {
                    return false;
                };
                let setup = self.set_up(rows, reference);
                self.in_flight.push_back(Answers {
                    setup: setup.clone(),
                    values: vec![],
                });
                (setup, 0)
            }
        };
        // The empty coalition first.
        for (player, &feature) in setup.players.iter().enumerate() {
            if at == 0 || !setup.coalitions.contains(at - 1, player) {
                picks[feature] = setup.reference.source;
            }
        }
        if at < setup.coalitions.len() {
            self.asking = Some((setup, at + 1));
        }
        true
    }

    fn answer(&mut self, outputs: &[f64]) -> Result<(), Error> {
        if self.model.is_empty() {
            self.model = outputs.to_vec();
            return Ok(());
        }
        let game = self
            .in_flight
            .front_mut()
            .ok_or_else(|| misuse("told a row it did not ask"))?;
        game.values.extend_from_slice(outputs);
        if game.values.len() == (1 + game.setup.coalitions.len()) * outputs.len()
            && let Some(game) = self.in_flight.pop_front()
        {
            self.settle(game)?;
        }
        Ok(())
    }

    fn conclude(mut self: Box<Self>) -> Result<Outcome, Error> {
        if self.model.is_empty() || (self.played == 0.0 && self.others > 0.0) {
            return Err(too_soon());
        }
        self.settle_same();
        let left = 1.0 - self.played / self.others.max(1.0);
        let is_stopped = self.others > 0.0 && left > 0.0;
        let stopped = is_stopped.then(|| Stopped {
            done: ((1.0 - left) * self.num_refs as f64).round() as usize,
            of: self.num_refs,
        });
        let means = |spreads: &Vec<Spread>| spreads.iter().map(Spread::mean).collect();
        let half_widths = |(ci_level, share): (f64, f64)| -> Option<Vec<Vec<f64>>> {
            let reach = reach(ci_level) * share.sqrt();
            let half_width = |s: &Spread| s.half_width(reach);
            let of_output = |spreads: &Vec<Spread>| spreads.iter().map(half_width).collect();
            self.attributions.iter().map(of_output).collect()
        };
        Ok(Outcome {
            baseline: means(&self.baseline),
            attributions: self.attributions.iter().map(means).collect(),
            uncertainties: match self.rules.ci_level {
                Some(ci_level) => half_widths((ci_level, 1.0)),
                // Over what was left out of these references (Cochran, Sampling Techniques, 2.6).
                None if is_stopped => half_widths((STOPPED_LEVEL, left)),
                None => None,
            },
            num_permutations: self.rules.ci_level.map(|_| self.rules.budget),
            ci_level: self.rules.ci_level.or(is_stopped.then_some(STOPPED_LEVEL)),
            stopped,
            num_refs: Some(self.num_refs),
            model: self.model,
        })
    }
}
