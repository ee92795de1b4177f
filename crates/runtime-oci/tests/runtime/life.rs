//! A container's way from start to removal.

use crate::world::{World, spec};

#[tokio::test]
async fn output_and_status_are_kept() {
    let world = World::new();
    let (exit, lines) = world
        .run("echo one; echo two >&2; echo three; exit 7")
        .await;
    assert_eq!(lines, ["one", "two", "three"]);
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    assert!(!exit.out_of_memory && exit.error.is_none());
    assert!(exit.memory_peak.unwrap() > 0);
    world.finish().await;
}

#[tokio::test]
async fn a_missing_program_leaves_nothing() {
    let world = World::new();
    let mut spec = spec("missing", "");
    spec.args = vec!["/bin/nothing".to_owned()];
    let error = luthier_ports::ContainerRuntime::start(&world.runtime, &spec)
        .await
        .unwrap_err();
    assert_eq!(error.code(), luthier_types::Code::ContainerFailed);
    assert!(
        error.message().contains("/bin/nothing does not exist"),
        "{error:?}"
    );
    world.finish().await;
}
