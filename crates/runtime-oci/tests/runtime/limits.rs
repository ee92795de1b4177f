//! The bounds of a container. Each test fails when its limit is taken away.

use luthier_ports::{ContainerId, ContainerRuntime as _, ContainerState, Resized};
use luthier_types::{Mebibytes, Millicpu, Resources};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::{World, spec};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn memory_has_a_limit_and_its_breach_is_recorded() {
    let world = World::new();
    // `tail` keeps the last line, which never ends.
    let script = "head -c 200000000 /dev/zero | tail -n 1 >/dev/null; echo tail ended with $?";
    let (exit, lines) = world.run(script).await;
    assert_eq!(lines.last().unwrap(), "tail ended with 137");
    assert!(exit.out_of_memory, "{exit:?}");
    assert_eq!(exit.code, Some(0), "the shell itself went on");
    let peak = exit.memory_peak.unwrap();
    assert!((32 * MIB..=64 * MIB).contains(&peak), "{peak}");
    world.finish().await;
}

#[tokio::test]
async fn a_program_killed_for_memory_says_so() {
    let world = World::new();
    let script = "exec awk 'BEGIN { s = \"0123456789abcdef\"; while (1) s = s s }'";
    let (exit, _) = world.run(script).await;
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    assert!(exit.out_of_memory && exit.error.is_none(), "{exit:?}");
    world.finish().await;
}

#[tokio::test]
async fn scratch_has_a_size_and_counts_as_memory() {
    let world = World::new();
    let (exit, lines) = world
        .run("dd if=/dev/zero of=/tmp/file bs=1M count=20 2>&1; du -m /tmp/file | cut -f1")
        .await;
    assert!(
        lines.iter().any(|l| l.contains("No space left")),
        "{lines:#?}"
    );
    assert_eq!(lines.last().unwrap(), "8");
    assert!(!exit.out_of_memory && exit.memory_peak.unwrap() >= 8 * MIB);

    let mut large = spec(
        "large",
        "dd if=/dev/zero of=/tmp/file bs=1M count=200; true",
    );
    large.scratch = Mebibytes(300);
    let (exit, _) = world.run_spec(&large).await;
    assert!(exit.out_of_memory, "{exit:?}");

    // What processes share has a size of its own.
    let mut shared = spec(
        "shared",
        "dd if=/dev/zero of=/dev/shm/file bs=1M count=100 2>&1; du -m /dev/shm/file | cut -f1",
    );
    shared.memory = Mebibytes(256);
    let (_, lines) = world.run_spec(&shared).await;
    assert_eq!(lines.last().unwrap(), "64", "{lines:#?}");
    world.finish().await;
}

#[tokio::test]
async fn processes_are_counted() {
    let world = World::new();
    let mut bomb = spec("bomb", "while :; do sleep 1000 & done");
    bomb.pids = 16;
    let (exit, lines) = world.run_spec(&bomb).await;
    assert_ne!(exit.code, Some(0));
    assert!(lines.iter().any(|l| l.contains("can't fork")), "{lines:#?}");
    world.finish().await;
}

#[tokio::test]
async fn what_it_uses_is_counted_while_it_runs() {
    let world = World::new();
    // The burst is over when it says so; its memory is given back, its peak and its time are not.
    let script = "head -c 20000000 /dev/zero | tail -n 1 >/dev/null; i=0; \
                  while [ $i -lt 100000 ]; do i=$((i+1)); done; echo ready; exec sleep 1000";
    let id = world.start(&spec("used", script)).await;
    world.line(&id, "ready").await;
    let status = world.runtime.status(&id).await.unwrap().unwrap();
    let (now, peak) = (status.memory.unwrap(), status.memory_peak.unwrap());
    assert!(peak >= 20_000_000 && peak > now, "peak {peak}, now {now}");
    let used = status.cpu_time.unwrap().as_secs_f64();
    assert!((0.02..60.0).contains(&used), "{used} seconds");
    world.finish().await;
}

