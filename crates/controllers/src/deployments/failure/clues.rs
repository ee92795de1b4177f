//! What the words of a failure give away: limits that were hit, libraries that are missing, and
//! where a crash happened.

use luthier_types::{Mebibytes, Resources, layout::container, runner::RunnerError};

use super::{Facts, more_memory};
use crate::deployments::spec;

/// What Python said as it crashed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Crash {
    /// The process called `abort`.
    pub(super) aborted: bool,
    /// The innermost line of the package that was running, or else of any Python.
    pub(super) place: Option<String>,
}

/// A next step that fits the exception, if it is one that has its own.
pub(super) fn in_exception(error: &RunnerError, facts: &Facts) -> Option<String> {
    let trace = error.traceback.as_deref().unwrap_or_default();
    in_text(&format!("{}\n{trace}", error.message), facts)
}

/// A next step that fits the words, if they are such as have their own.
pub(super) fn in_text(text: &str, facts: &Facts) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if let Some(library) = missing_library(text) {
        return Some(format!(
            "The image has no system library `{library}`. Take a wheel that brings its own (for \
             OpenCV it is `opencv-python-headless`), or an image that has it: `luthier images \
             --contents` lists the catalogue's, and one of a registry can be named."
        ));
    }
    if says(&["No space left on device", "Disk quota exceeded"]) {
        return Some(full_scratch(facts));
    }
    if says(&[
        "can't start new thread",
        "no thread could be started",
        "Resource temporarily unavailable",
        "Thread creation failed",
        "pthread_create failed",
    ]) {
        return Some(format!(
            "A replica may have {} processes and threads, and it had them all. Let it start fewer: \
             `n_jobs`, the size of pools, a pool that is made anew for every predict.",
            spec::PIDS
        ));
    }
    let worker_died = says(&[
        "terminated abruptly",
        "TerminatedWorkerError",
        "Signals.SIGKILL",
        "exitcode -9",
    ]);
    if worker_died && facts.at_limit() {
        return Some(format!(
            "A process that the model had started was killed, most likely for want of memory. {}",
            more_memory(facts)
        ));
    }
    if says(&["MemoryError", "Unable to allocate", "std::bad_alloc"]) {
        return Some(format!(
            "It asked for more memory at once than it could have. {}",
            if facts.at_limit() {
                more_memory(facts)
            } else {
                "The traceback shows where; the size it asked for may be a mistake.".to_owned()
            }
        ));
    }
    None
}

fn full_scratch(facts: &Facts) -> String {
    let scratch = facts.scratch();
    let rule = "half of its memory, 256 MiB at most";
    let most = spec::scratch(Resources {
        memory: Mebibytes(u32::MAX),
        ..facts.resources
    });
    if scratch < most {
        format!(
            "`/tmp`, the only place where a model can write, has {scratch}: {rule}. Write less, or \
             remove what is done with; memory={} gives {most}.",
            most.0 * 2
        )
    } else {
        format!(
            "`/tmp`, the only place where a model can write, has {scratch}: {rule}. Write less, \
             remove what is done with, or put what is only read into the package."
        )
    }
}

/// The file of `libx.so.1: cannot open shared object file`.
fn missing_library(text: &str) -> Option<&str> {
    let (before, _) = text.split_once(": cannot open shared object file")?;
    let name = before.rsplit([' ', '\n', '\'', '"', '(']).next()?;
    name.contains(".so").then_some(name)
}

/// What Python wrote into the log as the process crashed.
pub(super) fn crash(log: &[String]) -> Option<Crash> {
    let begin = log
        .iter()
        .position(|line| line.starts_with("Fatal Python error: "))?;
    let lines = &log[begin..];
    Some(Crash {
        aborted: lines[0].contains("Abort"),
        place: place(&lines.join("\n")),
    })
}

/// What `faulthandler` wrote of all threads without those that only wait for requests; `None` when
/// nothing is left.
pub(in crate::deployments) fn stacks(text: &str) -> Option<String> {
    let is_own = |section: &&str| frames(section).any(|(file, ..)| !is_runners(file));
    let sections: Vec<&str> = sections(text).filter(is_own).collect();
    (!sections.is_empty()).then(|| sections.join("\n\n"))
}

/// The innermost line of the package in what `faulthandler` writes, or else of any Python, as
/// `package.py line 3 in predict`. Threads that the runner called into the package come first.
pub(super) fn place(stacks: &str) -> Option<String> {
    let own = |section: &str| {
        let mut frames = frames(section);
        frames.find_map(|(file, line, function)| {
            let file = file.strip_prefix(container::PACKAGE)?.strip_prefix('/')?;
            Some(format!("{file} line {line} in {function}"))
        })
    };
    let called = |section: &&str| frames(section).any(|(file, ..)| is_runners(file));
    let other = |section: &str| {
        let (file, line, function) = frames(section).find(|(file, ..)| !is_runners(file))?;
        let file = file.rsplit("site-packages/").next().unwrap_or(file);
        Some(format!("{file} line {line} in {function}"))
    };
    sections(stacks)
        .filter(called)
        .find_map(own)
        .or_else(|| sections(stacks).find_map(own))
        .or_else(|| sections(stacks).filter(called).find_map(other))
        .or_else(|| sections(stacks).find_map(other))
}

/// What is written of each thread, which begins by naming it.
fn sections(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(|section| section.trim_matches('\n'))
}

fn frames(section: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    section.lines().filter_map(frame)
}

fn is_runners(file: &str) -> bool {
    file.strip_prefix(container::RUNNER)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// `  File "/a/b.py", line 3 in f`.
fn frame(line: &str) -> Option<(&str, &str, &str)> {
    let (file, rest) = line
        .trim_start()
        .strip_prefix("File \"")?
        .split_once("\", line ")?;
    let (number, function) = rest.split_once(" in ")?;
    Some((file, number, function))
}
