//! How much memory and CPU to give a replica, computed from what was measured.

use serde::{Deserialize, Serialize};

use crate::{Mebibytes, Millicpu, Resources};

/// Requests before which nothing is said of CPU.
pub const ENOUGH_REQUESTS: u64 = 20;
/// Spare memory, as a share of the peak.
const SPARE: f64 = 0.25;
/// Spare memory at least, in MiB.
const LEAST_SPARE: u32 = 64;
/// A setting is larger than needed from this many times the proposed on.
const FAR_ABOVE: u32 = 2;
/// A peak above this share of the limit is too near to it.
const NEAR: f64 = 0.9;
/// From here on a peak may be the file cache, which fills what there is.
const FULL: f64 = 0.98;

/// What the replicas of a revision were seen to use: sums over all, peaks of any one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Limit of memory when it was last seen.
    pub memory_limit: Mebibytes,
    /// Most memory until the model had proven itself, in bytes, file cache included.
    pub load_peak: Option<u64>,
    /// Most memory while it served or was about to, in bytes, file cache included.
    pub serve_peak: Option<u64>,
    /// Most memory that it had when it was looked at, in bytes, without the file cache that the kernel
    /// can take back.
    pub working_peak: Option<u64>,
    /// The largest limit at which it ran out of memory.
    pub oom_limit: Option<Mebibytes>,
    /// Most rows in one call.
    pub most_rows: u64,
    /// Requests answered.
    pub requests: u64,
    /// Calls of `predict` made for them.
    pub calls: u64,
    /// Rows in them.
    pub rows: u64,
    /// CPU time used while there were requests, in seconds.
    pub cpu_seconds: f64,
    /// The busiest minute of a replica.
    pub busiest: Option<Busiest>,
}

/// The busiest minute of a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Busiest {
    /// CPU that it used, in thousandths of one.
    pub millicpu: f64,
    /// Requests that it answered.
    pub requests_per_second: f64,
}

/// How a setting fits what is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Not known yet.
    Unknown,
    /// As it should be.
    Fits,
    /// Too little to be safe.
    TooSmall,
    /// Far more than is used.
    TooLarge,
}

/// A proposed setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal<T> {
    /// The setting; `None` while there is nothing to go by.
    pub setting: Option<T>,
    /// How the present one fits.
    pub fit: Fit,
    /// Why.
    pub reason: String,
}

/// What was measured, and what to set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sizing {
    /// What was measured.
    #[serde(flatten)]
    pub usage: Usage,
    /// CPU per request, in milliseconds.
    pub cpu_ms_per_request: Option<f64>,
    /// CPU per row, in milliseconds.
    pub cpu_ms_per_row: Option<f64>,
    /// What to give it of memory.
    pub memory: Proposal<Mebibytes>,
    /// What to reserve for it of CPU.
    pub cpu: Proposal<Millicpu>,
}

impl Sizing {
    /// What to give a model that has `resources` and was seen to use `usage`, on a machine with so much
    /// memory.
    pub fn of(usage: Usage, resources: Resources, machine: Option<Mebibytes>) -> Self {
        let per = |count: u64| {
            (usage.requests >= ENOUGH_REQUESTS && count > 0)
                .then(|| usage.cpu_seconds * 1e3 / count as f64)
        };
        Self {
            cpu_ms_per_request: per(usage.requests),
            cpu_ms_per_row: per(usage.rows),
            memory: memory(&usage, resources.memory, machine),
            cpu: cpu(&usage, per(usage.requests), resources.cpu),
            usage,
        }
    }

