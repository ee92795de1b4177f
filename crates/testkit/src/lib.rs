//! A whole world for tests of the use cases and the routes: the real app, database, queue and
//! gateway over fakes of what touches the machine, with a stand-in for the deployment controller
//! and for the model's process.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made fails the test that asked for it"
)]

mod controller;
mod fakes;
mod runner;
mod world;

pub use controller::{Behaviour, Controller};
pub use fakes::{FakeEnvs, FakeImages, IMAGE, JAVA_IMAGE, NEW_IMAGE, OLD_IMAGE, OTHER_IMAGE};
pub use luthier_jobs::testing::{finished, until};
pub use runner::{Answer, FakeRunner, Predict};
pub use world::{GOOD_PACKAGE, World, archive};