#[tokio::test]
async fn cpu_is_a_weight_and_a_cap_when_asked() {
    let world = World::new();
    for (id, cap) in [("weighed", false), ("capped", true)] {
        let mut spec = spec(id, "echo ready; exec sleep 1000");
        spec.cpu = Millicpu(500);
        spec.cpu_cap = cap;
        let id = world.start(&spec).await;
        let values = cgroup_values(
            &world,
            &id,
            &["cpu.shares", "cpu.cfs_quota_us", "cpu.weight", "cpu.max"],
        );
        let (quota, max) = if cap {
            ("50000", "50000 100000")
        } else {
            ("-1", "max 100000")
        };
        assert!(values.iter().any(|v| v == quota || v == max), "{values:?}");
        assert!(values.iter().any(|v| v == "512" || v == "20"), "{values:?}");
    }
    world.finish().await;
}

/// The values in those files of a container's cgroup that there are.
fn cgroup_values(world: &World, id: &ContainerId, files: &[&str]) -> Vec<String> {
    let parents = world.cgroups();
    let texts = parents.iter().flat_map(|parent| {
        let read = |file| fs_err::read_to_string(parent.join(&id.0).join(file));
        files.iter().map(read)
    });
    texts
        .filter_map(|text| Some(text.ok()?.trim().to_owned()))
        .collect()
}

/// Half a core and `memory`.
fn half(memory: u32) -> Resources {
    Resources {
        cpu: Millicpu(500),
        memory: Mebibytes(memory),
    }
}

#[tokio::test]
async fn what_a_running_container_may_use_is_changed() {
    const MEMORY: [&str; 2] = ["memory.limit_in_bytes", "memory.max"];
    let world = World::new();
    let script = "trap 'go=1' USR1; echo ready; while [ -z \"$go\" ]; do sleep 0.05; done
        head -c 100000000 /dev/zero | tail -n 1 >/dev/null; echo tail ended with $?; exec sleep 1000";
    let mut spec = spec("grows", script);
    spec.cpu_cap = true;
    let id = world.start(&spec).await;
    world.line(&id, "ready").await;
    let pid = running(&world, &id).await;

    let large = Resources {
        cpu: Millicpu(1000),
        memory: Mebibytes(256),
    };
    let labels = [("kind".to_owned(), "large".to_owned())].into();
    let resized = world.runtime.resize(&id, large, &labels).await.unwrap();
    assert_eq!(resized, Resized::Done);
    assert_eq!(running(&world, &id).await, pid, "it goes on");
    let limits = cgroup_values(&world, &id, &MEMORY);
    assert_eq!(limits, [(256 * MIB).to_string()]);
    let cpu = cgroup_values(&world, &id, &["cpu.shares", "cpu.cfs_quota_us", "cpu.max"]);
    for value in ["1024", "100000"] {
        assert!(cpu.iter().any(|v| v.contains(value)), "{value} in {cpu:?}");
    }
    // What would have been its end before.
    let pid_of = Pid::from_raw(pid.cast_signed());
    kill(pid_of, Signal::SIGUSR1).unwrap();
    world.line(&id, "tail ended with 0").await;

    // It has used 100 MB, though it does so no more.
    let refused = world.runtime.resize(&id, half(64), &labels).await.unwrap();
    assert!(matches!(refused, Resized::Refused(_)), "{refused:?}");
    assert_eq!(cgroup_values(&world, &id, &MEMORY), limits, "as it was");
    assert_eq!(running(&world, &id).await, pid);
    let less = world.runtime.resize(&id, half(200), &labels).await.unwrap();
    assert_eq!(less, Resized::Done);
    assert_eq!(
        cgroup_values(&world, &id, &MEMORY),
        [(200 * MIB).to_string()]
    );
    assert_eq!(running(&world, &id).await, pid);
    world.finish().await;
}

/// The first process of a container that runs.
async fn running(world: &World, id: &ContainerId) -> u32 {
    match world.runtime.status(id).await.unwrap().unwrap().state {
        ContainerState::Running { pid } => pid,
        other => panic!("{id} does not run: {other:?}"),
    }
}
