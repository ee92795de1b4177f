//! Every way a replica can end has a code, its evidence and a next step.

use luthier_types::{Millicpu, runner::RunnerErrorKind};

use super::*;

const OOM: Exit = Exit {
    code: None,
    signal: Some(9),
    out_of_memory: true,
    memory_peak: Some(512 << 20),
    error: None,
};

fn facts(moment: Moment, memory: u32, log: &[&str]) -> Facts {
    Facts {
        moment,
        resources: Resources {
            cpu: Millicpu(100),
            memory: Mebibytes(memory),
        },
        machine: Some(Mebibytes(8000)),
        peak: Some(90 << 20),
        log: log.iter().map(|&line| line.to_owned()).collect(),
    }
}

fn exit(code: Option<i32>, signal: Option<i32>, error: Option<&str>) -> Exit {
    Exit {
        code,
        signal,
        out_of_memory: false,
        memory_peak: None,
        error: error.map(str::to_owned),
    }
}

fn raised(message: &str) -> RunnerError {
    RunnerError {
        kind: RunnerErrorKind::GetModelRaised,
        message: message.to_owned(),
        exception: Some("OSError".to_owned()),
        traceback: None,
        module: None,
    }
}

#[test]
fn out_of_memory_names_the_limit_the_moment_and_a_next_step() {
    let error = ended(&OOM, facts(Moment::Loading, 512, &["last line"]));
    assert_eq!(error.code(), Code::ModelServeError);
    has(
        &error.public_text(),
        &[
            "the model ran out of memory at 512 MiB while `get_model()` was running (ended by signal 9 \
             (SIGKILL), out of memory, peak 512 MiB of 512 MiB allowed). It peaked at 512 of 512 MiB",
            "Try memory=768, which is a guess.",
            "\n\nLast lines of the log:\nlast line",
        ],
    );
}

/// Fails when a text lacks any of the parts.
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn what_is_suggested_is_within_the_machine_or_nothing() {
    let hint = |memory: u32, machine: u32| {
        let facts = Facts {
            machine: Some(Mebibytes(machine)),
            ..facts(Moment::Serving, memory, &[])
        };
        more_memory(&facts)
    };
    has(&hint(256, 8000), &["memory=384"]);
    has(&hint(1000, 1100), &["memory=1100"]);
    has(&hint(1100, 1100), &["1100 MiB is all that the machine has"]);
    has(&hint(16384, 60_000), &["16384 MiB is the most"]);
}

#[test]
fn a_machine_without_memory_is_not_the_models_fault() {
    let exit = Exit {
        memory_peak: Some(200 << 20),
        ..OOM
    };
    let error = ended(&exit, facts(Moment::Serving, 512, &[]));
    has(
        &error.public_text(),
        &[
            "the machine ran out of memory while it was serving",
            "peaked at 200 of 512 MiB",
            "would not help",
        ],
    );
    assert!(!error.public_text().contains("memory="));
}

const CRASH: [&str; 7] = [
    "Fatal Python error: Segmentation fault",
    "",
    "Current thread 0x00007f (most recent call first):",
    "  File \"/opt/luthier/env/lib/python3.11/site-packages/lib/x.py\", line 3 in call",
    "  File \"/opt/luthier/package/deep/model.py\", line 7 in load",
    "  File \"/opt/luthier/package/package.py\", line 9 in get_model",
    "  File \"/opt/luthier/runner/luthier_host.py\", line 160 in make_model",
];

#[test]
fn every_end_is_told_apart() {
    let abort: Vec<&str> = ["terminate called", "Fatal Python error: Aborted"]
        .into_iter()
        .chain(CRASH[1..].iter().copied())
        .chain(CRASH)
        .collect();
    let texts: Vec<String> = [
        (exit(Some(3), None, None), &[][..]),
        (
            exit(Some(1), None, None),
            &["libgomp: Thread creation failed"],
        ),
        (exit(None, Some(11), None), &CRASH),
        (exit(None, Some(11), None), &[]),
        (exit(None, Some(11), None), &abort),
        (exit(None, Some(4), None), &[]),
        (exit(None, Some(9), None), &[]),
        (exit(None, Some(31), None), &[]),
        (exit(None, None, Some("no such mount")), &[]),
    ]
    .into_iter()
    .map(|(exit, log)| {
        let error = ended(&exit, facts(Moment::Importing, 256, log));
        let hint = error.next_step().unwrap();
        format!("{}: {}\n  {hint}", error.code(), error.message())
    })
    .collect();
    let expected: [&[&str]; 9] = [
        &[
            "ended with exit status 3 while `package.py` was being imported",
            "os._exit",
        ],
        &["exit status 1", "512 processes and threads"],
        &["crashed, at deep/model.py line 7 in load, with signal 11 (SIGSEGV)"],
        &["crashed with signal 11 (SIGSEGV)", "Compiled code"],
        &["ended by its own code, at deep/model.py line 7 in load, with signal 6 (SIGABRT)"],
        &["signal 4 (SIGILL)", "processor"],
        &["ended from outside by signal 9 (SIGKILL)", "dmesg"],
        &["signal 31 (SIGSYS)", "may not do"],
        &[
            "ContainerFailed: the container failed while",
            "no such mount",
            "luthier doctor",
        ],
    ];
    assert_eq!(texts.len(), expected.len());
    for (text, parts) in texts.iter().zip(expected) {
        has(text, parts);
    }
}

