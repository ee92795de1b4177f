//! Controllers: they bring what runs to what is wanted.
//!
//! A reconciler takes no input but what is stored and what it sees; it is woken when intent
//! changes and by a timer, so that a lost wake only costs time. [`driver`] runs them;
//! [`deployments`] is the one that keeps replicas.

#![forbid(unsafe_code)]

pub mod deployments;
pub mod driver;

pub use deployments::{DeploymentController, Deps, Settings};
pub use driver::LastPass;
