//! FIDDLER_SHAP: one game per reference row, and the mean of their Shapley values with its
//! confidence interval over the references (Merrick & Taly, "The Explanation Game", 2020).
//!
//! A feature in which the row and the reference agree is a null player of that game: it gets 0 and
//! is left out, which shrinks the game. Games are built when they are first asked about and dropped
//! when they are answered, so memory holds only those in flight.

use std::{collections::VecDeque, sync::Arc, vec::IntoIter};

use luthier_types::Error;

use crate::{
    coalitions::{Coalitions, budget_floor},
    machine::{Outcome, Plan, misuse},
    random::Stream,
    rows::{EXPLAINED, Reference, Rows},
    solve::Game,
    stats::{Spread, normal_quantile},
};

/// The plan: the explained row first, then for each reference its row and its coalitions.
pub(crate) struct FiddlerShap {
    seed: u64,
    budget: usize,
    ci_level: f64,
    num_refs: usize,
    // Asking.
    asked_explained: bool,
    references: IntoIter<Reference>,
    asking: Option<(Arc<Setup>, usize)>,
    // Answered.
    model: Vec<f64>,
    /// Number of references that equal the explained row.
    same: f64,
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

// === impl FiddlerShap ===

impl FiddlerShap {
    pub(crate) fn new(
        rows: &Rows,
        outputs: usize,
        num_permutations: usize,
        ci_level: f64,
        seed: u64,
    ) -> Self {
        let features: Vec<usize> = (0..rows.features()).collect();
        let (references, same) = rows.distinct(&features, rows.each());
        Self {
            seed,
            budget: num_permutations.max(budget_floor(rows.features())),
            ci_level,
            num_refs: rows.references(),
            asked_explained: false,
            references: references.into_iter(),
            asking: None,
            model: vec![],
            same,
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
        let coalitions = Coalitions::new(players.len(), self.budget, &mut stream);
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

    /// References that equal the explained row: nothing differs, nothing is attributed.
    fn settle_same(&mut self) {
        if self.same == 0.0 {
            return;
        }
        for (baseline, &model) in self.baseline.iter_mut().zip(&self.model) {
            baseline.push(model, self.same);
        }
        for spread in self.attributions.iter_mut().flatten() {
            spread.push(0.0, self.same);
        }
    }
}

impl Plan for FiddlerShap {
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
            self.settle_same();
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

    fn conclude(self: Box<Self>) -> Result<Outcome, Error> {
        let quantile = normal_quantile((1.0 - self.ci_level) / 2.0).abs();
        let means = |spreads: &Vec<Spread>| spreads.iter().map(Spread::mean).collect();
        let half_widths = |spreads: &Vec<Spread>| {
            spreads
                .iter()
                .map(|s| Some(quantile * s.standard_error()?))
                .collect()
        };
        Ok(Outcome {
            baseline: means(&self.baseline),
            attributions: self.attributions.iter().map(means).collect(),
            uncertainties: self.attributions.iter().map(half_widths).collect(),
            model: self.model,
            num_refs: Some(self.num_refs),
            num_permutations: Some(self.budget),
            ci_level: Some(self.ci_level),
        })
    }
}
