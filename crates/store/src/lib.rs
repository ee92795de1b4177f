//! The database: migrations, rows, transactions; and blobs and the logs of past replicas on the local
//! disk.
//!
//! Functions take a connection, so that a use case can put several into one transaction. They write
//! ids and times as given and decide nothing.

#![forbid(unsafe_code)]

pub mod artifacts;
pub mod audit;
pub mod baselines;
pub mod batching;
pub mod blobs;
pub mod datasets;
pub mod deployments;
pub mod events;
pub mod failures;
pub mod files;
pub mod models;
mod open;
pub mod outside;
pub mod projects;
pub mod query;
pub mod replica_counts;
pub mod replica_logs;
pub mod rollouts;
pub mod usage;
pub mod uses;
pub mod values;

pub use blobs::LocalBlobs;
pub use open::{Store, failed};
