//! The routes, one module per resource.

pub(crate) mod artifacts;
pub(crate) mod audit;
pub(crate) mod baselines;
pub(crate) mod connection;
pub(crate) mod deployments;
pub(crate) mod environments;
pub(crate) mod envs;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod files;
pub(crate) mod images;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod not_served;
pub(crate) mod oip;
pub(crate) mod predict;
pub(crate) mod projects;
pub(crate) mod revisions;
