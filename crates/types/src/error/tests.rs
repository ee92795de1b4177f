//! The public text holds all four things and never the internal cause.

use std::io;

use super::*;

fn out_of_memory() -> Error {
    Error::new(
        Code::ModelServeError,
        "the model ran out of memory while loading",
    )
    .hint("Give it 700 MiB.")
    .evidence(Evidence {
        out_of_memory: Some(true),
        memory_limit: Some(512 << 20),
        memory_peak: Some(511 << 20),
        log: vec!["loading".into()],
        ..Evidence::default()
    })
    .source(io::Error::other("secret-host refused"))
}

#[test]
fn public_text_has_cause_evidence_and_next_step() {
    insta::assert_snapshot!(out_of_memory().public_text(), @r"
    the model ran out of memory while loading (out of memory, peak 511 MiB of 512 MiB allowed). Give it 700 MiB.

    Last lines of the log:
    loading
    ");
}

#[test]
fn the_source_is_in_the_chain_and_nowhere_else() {
    let error = out_of_memory();
    assert!(error.chain().contains("secret-host"));
    assert!(!error.to_string().contains("secret-host"));
    assert!(!error.public_text().contains("secret-host"));
    assert!(
        !serde_json::to_string(&error)
            .unwrap()
            .contains("secret-host")
    );
}

#[test]
fn all_lists_every_code_once() {
    let mut names: Vec<_> = Code::ALL.iter().map(ToString::to_string).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), Code::ALL.len());
}

#[test]
fn long_output_keeps_its_end_on_a_character_boundary() {
    let text = "é".repeat(Evidence::OUTPUT_BYTES) + "x";
    let kept = Evidence::output(&text).output.unwrap();
    assert!(kept.len() <= Evidence::OUTPUT_BYTES && kept.ends_with('x'));
}

#[test]
fn a_bounded_text_keeps_the_ends_of_output_and_log_in_whole_lines() {
    let lines = |what: &str| (0..500).map(|n| format!("{what} {n}")).collect::<Vec<_>>();
    let error = out_of_memory().evidence(Evidence {
        output: Some(lines("frame").join("\n")),
        log: lines("line"),
        ..Evidence::default()
    });
    let text = error.public_text_within(2000);
    assert!(text.len() < 2100, "{}", text.len());
    assert!(text.starts_with("the model ran out of memory while loading. Give it 700 MiB."));
    let (output, log) = text.split_once("\n\nLast lines of the log:\n").unwrap();
    assert!(output.ends_with("\nframe 499") && log.ends_with("\nline 499"));
    let first = log.lines().nth(1).unwrap();
    assert!(
        log.starts_with("…\n") && first.starts_with("line "),
        "{first}"
    );
    assert!(log.len() > 500, "the log keeps its share: {}", log.len());
}

#[test]
fn a_log_is_kept_in_bounded_lines() {
    let mut log: Vec<String> = (0..80).map(|n| n.to_string()).collect();
    log.push("é".repeat(3000));
    let kept = Evidence::lines(log);
    assert_eq!((kept.len(), kept[0].as_str()), (50, "31"));
    assert!(kept[49].len() < 1010 && kept[49].ends_with('…'));
}

#[test]
fn a_full_disk_is_told_as_what_it_is_however_deep_it_lies() {
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let wrapped = io::Error::other(full());
    for source in [full(), wrapped] {
        let error = Error::internal("storing a blob", source);
        assert_eq!(error.code(), Code::CapacityExceeded);
        assert_eq!(
            error.message(),
            "the server's disk is full; it failed while storing a blob"
        );
    }
    let read_only = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
    let error = Error::internal("storing a blob", read_only);
    assert_eq!(error.code(), Code::StorageUnavailable);
    let other = io::Error::from(io::ErrorKind::NotFound);
    assert_eq!(Error::internal("x", other).code(), Code::Internal);
}
