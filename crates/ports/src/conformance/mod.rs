//! What every implementation of a port must do; run on fakes and real adapters alike. Each
//! function panics at the first breach.

mod blobs;
mod runtime;

pub use blobs::blobs;
pub use runtime::{Program, RuntimeFixture, runtime};
