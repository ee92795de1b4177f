//! The public text holds all four things and never the internal cause.

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
    .source(std::io::Error::other("secret-host refused"))
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
