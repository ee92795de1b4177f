//! A container's way from start to removal, and what happens when either side dies.

use std::{
    fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path, process::Command,
    time::Duration,
};

use luthier_ports::{
    ContainerId, ContainerRuntime, ContainerState,
    conformance::{self, Program, RuntimeFixture},
};
use luthier_runtime_oci::OciRuntime;
use luthier_types::Code;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::world::{World, mount, spec, wait_for};

#[tokio::test]
async fn conforms() {
    let world = World::new();
    let options = world.options.clone();
    let fixture = RuntimeFixture {
        spec: &|id, program| {
            spec(
                id,
                match program {
                    Program::Exit => "echo one; echo two >&2; echo three; exit 7",
                    Program::Serve => {
                        "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done"
                    }
                    Program::Stubborn => "trap '' TERM; echo ready; while :; do sleep 1; done",
                },
            )
        },
        reopen: Some(&move || Box::new(OciRuntime::new(options.clone()).unwrap())),
        runs: true,
    };
    conformance::runtime(&world.runtime, &fixture).await;
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_start_says_why_and_leaves_nothing() {
    let world = World::new();
    let mut missing = spec("missing", "");
    missing.args = vec!["/bin/nothing".to_owned()];
    let mut unfound = spec("unfound", "");
    unfound.args = vec!["nothing".to_owned()];
    let mut homeless = spec("homeless", "");
    homeless.cwd = "/no/such".into();
    let mut layerless = spec("layerless", "");
    layerless.mounts = vec![mount(&world.dir.path().join("absent"), "/x", true)];
    let mut sly = spec("sly", "");
    sly.mounts = vec![mount(Path::new("/usr"), "/x/../proc", true)];
    let closed = world.dir.path().join("closed");
    fs_err::create_dir(&closed).unwrap();
    fs_err::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let mut shut = spec("shut", "");
    shut.mounts = vec![mount(&closed, "/x", true)];
    let mut nameless = spec("nameless", "");
    nameless.env = [("a=b".to_owned(), "c".to_owned())].into();
    let bad_id = spec("../up", "");
    for (spec, cause) in [
        (missing, "/bin/nothing does not exist in the container"),
        (unfound, "nothing is not in the container's PATH"),
        (homeless, "working directory /no/such"),
        (layerless, "absent to mount is missing"),
        (sly, "has a `.` or `..` in it"),
        (shut, "its user may not read"),
        (nameless, "variable's name"),
        (bad_id, "lower-case letters"),
    ] {
        let error = world.runtime.start(&spec).await.unwrap_err();
        assert_eq!(error.code(), Code::ContainerFailed);
        assert!(error.message().contains(cause), "{cause}: {error:?}");
        assert!(error.next_step().is_some());
        assert!(!error.message().contains("libcontainer"), "{error:?}");
        assert_eq!(world.runtime.status(&spec.id).await.unwrap(), None);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_machine_that_refuses_is_quoted() {
    // No such ids: the kernel refuses the mapping.
    let world = World::with(|options| options.uid_base = u32::MAX - 2000);
    let error = world.runtime.start(&spec("refused", "")).await.unwrap_err();
    assert!(
        error.next_step().unwrap().contains("luthier doctor"),
        "{error:?}"
    );
    let output = error.observed().output.as_deref().unwrap_or_default();
    assert!(output.contains("mapping"), "{error:?}\n{output}");
    world.finish().await;
}

#[tokio::test]
async fn a_container_outlives_the_server() {
    let world = World::new();
    let spec = spec(
        "outlives",
        "echo before; while [ ! -e /run/luthier/go ]; do sleep 0.02; done; echo after; exit 5",
    );
    let signal = world.dir.path().join("signal");
    fs_err::create_dir(&signal).unwrap();
    let mut spec = spec;
    spec.mounts = vec![mount(&signal, "/run/luthier", true)];
    let mut server = world.server(&[], &spec);
    // All of its process group, as a terminal does.
    let group = format!("-{}", server.id());
    let kill = Command::new("kill").args(["-9", "--", &group]).status();
    assert!(kill.unwrap().success());
    server.wait().unwrap();

    let successor = world.successor();
    let status = successor.status(&spec.id).await.unwrap().unwrap();
    assert!(matches!(status.state, ContainerState::Running { .. }));
    assert!(status.memory.unwrap() > 0);
    fs_err::write(signal.join("go"), "").unwrap();
    assert_eq!(world.exit(&spec.id).await.code, Some(5));
    let lines = successor.logs(&spec.id, 10).await.unwrap();
    assert_eq!(lines, ["before", "after"], "its output went on");
    world.finish().await;
}

#[tokio::test]
async fn a_dead_shim_takes_its_container_along_and_is_noticed() {
    let world = World::new();
    let id = world.start(&spec("orphan", "echo ready; sleep 1000")).await;
    world.line(&id, "ready").await;
    let pid = match world.runtime.status(&id).await.unwrap().unwrap().state {
        ContainerState::Running { pid } => pid,
        other => panic!("{other:?}"),
    };
    let shim = fs_err::read_to_string(world.container_dir(&id).join("shim.json")).unwrap();
    let shim: serde_json::Value = serde_json::from_str(&shim).unwrap();
    let kill = Command::new("kill")
        .args(["-9", &shim["pid"].to_string()])
        .status();
    assert!(kill.unwrap().success());

    // Nobody looked yet: the kernel alone did it.
    wait_for("the kernel to kill the container", async || {
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_err().then_some(())
    })
    .await;
    let exit = world.exit(&id).await;
    assert!(
        exit.error.unwrap().contains("supervised"),
        "the cause is named"
    );
    let logs = world.runtime.logs(&id, 10).await.unwrap();
    assert_eq!(logs, ["ready"], "its output is kept");
    let cgroups = world.cgroups();
    assert!(!cgroups.is_empty());
    assert!(cgroups.iter().all(|parent| !parent.join(&id.0).exists()));
    world.finish().await;
}

#[tokio::test]
async fn an_interrupted_start_is_swept_up() {
    let world = World::new();
    let half = world.options.state_dir.join(".new-half-x");
    let torn = world.options.state_dir.join("torn");
    fs_err::create_dir(&half).unwrap();
    fs_err::create_dir(&torn).unwrap();
    fs_err::write(torn.join("spec.json"), "").unwrap();
    assert!(world.runtime.list().await.unwrap().is_empty());
    // The id is free.
    let (exit, _) = world.run_spec(&spec("torn", "exit 4")).await;
    assert_eq!(exit.code, Some(4));
    fs_err::create_dir(&torn).unwrap();
    world.successor();
    assert!(!half.exists() && !torn.exists());
    world.finish().await;
}

#[tokio::test]
async fn a_start_whose_starter_died_is_over_at_once() {
    let world = World::new();
    let done = world.start(&spec("done", "true")).await;
    world.exit(&done).await;
    let described = fs_err::read_to_string(world.container_dir(&done).join("spec.json")).unwrap();
    let cut = ContainerId("cut".to_owned());
    let dir = world.container_dir(&cut);
    fs_err::create_dir(&dir).unwrap();
    let log = fs_err::File::create(dir.join("shim.log"))
        .unwrap()
        .into_file();
    log.lock().unwrap();
    fs_err::write(dir.join("spec.json"), described.replace("done", "cut")).unwrap();
    let state = async || world.runtime.status(&cut).await.unwrap().unwrap().state;
    assert_eq!(state().await, ContainerState::Starting);

    // As the kernel does when the last process that holds it ends.
    drop(log);
    let ContainerState::Exited(exit) = state().await else {
        panic!("nobody is left who could start it");
    };
    let cause = exit.error.unwrap();
    assert!(cause.contains("ended while it was starting"), "{cause}");
    world.runtime.remove(&cut).await.unwrap();
    assert!(!dir.exists());
    world.finish().await;
}

#[tokio::test]
async fn output_is_bounded_and_in_order() {
    let world = World::with(|options| options.log_max_bytes = 64 << 10);
    let id = world.start(&spec("chatty", "seq 1 50000")).await;
    world.exit(&id).await;
    let dir = world.container_dir(&id);
    let size = |name: &str| fs_err::metadata(dir.join(name)).unwrap().len();
    assert!(size("out.log") + size("out.log.1") <= 64 << 10);
    let lines = world.runtime.logs(&id, 900).await.unwrap();
    let expected: Vec<_> = (49_101..=50_000).map(|n| n.to_string()).collect();
    assert_eq!(lines, expected);
    world.finish().await;
}

#[tokio::test]
async fn stopping_ends_children_too() {
    let world = World::new();
    let id = world
        .start(&spec(
            "family",
            "sleep 1000 & sleep 1000 & echo ready; wait",
        ))
        .await;
    world.line(&id, "ready").await;
    let grace = Duration::from_millis(20);
    world.runtime.stop(&id, grace).await.unwrap();
    assert_eq!(world.exit(&id).await.signal, Some(9));
    assert!(
        world
            .cgroups()
            .iter()
            .all(|parent| !parent.join(&id.0).exists())
    );
    world.finish().await;
}

#[tokio::test]
async fn many_start_and_end_at_once() {
    let world = World::new();
    let specs: Vec<_> = (0..8)
        .map(|n| spec(&format!("many-{n}"), &format!("exit {n}")))
        .collect();
    let runtime = std::sync::Arc::new(world.successor());
    let mut starts = tokio::task::JoinSet::new();
    for spec in specs.clone() {
        let runtime = std::sync::Arc::clone(&runtime);
        starts.spawn(async move { runtime.start(&spec).await });
    }
    for start in starts.join_all().await {
        start.unwrap();
    }
    for (n, spec) in specs.iter().enumerate() {
        assert_eq!(world.exit(&spec.id).await.code, i32::try_from(n).ok());
    }
    assert_eq!(world.runtime.list().await.unwrap().len(), 8);
    world.finish().await;
}

#[tokio::test]
async fn a_shim_holds_nothing_of_the_servers() {
    let world = World::new();
    let path = world.dir.path().join("held");
    let held = fs_err::File::create(&path).unwrap();
    // As a careless library leaves it.
    fcntl(&held, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let id = world.start(&spec("holds", "sleep 1000")).await;
    let shim = fs_err::read_to_string(world.container_dir(&id).join("shim.json")).unwrap();
    let shim: serde_json::Value = serde_json::from_str(&shim).unwrap();
    let open: Vec<_> = fs_err::read_dir(format!("/proc/{}/fd", shim["pid"]))
        .unwrap()
        .filter_map(|entry| fs_err::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(open.len() > 3 && !open.contains(&path), "{open:?}");
    world.finish().await;
}
