//! The replicas of a model as one predictor.
//!
//! A [`Gateway`] keeps, for each model, the replicas that have proven themselves, and sends each
//! predict to the least busy of them, over HTTP/1.1 on Unix sockets, or TCP where an
//! operator keeps the runner, with kept connections. It
//! bounds what runs in a replica and what waits for one, predicts small requests together that have
//! to wait anyway, keeps deadlines, goes to another replica when one is gone, and checks every
//! answer against the declared outputs. Who is a replica is the deployment controller's to say,
//! through [`Gateway::set`]; nothing here starts or stops one.
//!
//! ```text
//! Gateway ─▶ Model::predict ─▶ turn ──▶ a replica is free: Place, exchange ──────▶ answer
//!                               │                                                    ▲
//!                               └─▶ Queue ─▶ alone: Place, exchange ─────────────────┤
//!                                      └───▶ with others like it: one call, parted ──┘
//! ```
//!
//! [`client`] speaks with a single replica, for the handshake and the validation predict.

#![forbid(unsafe_code)]

mod call;
pub mod client;
mod company;
mod connection;
mod errors;
mod gateway;
mod join;
mod lull;
mod model;
mod place;
mod question;
mod queue;
mod recent;
mod replica;
mod timings;
mod together;
pub mod trace;
mod turns;

pub use errors::runner_error;
pub use gateway::{Gateway, ModelPredictor, Options, Package, ReplicaEndpoint, Retired, Stats};
pub use timings::{Clock, Part, Timings};
