//! The HTTP interface: routes, the error envelope, authentication, wiring. A handler parses, makes
//! one call of the app and maps the answer.

#![forbid(unsafe_code)]

mod auth;
mod envelope;
mod extract;
mod listing;
mod retried;
mod router;
mod routes;
mod upload;
mod views;

pub use router::router;
