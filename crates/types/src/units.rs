//! Units of CPU and memory, with the ranges the API allows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Code, Error};

/// Thousandths of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millicpu(pub u32);

/// Mebibytes of memory (1 MiB = 2^20 bytes).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Mebibytes(pub u32);

impl Mebibytes {
    /// As bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * 1024 * 1024
    }

    /// Bytes, rounded up to whole mebibytes.
    pub const fn from_bytes_ceil(bytes: u64) -> Self {
        Self(bytes.div_ceil(1024 * 1024) as u32)
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

impl fmt::Display for Millicpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} millicpu", self.0)
    }
}

/// What one replica may use: a reservation of CPU and a hard limit of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU reservation.
    pub cpu: Millicpu,
    /// Memory limit.
    pub memory: Mebibytes,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu: Millicpu(100),
            memory: Mebibytes(256),
        }
    }
}

impl Resources {
    /// Allowed CPU reservations, in millicpu.
    pub const CPU_RANGE: std::ops::RangeInclusive<u32> = 10..=4000;
    /// Allowed memory limits, in MiB.
    pub const MEMORY_RANGE: std::ops::RangeInclusive<u32> = 150..=16384;

    /// Checks both figures against their ranges.
    ///
    /// # Errors
    /// [`Code::BadRequest`] naming the figure, its range and its unit.
    pub fn check(&self) -> Result<(), Error> {
        check_range("cpu", self.cpu.0, &Self::CPU_RANGE, "millicpu")?;
        check_range("memory", self.memory.0, &Self::MEMORY_RANGE, "MiB")
    }
}

/// Checks `value` against `range`, naming `field` and `unit` in the error.
pub(crate) fn check_range(
    field: &str,
    value: u32,
    range: &std::ops::RangeInclusive<u32>,
    unit: &str,
) -> Result<(), Error> {
    if range.contains(&value) {
        return Ok(());
    }
    let (low, high) = (range.start(), range.end());
    Err(Error::new(
        Code::BadRequest,
        format!("{field} is {value}, outside {low} to {high} {unit}"),
    )
    .hint(format!("Give a {field} from {low} to {high}.")))
}
