//! Every way a replica can end has a code, its evidence and a next step.

use super::*;

const OOM: Exit = Exit {
    code: None,
    signal: Some(9),
    out_of_memory: true,
    memory_peak: Some(512 << 20),
    error: None,
};

#[test]
fn out_of_memory_names_the_limit_the_moment_and_a_next_step() {
    let error = ended(
        &OOM,
        Moment::Loading,
        Mebibytes(512),
        vec!["last line".into()],
    );
    assert_eq!(error.code(), Code::ModelServeError);
    insta::assert_snapshot!(error.public_text(), @r"
    the model ran out of memory at 512 MiB while `get_model()` was running (ended by signal 9, out of memory, peak 512 MiB of 512 MiB allowed). Give the deployment more memory: 768 MiB is the next step to try.

    Last lines of the log:
    last line
    ");
}

#[test]
fn the_suggested_memory_is_above_the_limit_in_whole_steps_and_never_above_the_largest() {
    for limit in [150, 256, 512, 700, 16000] {
        let hint = more_memory(Mebibytes(limit), None);
        let next: u32 = hint.split(' ').find_map(|w| w.parse().ok()).unwrap();
        assert!(
            next > limit && next <= 16384 && next.is_multiple_of(64),
            "{hint}"
        );
    }
    let largest = *Resources::MEMORY_RANGE.end();
    assert!(more_memory(Mebibytes(largest), None).contains("smaller"));
}

#[test]
fn an_exit_a_signal_and_a_container_that_never_ran_are_told_apart() {
    let exit = |code, signal, error: Option<&str>| Exit {
        code,
        signal,
        out_of_memory: false,
        memory_peak: None,
        error: error.map(str::to_owned),
    };
    let texts: Vec<String> = [
        exit(Some(3), None, None),
        exit(None, Some(11), None),
        exit(None, None, Some("no such mount")),
    ]
    .iter()
    .map(|e| {
        let error = ended(e, Moment::Importing, Mebibytes(256), vec![]);
        format!("{}: {}", error.code(), error.message())
    })
    .collect();
    insta::assert_snapshot!(texts.join("\n"), @r"
    ModelServeError: the model's process ended with exit status 3 while `package.py` was being imported
    ModelServeError: the model's process was ended by signal 11 (SIGSEGV) while `package.py` was being imported
    ContainerFailed: the container failed while `package.py` was being imported: no such mount
    ");
}

#[test]
fn a_timeout_tells_what_was_still_going_on() {
    let error = too_slow(
        Moment::Importing,
        Duration::from_secs(120),
        (Some(90 << 20), Mebibytes(256)),
        vec![],
    );
    insta::assert_snapshot!(error.public_text(), @"the model was not ready after 120 seconds: `package.py` was still being imported (peak 90 MiB of 256 MiB allowed). Give the deployment more CPU, load less in `get_model()`, or raise the server's load timeout.");
}
