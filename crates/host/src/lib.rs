//! What the adapters that work on this machine share: running outside programs, locks between
//! processes, and directories that are complete or absent. No policy, nothing about Python or
//! containers.

#![forbid(unsafe_code)]

mod fslock;
mod mask;
mod program;
mod staged;

pub use fslock::FileLock;
pub use mask::mask_credentials;
pub use program::{Outcome, Program, find_program};
pub use staged::{Staged, sweep};
