//! The replicas of a model as one predictor.
//!
//! A [`Gateway`] keeps, for each model, the replicas that have proven themselves, and sends each
//! predict to the least busy of them, over HTTP/1.1 on Unix sockets with kept connections. It
//! bounds what runs in a replica and what waits for one, keeps deadlines, goes to another replica
//! when one is gone, and checks every answer against the declared outputs. Who is a replica is the
//! deployment controller's to say, through [`Gateway::set`]; nothing here starts or stops one.
//!
//! [`client`] speaks with a single replica, for the handshake and the validation predict.

#![forbid(unsafe_code)]

mod call;
pub mod client;
mod connection;
mod errors;
mod gateway;
mod model;
mod place;
mod queue;
mod replica;

pub use errors::runner_error;
pub use gateway::{Gateway, ModelPredictor, Options, ReplicaEndpoint, Retired, Stats};
