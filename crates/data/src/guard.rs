//! A wall around decoders that panic on damaged input.

use std::panic::{AssertUnwindSafe, catch_unwind};

use luthier_types::Error;

/// Runs `decode`; a panic within it becomes the error that `damaged` gives. Only for decoding into
/// fresh values that are dropped when it fails, so that nothing half-done is seen afterwards.
pub(crate) fn guarded<T>(
    decode: impl FnOnce() -> Result<T, Error>,
    damaged: impl FnOnce() -> Error,
) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(damaged()))
}
