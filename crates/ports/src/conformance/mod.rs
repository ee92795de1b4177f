//! What every implementation of a port must do; run on fakes and real adapters alike. Each
//! function panics at the first breach.

mod blobs;

pub use blobs::blobs;
