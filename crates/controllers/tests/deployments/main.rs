//! The deployment controller in a world where containers are remembered and runners are played.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod batching;
mod keeping;
mod leaving;
mod mortem;
mod outside;
mod scaling;
mod updates;
mod world;
