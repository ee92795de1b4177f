//! What the adapters that work on this machine share: running outside programs and containers to
//! their end, locks between processes, directories that are complete or absent, what lies below
//! a directory, and the surroundings `uv` runs in. No policy.

#![forbid(unsafe_code)]

pub mod container;
pub mod disk;

mod fslock;
mod mask;
mod program;
mod staged;
mod uv;

pub use fslock::FileLock;
pub use mask::mask_credentials;
pub use program::{Outcome, Program, find_program};
pub use staged::{Staged, sweep};
pub use uv::{find_uv, uv, uv_may_see, uv_settings};
