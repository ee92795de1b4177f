//! The suite for [`ContainerRuntime`].

use std::time::Duration;

use luthier_types::{Mebibytes, Millicpu, Resources};
use tokio::time::{Instant, sleep};

use crate::{
    ContainerId, ContainerRuntime, ContainerSpec, ContainerState, ContainerStatus, Exit, LogEnd,
    LogLine, LogPart, Resized,
};

/// Bound of every wait; far above what is ever needed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a container of the suite does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Writes `one` and `three` to standard output and between them `two` to standard error, and
    /// exits with status 7.
    Exit,
    /// Writes `ready`; on SIGTERM writes `bye` and exits with status 3.
    Serve,
    /// Writes `ready` and ignores SIGTERM.
    Stubborn,
}

/// What the suite needs beside the runtime.
pub struct RuntimeFixture<'a> {
    /// A container with an id that runs a program. The suite sets the labels.
    pub spec: &'a (dyn Fn(&str, Program) -> ContainerSpec + Sync),
    /// Another runtime over the same state, as a restarted server makes it; `None` for a runtime
    /// that forgets with its process.
    pub reopen: Option<&'a (dyn Fn() -> Box<dyn ContainerRuntime> + Sync)>,
    /// Whether programs really run: exit statuses and output are checked.
    pub runs: bool,
}

/// Checks a runtime without containers, and leaves it so.
///
/// # Panics
/// At the first breach of the port's guarantees.
pub async fn runtime(runtime: &dyn ContainerRuntime, fixture: &RuntimeFixture<'_>) {
    unknown(runtime).await;
    idempotent(runtime, fixture).await;
    stopped(runtime, fixture).await;
    resized(runtime, fixture).await;
    if fixture.runs {
        exited(runtime, fixture).await;
        killed(runtime, fixture).await;
    }
    if let Some(reopen) = fixture.reopen {
        adopted(runtime, fixture, reopen).await;
    }
    let left = runtime.list().await.expect("list");
    assert!(left.is_empty(), "every container was removed: {left:?}");
}

/// What does not exist is no error.
async fn unknown(runtime: &dyn ContainerRuntime) {
    let id = ContainerId("never-started".to_owned());
    assert_eq!(runtime.status(&id).await.expect("status"), None);
    assert!(runtime.logs(&id, 10).await.expect("logs").is_empty());
    runtime.stop(&id, Duration::ZERO).await.expect("stop");
    runtime.remove(&id).await.expect("remove");
    assert!(runtime.list().await.expect("list").is_empty());
}

/// A second start changes nothing, whatever it asks for; labels come back; removal forgets.
async fn idempotent(runtime: &dyn ContainerRuntime, fixture: &RuntimeFixture<'_>) {
    let mut first = (fixture.spec)("twice", Program::Serve);
    first.labels = [("replica".to_owned(), "1".to_owned())].into();
    let (one, two) = tokio::join!(runtime.start(&first), runtime.start(&first));
    one.expect("the first of two starts at once");
    two.expect("the second of two starts at once");
    let before = running(runtime, &first.id).await;
    assert_eq!(before.labels, first.labels);
    assert_eq!(before.memory_limit, first.memory);

    let mut again = (fixture.spec)("twice", Program::Exit);
    again.labels.clear();
    runtime.start(&again).await.expect("start again");
    let other = (fixture.spec)("another", Program::Serve);
    runtime.start(&other).await.expect("start another");
    let all = runtime.list().await.expect("list");
    let ids: Vec<_> = all.iter().map(|c| c.id.0.as_str()).collect();
    assert_eq!(ids, ["another", "twice"], "by id");
    let after = running(runtime, &first.id).await;
    assert_eq!((after.state, after.labels), (before.state, before.labels));

    // Running, and removed all the same.
    for id in [&first.id, &other.id] {
        runtime.remove(id).await.expect("remove");
        assert_eq!(runtime.status(id).await.expect("status"), None);
        assert!(runtime.logs(id, 10).await.expect("logs").is_empty());
        runtime.remove(id).await.expect("remove again");
    }
}