    /// The settings to change, as they are written, such as `memory=160 cpu=50`; `None` when all is
    /// well or nothing is known.
    pub fn advice(&self) -> Option<String> {
        let off = |fit: Fit| matches!(fit, Fit::TooSmall | Fit::TooLarge);
        let memory = self.memory.setting.filter(|_| off(self.memory.fit));
        let cpu = self.cpu.setting.filter(|_| off(self.cpu.fit));
        let parts = [
            memory.map(|memory| format!("memory={}", memory.0)),
            cpu.map(|cpu| format!("cpu={}", cpu.0)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

/// The memory for a peak of so many bytes: a quarter more, at least 64 MiB, in steps of 32 MiB, within
/// what a replica and the machine can have.
pub fn memory_for(peak: u64, machine: Option<Mebibytes>) -> Mebibytes {
    let peak = Mebibytes::from_bytes_ceil(peak).0;
    let spare = ((f64::from(peak) * SPARE).ceil() as u32).max(LEAST_SPARE);
    let wanted = peak.saturating_add(spare).div_ceil(32).saturating_mul(32);
    let most = most_memory(machine);
    Mebibytes(wanted.clamp((*Resources::MEMORY_RANGE.start()).min(most), most))
}

fn memory(usage: &Usage, now: Mebibytes, machine: Option<Mebibytes>) -> Proposal<Mebibytes> {
    let mib = |bytes: u64| Mebibytes::from_bytes_ceil(bytes).0;
    if let Some(limit) = usage.oom_limit.filter(|limit| *limit >= now) {
        let setting = more_memory(limit, machine);
        let what = match setting {
            Some(setting) => format!("half as much again is {}, a guess", setting.0),
            None => "there is no more to give it".to_owned(),
        };
        return Proposal {
            setting,
            fit: Fit::TooSmall,
            reason: format!("ran out of memory at {limit}; {what}"),
        };
    }
    let Some(peak) = usage.load_peak.max(usage.serve_peak) else {
        return Proposal {
            setting: None,
            fit: Fit::Unknown,
            reason: "not measured yet".to_owned(),
        };
    };
    let limit = usage.memory_limit;
    let of_limit = peak as f64 / limit.bytes().max(1) as f64;
    let working = usage.working_peak.unwrap_or(peak).min(peak);
    if of_limit >= FULL {
        // Without an end for want of memory: whether it was its own or the file cache's is not known.
        let setting = memory_for(working, machine).max(now);
        let fit = if setting > now {
            Fit::TooSmall
        } else {
            Fit::Fits
        };
        let reason = format!(
            "used all of {limit}, file cache included, without running out; {} MiB of it were its own \
             when it was looked at",
            mib(working)
        );
        return Proposal {
            setting: Some(setting),
            fit,
            reason,
        };
    }
    let setting = memory_for(peak, machine);
    let when = match (usage.load_peak, usage.serve_peak) {
        (Some(load), Some(serve)) if serve > load && usage.most_rows > 0 => {
            format!("while serving up to {} rows at a time", usage.most_rows)
        }
        (Some(load), Some(serve)) if serve > load => "while serving".to_owned(),
        (None, _) => "while serving".to_owned(),
        _ => "while loading".to_owned(),
    };
    let (fit, verdict) = if peak as f64 >= now.bytes() as f64 * NEAR && setting > now {
        (Fit::TooSmall, "too near to its limit: ")
    } else if now.0 >= setting.0.saturating_mul(FAR_ABOVE) {
        (Fit::TooLarge, "far more than it uses: ")
    } else {
        (Fit::Fits, "")
    };
    Proposal {
        setting: Some(setting),
        fit,
        reason: format!(
            "{verdict}peaked at {} of {} MiB {when}; {} leaves {} MiB to spare",
            mib(peak),
            now.0,
            setting.0,
            setting.0.saturating_sub(mib(peak)),
        ),
    }
}

fn cpu(usage: &Usage, per_request: Option<f64>, now: Millicpu) -> Proposal<Millicpu> {
    let unknown = |reason: String| Proposal {
        setting: None,
        fit: Fit::Unknown,
        reason,
    };
    let Some(per_request) = per_request else {
        return unknown(format!(
            "known after {ENOUGH_REQUESTS} requests; there were {}",
            usage.requests
        ));
    };
    let Some(busiest) = usage.busiest else {
        return unknown("known after a minute of requests".to_owned());
    };
    let (least, most) = (*Resources::CPU_RANGE.start(), *Resources::CPU_RANGE.end());
    let wanted = (busiest.millicpu * (1.0 + SPARE)).min(f64::from(u32::MAX)) as u32;
    let setting = wanted.div_ceil(10).saturating_mul(10).clamp(least, most);
    let (fit, verdict) = if busiest.millicpu > f64::from(now.0) {
        (Fit::TooSmall, "more than is reserved: ")
    } else if now.0 >= setting.saturating_mul(FAR_ABOVE) {
        (Fit::TooLarge, "far more than it uses: ")
    } else {
        (Fit::Fits, "")
    };
    Proposal {
        setting: Some(Millicpu(setting)),
        fit,
        reason: format!(
            "{verdict}used {:.0} of {} millicpu in the busiest minute, at {:.1} requests/s; a request \
             takes {:.1} ms of CPU on average; {setting} leaves a quarter to spare",
            busiest.millicpu, now.0, busiest.requests_per_second, per_request,
        ),
    }
}

/// The next sensible limit above one that did not suffice: half as much again, in steps of 64 MiB,
/// or of 128 from 1 GiB on. Neither above what a replica may have nor above the machine's memory;
/// `None` when there is nothing more to give. A guess: how much is missing cannot be seen, for a peak
/// cannot pass its limit.
pub fn more_memory(limit: Mebibytes, machine: Option<Mebibytes>) -> Option<Mebibytes> {
    let most = most_memory(machine);
    let half_more = limit.0.saturating_mul(3).div_ceil(2);
    let step = if half_more > 1024 { 128 } else { 64 };
    let next = half_more.div_ceil(step).saturating_mul(step).min(most);
    (next > limit.0).then_some(Mebibytes(next))
}

fn most_memory(machine: Option<Mebibytes>) -> u32 {
    let most = *Resources::MEMORY_RANGE.end();
    machine.map_or(most, |machine| machine.0.min(most))
}

#[cfg(test)]
mod tests;
