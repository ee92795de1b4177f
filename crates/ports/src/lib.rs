//! The traits the core needs from the world, each with a fake and a conformance suite that fake and
//! real pass alike.
//!
//! Methods document **Guarantees** (what every implementation keeps), and **Cancellation** (what
//! dropping the future does). Adapters implement these traits and never see each other.

#![forbid(unsafe_code)]

mod blobs;
mod env;
mod images;
mod predictor;
mod runtime;

pub mod conformance;
pub mod fakes;

pub use blobs::{Blob, BlobReader, BlobStore};
pub use env::{Collected, EnvBuilder, EnvInfo, Lock, LockRequest, LogSink, normalised};
pub use images::{
    AllowedRegistries, Base, ImageInfo, ImageStatus, Images, Provided, ResolvedImage,
    names_registry, unknown_image,
};
pub use predictor::Predictor;
pub use runtime::{
    ContainerId, ContainerRuntime, ContainerSpec, ContainerState, ContainerStatus, Exit, LogEnd,
    LogLine, LogPart, Mount, Network, Resized,
};
