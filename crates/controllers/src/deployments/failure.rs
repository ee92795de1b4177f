//! Why a replica did not come up or ended: the cause, the evidence and the next step.

pub(super) mod clues;

use luthier_ports::Exit;
use luthier_types::{
    Code, Error, Evidence, Mebibytes, Moment, Resources,
    runner::{LoadPhase, RunnerError},
    signal_name, sizing,
};
use tokio::time::Duration;

use super::spec;

/// A model that ran out of memory below this share of its limit did so because the machine had none.
const NEAR_LIMIT: f64 = 0.9;

/// What is known of a replica at its failure.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) moment: Moment,
    /// What it may use.
    pub(super) resources: Resources,
    /// All the memory there is.
    pub(super) machine: Option<Mebibytes>,
    /// Most memory it used, in bytes.
    pub(super) peak: Option<u64>,
    /// The end of its log: more than is kept.
    pub(super) log: Vec<String>,
}

/// What a runner that is in `phase` is doing.
pub(super) const fn moment(phase: LoadPhase) -> Moment {
    match phase {
        LoadPhase::Starting => Moment::Starting,
        LoadPhase::Importing => Moment::Importing,
        LoadPhase::Loading | LoadPhase::Failed => Moment::Loading,
        LoadPhase::Ready => Moment::Validating,
    }
}

/// The container ended.
pub(super) fn ended(exit: &Exit, facts: Facts) -> Error {
    let facts = Facts {
        peak: exit.memory_peak.max(facts.peak),
        ..facts
    };
    let evidence = Evidence {
        exit_code: exit.code,
        signal: exit.signal,
        out_of_memory: Some(exit.out_of_memory),
        ..facts.evidence()
    };
    let when = facts.moment.words();
    let error = if exit.out_of_memory {
        out_of_memory(&facts)
    } else if let Some(cause) = &exit.error {
        Error::new(
            Code::ContainerFailed,
            format!("the container failed {when}: {cause}"),
        )
        .hint("Run `luthier doctor` on the server's machine and look at the server's log.")
    } else {
        let (how, hint) = match (exit.code, exit.signal) {
            (Some(code), _) => exited(code, &facts),
            (None, Some(signal)) => signalled(signal, &facts),
            (None, None) => ("ended".to_owned(), LOOK.to_owned()),
        };
        Error::new(
            Code::ModelServeError,
            format!("the model's process {how} {when}"),
        )
        .hint(hint)
    };
    error.evidence(evidence)
}

const LOOK: &str = "The last lines of the log and the package's own code show what it was doing.";

fn out_of_memory(facts: &Facts) -> Error {
    let (limit, when) = (facts.resources.memory, facts.moment.words());
    let peak = facts.peak.map(Mebibytes::from_bytes_ceil);
    if let Some(peak) = peak
        && f64::from(peak.0) < f64::from(limit.0) * NEAR_LIMIT
    {
        return Error::new(
            Code::ModelServeError,
            format!(
                "the machine ran out of memory {when}, and the kernel ended the model, which had \
                 peaked at {} of {limit}",
                peak.0
            ),
        )
        .hint(
            "More memory for this model would not help: stop something else on the machine, or \
             lower the memory of deployments that use less than they have (`luthier ps`).",
        );
    }
    Error::new(
        Code::ModelServeError,
        format!("the model ran out of memory at {limit} {when}"),
    )
    .hint(more_memory(facts))
}

/// What to try next, after `memory` did not suffice.
fn more_memory(facts: &Facts) -> String {
    let limit = facts.resources.memory;
    match sizing::more_memory(limit, facts.machine) {
        Some(next) => format!(
            "It peaked at {} of {limit}, so it needs more; how much more cannot be seen. Try \
             memory={}, which is a guess.",
            limit.0, next.0
        ),
        None if limit.0 >= *Resources::MEMORY_RANGE.end() => {
            format!("{limit} is the most that a replica can have; make the model smaller.")
        }
        None => format!(
            "{limit} is all that the machine has; make the model smaller, or run it on a larger \
             machine."
        ),
    }
}

fn exited(code: i32, facts: &Facts) -> (String, String) {
    let how = format!("ended with exit status {code}");
    let log = facts.log.join("\n");
    let hint = clues::in_text(&log, facts).unwrap_or_else(|| {
        "It ended itself: something in the package or in a library called `os._exit`, or compiled \
         code called `exit`. The last lines of the log were written just before."
            .to_owned()
    });
    (how, hint)
}

fn signalled(signal: i32, facts: &Facts) -> (String, String) {
    let crash = clues::crash(&facts.log);
    // A process that is the first of its container survives its own SIGABRT, and dies of what
    // `abort` does then.
    let aborted = crash.as_ref().is_some_and(|crash| crash.aborted);
    let name = signal_name(if aborted { ABORT } else { signal });
    let at = crash
        .and_then(|crash| crash.place)
        .map(|place| format!(", at {place},"))
        .unwrap_or_default();
    match signal {
        _ if aborted => (
            format!("was ended by its own code{at} with signal {name}"),
            "A library written in C or C++ found something wrong and aborted; the log says what, above \
             the traceback. The versions in requirements.txt may not go together."
                .to_owned(),
        ),
        4 | 7 | 8 | 11 => {
            let what = match signal {
                4 => "an instruction that this machine's processor does not have",
                7 => "access to memory that could not be read, such as a file that shrank",
                8 => "an impossible calculation in compiled code",
                _ => "access to memory that is not its own",
            };
            (
                format!("crashed{at} with signal {name}, {what}"),
                "Compiled code crashed, not Python: a library that was built for another version of \
                 a library beside it, or for another processor, or a model file that it cannot \
                 read. Try other versions in requirements.txt; `luthier run` tries the package by \
                 itself."
                    .to_owned(),
            )
        }
        9 | 15 => (
            format!("was ended from outside by signal {name}"),
            "Neither its memory limit nor this server did it: somebody or something on the machine \
             sent the signal. The kernel's log (`dmesg`) and the machine's operator may know."
                .to_owned(),
        ),
        31 => (
            format!("was ended{at} by signal {name}"),
            "It asked the kernel for something that containers may not do.".to_owned(),
        ),
        _ => (
            format!("was ended{at} by signal {name}"),
            LOOK.to_owned(),
        ),
    }
}

