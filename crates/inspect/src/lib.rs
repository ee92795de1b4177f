//! Reads a package without running it: unpacks its archive safely, checks that it is a package,
//! and tells what it imports, asks for and was saved with; and compares that with an environment.

#![forbid(unsafe_code)]

mod bounded;
mod check;
mod digest;
mod files;
mod finding;
mod inspection;
mod models;
mod names;
mod pickle;
mod python;
mod recorded;
mod requirements;
mod sources;
mod suggest;
mod tables;
mod unpack;
mod version;

#[cfg(test)]
mod testing;

pub use check::check;
pub use finding::{Environment, Finding, Level};
pub use inspection::{Inspection, inspect};
pub use models::{Damage, ModelFile};
pub use python::{Import, ModelClass, Runs, Texts};
pub use recorded::Recorded;
pub use requirements::read_requirements;
pub use sources::{Own, SourceFile, Sources};
pub use suggest::suggest_requirement;
pub use unpack::{Limits, Unpacked, unpack};
