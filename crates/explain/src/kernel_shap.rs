//! SHAP: Kernel SHAP on the one game whose values are averages over the reference (Lundberg &
//! Lee, "A Unified Approach to Interpreting Model Predictions", 2017, section 4.1).

use luthier_types::Error;

use crate::{
    averages::Questions,
    coalitions::Coalitions,
    machine::Outcome,
    random::Stream,
    rows::{EXPLAINED, Reference, Rows},
    solve::Game,
};

/// Coalitions beyond two per feature. Each costs up to one prediction per reference row, so this
/// is what bounds an explanation; it makes the values exact up to ten features.
const BUDGET: usize = 1024;

/// The questions: the empty coalition, then the others.
pub(crate) struct KernelShap {
    features: usize,
    /// The features that differ from the explained row somewhere in the reference; the others are
    /// null players.
    players: Vec<usize>,
    coalitions: Coalitions,
    references: Vec<Reference>,
    num_refs: usize,
}

impl KernelShap {
    pub(crate) fn new(rows: &Rows, seed: u64) -> Self {
        let differs = |&j: &usize| rows.each().any(|r| rows.class(j, r.source) != EXPLAINED);
        let players: Vec<usize> = (0..rows.features()).filter(differs).collect();
        let budget = 2 * players.len() + BUDGET;
        let coalitions = Coalitions::new(players.len(), budget, &mut Stream::new(seed, 0));
        Self {
            features: rows.features(),
            players,
            coalitions,
            references: rows.each().collect(),
            num_refs: rows.references(),
        }
    }
}

impl Questions for KernelShap {
    fn len(&self) -> usize {
        1 + self.coalitions.len()
    }

    fn replaced(&self, question: usize) -> Vec<usize> {
        let absent =
            |player: usize| question == 0 || !self.coalitions.contains(question - 1, player);
        let players = self.players.iter().enumerate();
        players
            .filter(|&(player, _)| absent(player))
            .map(|(_, &feature)| feature)
            .collect()
    }

    fn references(&self, _question: usize) -> Vec<Reference> {
        self.references.clone()
    }

    fn conclude(self, model: Vec<f64>, answers: Vec<Vec<f64>>) -> Result<Outcome, Error> {
        let baseline = answers[0].clone();
        let values = answers[1..].concat();
        let game = Game {
            coalitions: &self.coalitions,
            empty: &baseline,
            full: &model,
            values: &values,
        };
        let spread = |solved: Vec<f64>| {
            let mut attributions = vec![0.0; self.features];
            for (&feature, value) in self.players.iter().zip(solved) {
                attributions[feature] = value;
            }
            attributions
        };
        Ok(Outcome {
            attributions: game.shapley_values()?.into_iter().map(spread).collect(),
            uncertainties: None,
            num_refs: Some(self.num_refs),
            num_permutations: None,
            ci_level: None,
            model,
            baseline,
        })
    }
}
