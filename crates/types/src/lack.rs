//! What a machine lacks when it cannot store something.

use std::{error::Error as StdError, io};

/// Why something cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// There is no room.
    Space,
    /// It is read-only, or fails.
    Writing,
    /// Another process holds it.
    Turn,
}

impl Lack {
    /// The lack that some input or output in the chain of causes met.
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<io::Error>();
            match io.map(io::Error::kind) {
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    return Some(Self::Space);
                }
                Some(io::ErrorKind::ReadOnlyFilesystem) => return Some(Self::Writing),
                // An error that is wrapped in one of these is none of its sources.
                _ => {
                    let wrapped = io.and_then(io::Error::get_ref);
                    cause = match wrapped {
                        Some(wrapped) => Some(wrapped),
                        None => error.source(),
                    };
                }
            }
        }
        None
    }
}
