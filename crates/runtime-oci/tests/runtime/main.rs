//! The embedded runtime with real containers. Needs root.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod closed;
mod layers;
mod life;
mod limits;
mod sockets;
mod world;
