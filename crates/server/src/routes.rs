//! The routes, one module per resource.

pub(crate) mod connection;
