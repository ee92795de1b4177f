//! Containers of the fake runtime, in which each test plays the kernel's part.

use std::{collections::BTreeMap, sync::Mutex};

use luthier_ports::{Network, fakes::FakeRuntime};
use luthier_types::{Mebibytes, Millicpu};

use super::*;

fn spec() -> ContainerSpec {
    ContainerSpec {
        id: ContainerId("finite".to_owned()),
        rootfs: "/".into(),
        mounts: vec![],
        socket: None,
        args: vec!["program".to_owned()],
        env: BTreeMap::new(),
        cwd: "/".into(),
        memory: Mebibytes(256),
        cpu: Millicpu(100),
        cpu_cap: false,
        pids: 64,
        scratch: Mebibytes(64),
        network: Network::Loopback,
        labels: BTreeMap::new(),
    }
}

fn exit(code: i32) -> Exit {
    Exit {
        code: Some(code),
        signal: None,
        out_of_memory: false,
        memory_peak: None,
        error: None,
    }
}

/// A kernel, and the runtime as [`run`] takes it.
fn world() -> (Arc<FakeRuntime>, Arc<dyn ContainerRuntime>) {
    let kernel = Arc::new(FakeRuntime::default());
    (Arc::clone(&kernel), kernel)
}

/// Waits until the runtime has `count` containers.
async fn until(kernel: &FakeRuntime, count: usize) {
    let wait = async {
        while kernel.specs().len() != count {
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, wait).await.unwrap();
}

#[tokio::test]
async fn every_line_arrives_once_as_it_comes_and_nothing_is_left() {
    let (kernel, runtime) = world();
    let spec = spec();
    let heard = Mutex::new(vec![]);
    let listen = |line: &str| {
        heard.lock().unwrap().push(line.to_owned());
        // What comes next comes because this was heard.
        match line {
            "one" => {
                kernel.say(&spec.id, "two");
                kernel.say(&spec.id, "two");
            }
            _ => kernel.exit(&spec.id, exit(7)),
        }
    };
    let begin = async {
        until(&kernel, 1).await;
        kernel.say(&spec.id, "one");
    };
    let (ended, ()) = tokio::join!(run(&runtime, &spec, None, listen), begin);
    let ended = ended.unwrap();
    assert_eq!((ended.exit.code, ended.timed_out), (Some(7), false));
    assert_eq!(heard.into_inner().unwrap(), ["one", "two", "two"]);
    until(&kernel, 0).await;
}

#[tokio::test]
async fn past_its_limit_it_is_killed() {
    let (kernel, runtime) = world();
    let limit = Some(Duration::from_millis(1));
    let ended = run(&runtime, &spec(), limit, |_| {}).await.unwrap();
    assert!(ended.timed_out && ended.exit.signal.is_some(), "{ended:?}");
    assert!(kernel.specs().is_empty());
}

#[tokio::test]
async fn it_is_removed_when_its_waiter_goes_away() {
    let (kernel, runtime) = world();
    let waiter = tokio::spawn(async move { run(&runtime, &spec(), None, |_| {}).await });
    until(&kernel, 1).await;
    waiter.abort();
    until(&kernel, 0).await;
}

#[tokio::test]
async fn removed_by_another_it_is_an_error() {
    let (kernel, runtime) = world();
    let spec = spec();
    let thief = async {
        until(&kernel, 1).await;
        runtime.remove(&spec.id).await.unwrap();
    };
    let (ended, ()) = tokio::join!(run(&runtime, &spec, None, |_| {}), thief);
    assert_eq!(ended.unwrap_err().code(), Code::ContainerFailed);
}

#[test]
fn of_a_cut_output_only_what_is_new_is_told() {
    let lines = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    for (before, now, overlapping) in [
        ("a b", "a b", 2),
        ("a b", "a b c", 2),
        ("a b c", "c d", 1),
        ("a a a", "a a a a", 3),
        ("a b", "c d", 0),
        ("a b", "a c", 0),
    ] {
        assert_eq!(overlap(&lines(before), &lines(now)), overlapping, "{now}");
    }
    assert_eq!(overlap(&[], &lines("a")), 0);
}
