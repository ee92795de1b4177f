//! PERMUTE, ZERO_RESET and MEAN_RESET: how the prediction changes on average when one feature
//! takes other values. The resets are the case of a reference of one made-up row.

use luthier_types::Error;

use crate::{
    averages::Questions,
    machine::Outcome,
    random::Stream,
    rows::{Reference, Rows},
};

/// The questions: every feature from the reference, which is the baseline, then one at a time.
pub(crate) struct Ablation {
    features: usize,
    references: usize,
    /// Draws per feature and the seed; without them each reference row counts once.
    draws: Option<(usize, u64)>,
    num_refs: Option<usize>,
}

impl Ablation {
    /// Values are drawn from the reference.
    pub(crate) fn permute(rows: &Rows, num_permutations: usize, seed: u64) -> Self {
        Self {
            features: rows.features(),
            references: rows.references(),
            draws: Some((num_permutations, seed)),
            num_refs: Some(rows.references()),
        }
    }

    /// Values come from the one row of the reference. `num_refs` is the size of the reference that
    /// row was made from.
    pub(crate) fn reset(rows: &Rows, num_refs: Option<usize>) -> Self {
        Self {
            features: rows.features(),
            references: rows.references(),
            draws: None,
            num_refs,
        }
    }
}

impl Questions for Ablation {
    fn len(&self) -> usize {
        1 + self.features
    }

    fn replaced(&self, question: usize) -> Vec<usize> {
        match question.checked_sub(1) {
            None => (0..self.features).collect(),
            Some(feature) => vec![feature],
        }
    }

    fn references(&self, question: usize) -> Vec<Reference> {
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
        let drawn = times
            .into_iter()
            .enumerate()
            .filter(|&(_, times)| times > 0);
        drawn
            .map(|(k, times)| Reference {
                source: k as u32 + 1,
                times: times as f64,
            })
            .collect()
    }

    fn conclude(self, model: Vec<f64>, mut answers: Vec<Vec<f64>>) -> Result<Outcome, Error> {
        let baseline = answers.remove(0);
        let of_output = |output: usize| {
            answers
                .iter()
                .map(|answer| model[output] - answer[output])
                .collect()
        };
        Ok(Outcome {
            attributions: (0..model.len()).map(of_output).collect(),
            uncertainties: None,
            num_refs: self.num_refs,
            num_permutations: self.draws.map(|(draws, _)| draws),
            ci_level: None,
            model,
            baseline,
        })
    }
}