/// Stopping returns when the container has ended, keeps its status until removal, and may be
/// repeated.
async fn stopped(runtime: &dyn ContainerRuntime, fixture: &RuntimeFixture<'_>) {
    let spec = (fixture.spec)("stopped", Program::Serve);
    runtime.start(&spec).await.expect("start");
    if fixture.runs {
        line(runtime, &spec.id, "ready").await;
    }
    runtime.stop(&spec.id, PATIENCE).await.expect("stop");
    let exit = ended(runtime, &spec.id).await;
    assert_eq!((exit.out_of_memory, &exit.error), (false, &None));
    if fixture.runs {
        assert_eq!((exit.code, exit.signal), (Some(3), None), "it was asked");
        let lines = runtime.logs(&spec.id, 10).await.expect("logs");
        assert_eq!(lines, ["ready", "bye"], "its last words are kept");
    }
    runtime.stop(&spec.id, PATIENCE).await.expect("stop again");
    runtime.start(&spec).await.expect("start an ended one");
    assert_eq!(ended(runtime, &spec.id).await, exit, "it stays ended");
    runtime.remove(&spec.id).await.expect("remove");

    runtime.start(&spec).await.expect("a removed id is free");
    running(runtime, &spec.id).await;
    runtime.remove(&spec.id).await.expect("remove");
}

/// What runs goes on with other limits and labels, which a successor sees; what does not run, and
/// memory that has been used, is refused.
async fn resized(runtime: &dyn ContainerRuntime, fixture: &RuntimeFixture<'_>) {
    let spec = (fixture.spec)("resized", Program::Serve);
    let labels = [("size".to_owned(), "large".to_owned())].into();
    let large = Resources {
        cpu: Millicpu(spec.cpu.0 * 2),
        memory: Mebibytes(spec.memory.0 * 2),
    };
    let resize = async |resources| {
        let done = runtime.resize(&spec.id, resources, &labels).await;
        done.expect("resize")
    };
    let refused = |resized: &Resized| matches!(resized, Resized::Refused(_));
    assert!(refused(&resize(large).await), "there is none");
    runtime.start(&spec).await.expect("start");
    let before = running(runtime, &spec.id).await;
    if fixture.runs {
        line(runtime, &spec.id, "ready").await;
    }
    for _ in 0..2 {
        assert_eq!(resize(large).await, Resized::Done);
        let after = running(runtime, &spec.id).await;
        assert_eq!((&after.state, &after.labels), (&before.state, &labels));
        assert_eq!(after.memory_limit, large.memory);
    }
    let tiny = Resources {
        memory: Mebibytes(0),
        ..large
    };
    assert!(refused(&resize(tiny).await), "it has used more");
    assert_eq!(running(runtime, &spec.id).await.memory_limit, large.memory);
    if let Some(reopen) = fixture.reopen {
        let seen = running(&*reopen(), &spec.id).await;
        assert_eq!(
            (seen.labels, seen.memory_limit),
            (labels.clone(), large.memory)
        );
    }
    runtime.stop(&spec.id, PATIENCE).await.expect("stop");
    assert!(refused(&resize(large).await), "it has ended");
    runtime.remove(&spec.id).await.expect("remove");
}

/// Exit status and output of a program that ends by itself.
async fn exited(runtime: &dyn ContainerRuntime, fixture: &RuntimeFixture<'_>) {
    let spec = (fixture.spec)("exited", Program::Exit);
    runtime.start(&spec).await.expect("start");
    let exit = wait("the end", async || match state(runtime, &spec.id).await {
        ContainerState::Exited(exit) => Some(exit),
        _ => None,
    })
    .await;
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    assert_eq!((exit.out_of_memory, exit.error), (false, None));
    let logs = async |lines| runtime.logs(&spec.id, lines).await.expect("logs");
    assert_eq!(logs(10).await, ["one", "two", "three"], "in order");
    assert_eq!(logs(2).await, ["two", "three"], "the last");
    assert!(logs(0).await.is_empty());
    read_in_parts(runtime, &spec.id).await;
    runtime.remove(&spec.id).await.expect("remove");
}

