//! The HTTP interface: routes, the error envelope, authentication, wiring. A handler parses, makes
//! one call of the app and maps the answer.

#![forbid(unsafe_code)]

mod auth;
mod connections;
pub mod doctor;
mod drain;
mod envelope;
mod extract;
mod listing;
pub mod machine;
mod negotiate;
mod retried;
mod router;
mod routes;
mod seen;
pub mod serve;
mod upload;
mod views;

pub use luthier_images::oci;
pub use router::router;
