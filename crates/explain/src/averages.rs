//! Predictions averaged over the reference: the part that PERMUTE and the resets share.
//!
//! Each question is: what does the model predict on average when some features keep the explained
//! row's values and the others take theirs from the reference rows, one after the other? Reference
//! rows that agree in the features they give are asked about once, and those that agree there with
//! the explained row not at all.

use std::{collections::VecDeque, vec::IntoIter};

use luthier_types::Error;

use crate::{
    machine::{Outcome, Plan, misuse},
    rows::{EXPLAINED, Reference, Rows},
};

/// A numbered list of questions, and what follows from the answers.
pub(crate) trait Questions: Send {
    /// How many there are.
    fn len(&self) -> usize;

    /// The features whose values come from the reference.
    fn replaced(&self, question: usize) -> Vec<usize>;

    /// The reference rows to average over, with how often each occurs.
    fn references(&self, question: usize) -> Vec<Reference>;

    /// `model` has the prediction for the explained row, per output; `answers` one list like it
    /// per question.
    fn conclude(self, model: Vec<f64>, answers: Vec<Vec<f64>>) -> Result<Outcome, Error>;
}

/// The plan: the explained row first, then the questions in order.
pub(crate) struct Averages<Q> {
    questions: Q,
    // Asking.
    asked_explained: bool,
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

#[derive(Clone)]
struct Total {
    /// Reference rows seen and to be seen.
    count: f64,
    /// Those among them that give the explained row.
    same: f64,
    /// Per output, over the others.
    sums: Vec<f64>,
}

// === impl Averages ===

impl<Q: Questions> Averages<Q> {
    pub(crate) fn new(questions: Q, outputs: usize) -> Self {
        let total = Total {
            count: 0.0,
            same: 0.0,
            sums: vec![0.0; outputs],
        };
        Self {
            totals: vec![total; questions.len()],
            questions,
            asked_explained: false,
            next_question: 0,
            replaced: vec![],
            asking: vec![].into_iter(),
            in_flight: VecDeque::new(),
            model: vec![],
        }
    }
}

impl<Q: Questions> Plan for Averages<Q> {
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
            let question = self.next_question;
            if question == self.totals.len() {
                return false;
            }
            self.next_question += 1;
            self.replaced = self.questions.replaced(question);
            let references = self.questions.references(question);
            let total = &mut self.totals[question];
            total.count = references.iter().map(|r| r.times).sum();
            let (distinct, same) = rows.distinct(&self.replaced, references);
            total.same = same;
            self.asking = distinct.into_iter();
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
        for (sum, value) in self.totals[question].sums.iter_mut().zip(outputs) {
            *sum += times * value;
        }
        Ok(())
    }

    fn conclude(self: Box<Self>) -> Result<Outcome, Error> {
        let Self {
            questions,
            model,
            totals,
            ..
        } = *self;
        let mean = |total: Total| {
            let Total { count, same, sums } = total;
            sums.iter()
                .zip(&model)
                .map(|(sum, model)| (sum + same * model) / count)
                .collect()
        };
        let answers = totals.into_iter().map(mean).collect();
        questions.conclude(model, answers)
    }
}
