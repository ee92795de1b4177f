//! The routes, one module per resource.

pub(crate) mod baselines;
pub(crate) mod connection;
pub(crate) mod environments;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod models;
pub(crate) mod not_served;
pub(crate) mod projects;