const ABORT: i32 = 6;

/// The container is not there any more.
pub(super) fn vanished(moment: Moment) -> Error {
    Error::new(
        Code::ContainerFailed,
        format!("the container disappeared {}", moment.words()),
    )
    .hint("It was removed from outside the server; deploy again if it does not come back.")
    .evidence(Evidence {
        phase: Some(moment),
        ..Evidence::default()
    })
}

/// The model did not become ready in time; `stacks` is where Python's threads are.
pub(super) fn too_slow(limit: Duration, facts: Facts, stacks: Option<String>) -> Error {
    let slow = match facts.moment {
        Moment::Starting => "the interpreter was still starting",
        Moment::Importing => "`package.py` was still being imported",
        Moment::Loading | Moment::Validating | Moment::Serving => "`get_model()` was still running",
    };
    Error::new(
        Code::DeploymentTimeout,
        format!(
            "the model was not ready after {} seconds: {slow}{}",
            limit.as_secs_f64().ceil(),
            stands(stacks.as_deref())
        ),
    )
    .hint(
        "If it waits there for something that does not come (a network it has not, a lock), mend \
         the package. If it only needs longer, give the deployment more CPU, load less in \
         `get_model()`, or raise the server's load timeout.",
    )
    .evidence(Evidence {
        output: stacks,
        ..facts.evidence()
    })
}

/// The runner says that the model cannot be loaded.
pub(super) fn not_loaded(error: Option<&RunnerError>, facts: Facts) -> Error {
    let Some(error) = error else {
        return Error::new(Code::ModelServeError, "the model could not be loaded")
            .hint("The last lines of the log show the reason.")
            .evidence(facts.evidence());
    };
    let clue = clues::in_exception(error, &facts);
    with_facts(luthier_gateway::runner_error(error), clue, facts)
}

/// The validation predict failed.
pub(super) fn not_valid(error: &Error, facts: Facts, stacks: Option<String>) -> Error {
    let mut valid = Error::new(
        error.code(),
        format!(
            "the validation predict failed: {}{}",
            error.message(),
            stands(stacks.as_deref())
        ),
    )
    .evidence(error.observed().clone());
    if let Some(hint) = error.next_step() {
        valid = valid.hint(hint);
    }
    if let Some(stacks) = stacks {
        valid = valid.evidence(Evidence::output(&stacks));
    }
    let said = valid.observed().output.clone().unwrap_or_default();
    let clue = clues::in_text(&format!("{}\n{said}", valid.message()), &facts);
    with_facts(valid, clue, facts)
}

/// A replica that served no longer answers.
pub(super) fn unresponsive(checks: u32, facts: Facts) -> Error {
    Error::new(
        Code::ModelServeError,
        format!("the replica did not answer {checks} health checks in a row"),
    )
    .hint("The last lines of the log show what it was doing; it is being replaced.")
    .evidence(facts.evidence())
}

/// A call of the model did not end, long after anybody waited for it.
pub(super) fn hung(
    running: Duration,
    overdue: Duration,
    facts: Facts,
    stacks: Option<String>,
) -> Error {
    Error::new(
        Code::ModelServeError,
        format!(
            "the model hangs: a call has run for {} s, {} s past its deadline{}; the replica is being \
             replaced",
            running.as_secs(),
            overdue.as_secs(),
            stands(stacks.as_deref())
        ),
    )
    .hint(
        "A call of the model cannot be interrupted, so the whole replica is. Where the threads \
         stood shows what the call waits for: a lock, a process of its own, an endless loop.",
    )
    .evidence(Evidence {
        output: stacks,
        ..facts.evidence()
    })
}

/// ", at package.py line 3 in predict" of where threads are; nothing when that is not known.
fn stands(stacks: Option<&str>) -> String {
    stacks
        .and_then(clues::place)
        .map(|place| format!(", at {place}"))
        .unwrap_or_default()
}

fn with_facts(error: Error, clue: Option<String>, facts: Facts) -> Error {
    let Evidence { output, .. } = error.observed().clone();
    let error = match clue {
        Some(clue) => error.hint(clue),
        None => error,
    };
    error.evidence(Evidence {
        output,
        out_of_memory: Some(false),
        ..facts.evidence()
    })
}

impl Facts {
    fn evidence(&self) -> Evidence {
        Evidence {
            phase: Some(self.moment),
            memory_limit: Some(self.resources.memory.bytes()),
            memory_peak: self.peak,
            log: Evidence::lines(self.log.clone()),
            ..Evidence::default()
        }
    }

    /// Whether it used all the memory that it may.
    fn at_limit(&self) -> bool {
        let limit = self.resources.memory.bytes() as f64;
        self.peak.is_some_and(|peak| peak as f64 >= limit * 0.98)
    }

    fn scratch(&self) -> Mebibytes {
        spec::scratch(self.resources)
    }
}

#[cfg(test)]
mod tests;