/// The time of a line says where one has read to.
async fn read_in_parts(runtime: &dyn ContainerRuntime, id: &ContainerId) {
    let read = async |after, end| {
        let part = LogPart {
            after,
            lines: 2,
            end,
        };
        runtime.read_log(id, part).await.expect("log")
    };
    let texts = |lines: &[LogLine]| lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>();
    let first = read(None, LogEnd::First).await;
    assert_eq!(texts(&first), ["one", "two"], "the first");
    let after = first.last().and_then(|line| line.at);
    assert!(after > first[0].at, "each later than the one before");
    for end in [LogEnd::First, LogEnd::Last] {
        assert_eq!(texts(&read(after, end).await), ["three"], "what is left");
    }
    let all = read(None, LogEnd::Last).await;
    let end = all.last().and_then(|line| line.at);
    assert!(read(end, LogEnd::First).await.is_empty(), "nothing more");
}

/// A program that does not go is killed after the grace.
async fn killed(runtime: &dyn ContainerRuntime, fixture: &RuntimeFixture<'_>) {
    let spec = (fixture.spec)("killed", Program::Stubborn);
    runtime.start(&spec).await.expect("start");
    line(runtime, &spec.id, "ready").await;
    let grace = Duration::from_millis(50);
    runtime.stop(&spec.id, grace).await.expect("stop");
    let exit = ended(runtime, &spec.id).await;
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    runtime.remove(&spec.id).await.expect("remove");
}

/// A successor sees what runs and what has ended, and has full power over both.
async fn adopted(
    runtime: &dyn ContainerRuntime,
    fixture: &RuntimeFixture<'_>,
    reopen: &(dyn Fn() -> Box<dyn ContainerRuntime> + Sync),
) {
    let mut runs = (fixture.spec)("runs", Program::Serve);
    runs.labels = [("kept".to_owned(), "yes".to_owned())].into();
    let over = (fixture.spec)("over", Program::Serve);
    for spec in [&runs, &over] {
        runtime.start(spec).await.expect("start");
        if fixture.runs {
            line(runtime, &spec.id, "ready").await;
        }
    }
    runtime.stop(&over.id, PATIENCE).await.expect("stop");
    let before = running(runtime, &runs.id).await;

    let successor = reopen();
    let after = running(&*successor, &runs.id).await;
    assert_eq!((after.state, after.labels), (before.state, before.labels));
    assert_eq!(
        ended(&*successor, &over.id).await,
        ended(runtime, &over.id).await
    );
    successor.start(&runs).await.expect("start an adopted one");
    successor.stop(&runs.id, PATIENCE).await.expect("stop");
    ended(&*successor, &runs.id).await;
    for id in [&runs.id, &over.id] {
        successor.remove(id).await.expect("remove");
        assert_eq!(runtime.status(id).await.expect("status"), None);
    }
}

async fn state(runtime: &dyn ContainerRuntime, id: &ContainerId) -> ContainerState {
    let status = runtime.status(id).await.expect("status");
    status.expect("the container exists").state
}

/// Waits until a container runs.
async fn running(runtime: &dyn ContainerRuntime, id: &ContainerId) -> ContainerStatus {
    wait("the container to run", async || {
        let status = runtime.status(id).await.expect("status");
        let status = status.expect("the container exists");
        let state = &status.state;
        assert!(!matches!(state, ContainerState::Exited(_)), "{status:?}");
        matches!(state, ContainerState::Running { .. }).then_some(status)
    })
    .await
}

/// The exit of a container that must have ended.
async fn ended(runtime: &dyn ContainerRuntime, id: &ContainerId) -> Exit {
    match state(runtime, id).await {
        ContainerState::Exited(exit) => exit,
        other => panic!("{id} has not ended: {other:?}"),
    }
}

/// Waits until a container has written a line.
async fn line(runtime: &dyn ContainerRuntime, id: &ContainerId, line: &str) {
    wait(line, async || {
        let lines = runtime.logs(id, 100).await.expect("logs");
        lines.iter().any(|l| l == line).then_some(())
    })
    .await;
}

async fn wait<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
