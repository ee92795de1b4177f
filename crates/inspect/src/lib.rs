//! Reads a package without running it: unpacks its archive safely, checks that it is a package,
//! and tells what it imports, asks for and was saved with.

#![forbid(unsafe_code)]

mod bounded;
mod digest;
mod finding;
mod inspection;
mod names;
mod pickle;
mod python;
mod requirements;
mod suggest;
mod unpack;

pub use finding::{Environment, Finding, Level, check};
pub use inspection::{Inspection, inspect};
pub use pickle::Recorded;
pub use requirements::check_requirements;
pub use suggest::suggest_requirement;
pub use unpack::{Limits, Unpacked, unpack};
