//! Why a replica did not come up or ended: the cause, the evidence and the next step.

use luthier_ports::Exit;
use luthier_types::{
    Code, Error, Evidence, Mebibytes, Resources,
    runner::{LoadPhase, RunnerError},
};
use tokio::time::Duration;

/// What a replica was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Starting,
    Importing,
    Loading,
    Validating,
    Serving,
}

impl Moment {
    pub(super) const fn of(phase: LoadPhase) -> Self {
        match phase {
            LoadPhase::Starting => Self::Starting,
            LoadPhase::Importing => Self::Importing,
            LoadPhase::Loading | LoadPhase::Failed => Self::Loading,
            LoadPhase::Ready => Self::Validating,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Starting => "while it was starting",
            Self::Importing => "while `package.py` was being imported",
            Self::Loading => "while `get_model()` was running",
            Self::Validating => "while it answered the validation predict",
            Self::Serving => "while it was serving",
        }
    }
}

/// The container ended.
pub(super) fn ended(exit: &Exit, moment: Moment, limit: Mebibytes, log: Vec<String>) -> Error {
    let evidence = Evidence {
        exit_code: exit.code,
        signal: exit.signal,
        out_of_memory: Some(exit.out_of_memory),
        memory_limit: Some(limit.bytes()),
        memory_peak: exit.memory_peak,
        log,
        output: None,
    };
    let when = moment.words();
    let error = if exit.out_of_memory {
        Error::new(
            Code::ModelServeError,
            format!("the model ran out of memory at {limit} {when}"),
        )
        .hint(more_memory(limit, exit.memory_peak))
    } else if let Some(cause) = &exit.error {
        Error::new(
            Code::ContainerFailed,
            format!("the container failed {when}: {cause}"),
        )
        .hint("Run `luthier doctor` on the server's machine and look at the server's log.")
    } else {
        let how = match (exit.code, exit.signal) {
            (Some(code), _) => format!("ended with exit status {code}"),
            (None, Some(signal)) => format!("was ended by signal {}", signal_name(signal)),
            (None, None) => "ended".to_owned(),
        };
        Error::new(
            Code::ModelServeError,
            format!("the model's process {how} {when}"),
        )
        .hint("The last lines of the log and the package's own code show what it was doing.")
    };
    error.evidence(evidence)
}

/// The container is not there any more.
pub(super) fn vanished(moment: Moment) -> Error {
    Error::new(
        Code::ContainerFailed,
        format!("the container disappeared {}", moment.words()),
    )
    .hint("It was removed from outside the server; deploy again if it does not come back.")
}

/// The model did not become ready in time.
pub(super) fn too_slow(
    moment: Moment,
    limit: Duration,
    memory: (Option<u64>, Mebibytes),
    log: Vec<String>,
) -> Error {
    let slow = match moment {
        Moment::Starting => "the interpreter was still starting",
        Moment::Importing => "`package.py` was still being imported",
        Moment::Loading | Moment::Validating | Moment::Serving => "`get_model()` was still running",
    };
    Error::new(
        Code::DeploymentTimeout,
        format!(
            "the model was not ready after {} seconds: {slow}",
            limit.as_secs_f64().ceil()
        ),
    )
    .hint(
        "Give the deployment more CPU, load less in `get_model()`, or raise the server's load \
         timeout.",
    )
    .evidence(Evidence {
        memory_peak: memory.0,
        memory_limit: Some(memory.1.bytes()),
        log,
        ..Evidence::default()
    })
}

/// The runner says that the model cannot be loaded.
pub(super) fn not_loaded(error: Option<&RunnerError>, log: Vec<String>) -> Error {
    let error = match error {
        Some(error) => luthier_gateway::runner_error(error),
        None => Error::new(Code::ModelServeError, "the model could not be loaded")
            .hint("The last lines of the log show the reason."),
    };
    with_log(error, log)
}

/// The validation predict failed.
pub(super) fn not_valid(error: &Error, log: Vec<String>) -> Error {
    let mut valid = Error::new(
        error.code(),
        format!("the validation predict failed: {}", error.message()),
    )
    .evidence(error.observed().clone());
    if let Some(hint) = error.next_step() {
        valid = valid.hint(hint);
    }
    with_log(valid, log)
}

/// A replica that served no longer answers.
pub(super) fn unresponsive(checks: u32, limit: Mebibytes, log: Vec<String>) -> Error {
    Error::new(
        Code::ModelServeError,
        format!("the replica did not answer {checks} health checks in a row"),
    )
    .hint("The last lines of the log show what it was doing; it is being replaced.")
    .evidence(Evidence {
        memory_limit: Some(limit.bytes()),
        log,
        ..Evidence::default()
    })
}

fn with_log(error: Error, log: Vec<String>) -> Error {
    let mut evidence = error.observed().clone();
    if evidence.log.is_empty() {
        evidence.log = log;
    }
    error.evidence(evidence)
}

/// The next sensible limit above what did not suffice: half as much again, in steps of 64 MiB. The
/// peak says little, for it cannot pass the limit.
fn more_memory(limit: Mebibytes, peak: Option<u64>) -> String {
    let largest = *Resources::MEMORY_RANGE.end();
    let peak = peak.map_or(0, |bytes| Mebibytes::from_bytes_ceil(bytes).0);
    let next = limit.0.max(peak).saturating_mul(3).div_ceil(2).div_ceil(64) * 64;
    if limit.0 >= largest {
        format!("{largest} MiB is the most a replica can have; make the model smaller.")
    } else {
        let next = next.min(largest);
        format!("Give the deployment more memory: {next} MiB is the next step to try.")
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return signal.to_string(),
    };
    format!("{signal} ({name})")
}

#[cfg(test)]
mod tests;
