//! The engine from outside: problems in, explanations out, with real functions as models.

mod axioms;
mod harness;
mod invalid;
mod methods;
mod protocol;
mod sampled;
mod shapley;
mod types;
