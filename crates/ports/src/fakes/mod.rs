//! Fakes for tests of the core, held to the same conformance suites as the real adapters.

mod blobs;
mod runtime;

pub use blobs::MemoryBlobs;
pub use runtime::FakeRuntime;