#[test]
fn words_that_give_a_limit_away_bring_their_own_next_step() {
    let full = Facts {
        peak: Some(256 << 20),
        ..facts(Moment::Loading, 256, &[])
    };
    let texts: Vec<String> = [
        (
            "[Errno 28] No space left on device: '/tmp/x'",
            &facts(Moment::Loading, 256, &[]),
        ),
        (
            "[Errno 28] No space left on device: '/tmp/x'",
            &facts(Moment::Loading, 2048, &[]),
        ),
        ("can't start new thread", &full),
        (
            "libGL.so.1: cannot open shared object file: No such file or directory",
            &full,
        ),
        (
            "A process in the process pool was terminated abruptly",
            &full,
        ),
        (
            "Unable to allocate 8.00 PiB for an array",
            &facts(Moment::Loading, 256, &[]),
        ),
        ("no such weights", &full),
    ]
    .into_iter()
    .map(|(message, facts)| {
        let error = not_loaded(Some(&raised(message)), facts.clone());
        error.next_step().unwrap().to_owned()
    })
    .collect();
    let expected = [
        "memory=512 gives 256 MiB",
        "has 256 MiB",
        "512 processes and threads",
        "no system library `libGL.so.1`",
        "want of memory. It peaked at 256 of 256 MiB",
        "may be a mistake",
        "Correct `get_model()`",
    ];
    assert_eq!(texts.len(), expected.len());
    for (text, part) in texts.iter().zip(expected) {
        has(text, &[part]);
    }
}

#[test]
fn what_the_runner_reports_gets_its_phase_memory_and_log() {
    let error = not_loaded(Some(&raised("odd")), facts(Moment::Loading, 256, &["last"]));
    let seen = error.observed();
    assert_eq!(
        (seen.phase, seen.out_of_memory),
        (Some(Moment::Loading), Some(false))
    );
    assert_eq!(
        (seen.memory_peak, seen.memory_limit),
        (Some(90 << 20), Some(256 << 20))
    );
    assert_eq!(seen.log, ["last"]);
}

#[test]
fn a_timeout_tells_what_was_still_going_on() {
    let stacks = CRASH[2..].join("\n");
    let error = too_slow(
        Duration::from_secs(120),
        facts(Moment::Importing, 256, &[]),
        Some(stacks),
    );
    assert_eq!(
        error.message(),
        "the model was not ready after 120 seconds: `package.py` was still being imported, at \
         deep/model.py line 7 in load"
    );
}

#[test]
fn the_place_is_that_of_the_thread_that_was_called_not_of_one_that_the_package_keeps() {
    let text = "Thread 0x01 (most recent call first):
  File \"/usr/lib/python3.11/threading.py\", line 327 in wait
  File \"/opt/luthier/package/package.py\", line 5 in background

Thread 0x02 (most recent call first):
  <no Python frame>

Thread 0x03 (most recent call first):
  File \"/opt/luthier/package/package.py\", line 12 in predict
  File \"/opt/luthier/runner/luthier_host.py\", line 200 in predict

Thread 0x04 (most recent call first):
  File \"/opt/luthier/runner/luthier_host.py\", line 300 in run
";
    assert_eq!(clues::place(text).unwrap(), "package.py line 12 in predict");
    let kept = clues::stacks(text).unwrap();
    assert!(kept.contains("0x01") && kept.contains("0x03"));
    assert!(!kept.contains("0x02") && !kept.contains("0x04"));
    assert_eq!(clues::stacks("Thread 0x02\n  <no Python frame>\n"), None);
}
