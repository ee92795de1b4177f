//! The engine from outside: problems in, explanations out, with real functions as models.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, like the tests"
)]

mod axioms;
mod global;
mod harness;
mod invalid;
mod methods;
mod protocol;
mod sampled;
mod shapley;
mod stopped;
mod types;
