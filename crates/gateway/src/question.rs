//! What a request asks of a model.

use arrow_array::RecordBatch;
use luthier_types::Result;

use crate::{
    call::Call,
    join::{Likeness, is_small},
};

/// What a request asks.
pub(crate) struct Question {
    what: What,
    small: bool,
}

enum What {
    Predict(RecordBatch),
    Hook(Call),
}

impl Question {
    pub(crate) fn predict(inputs: RecordBatch) -> Self {
        Self {
            small: is_small(&inputs),
            what: What::Predict(inputs),
        }
    }

    pub(crate) fn hook(call: Call) -> Self {
        Self {
            small: false,
            what: What::Hook(call),
        }
    }

    /// The call that asks it alone.
    pub(crate) fn call(&self) -> Result<Call> {
        match &self.what {
            What::Predict(inputs) => Call::predict(inputs),
            What::Hook(call) => Ok(call.clone()),
        }
    }

    /// Whether it could be joined.
    pub(crate) fn is_small(&self) -> bool {
        self.small
    }

    /// Rows to predict.
    pub(crate) fn rows(&self) -> usize {
        match &self.what {
            What::Predict(inputs) => inputs.num_rows(),
            What::Hook(_) => 1,
        }
    }

    /// Bytes of memory that it holds.
    pub(crate) fn bytes(&self) -> usize {
        match &self.what {
            What::Predict(inputs) => luthier_data::table_bytes(inputs),
            What::Hook(call) => call.body.len(),
        }
    }

    /// What is to be joined, for a small table.
    pub(crate) fn to_join(&self) -> Option<(RecordBatch, Likeness)> {
        match &self.what {
            What::Predict(inputs) if self.small => Some((inputs.clone(), Likeness::of(inputs))),
            _ => None,
        }
    }
}
