//! Containers that have an end: run, followed, removed.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use luthier_ports::{ContainerId, ContainerRuntime, ContainerSpec, ContainerState, Exit};
use luthier_types::{Code, Error, Result};

/// How often a container is looked at.
const POLL: Duration = Duration::from_millis(100);
/// Most lines of output that are read at each look.
const LINES: usize = 100_000;

/// The label of such a container: the id of the process that waits for it.
pub const LABEL: &str = "luthier.waiter";

/// The labels of a container that this process will wait for.
pub fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL.to_owned(), std::process::id().to_string())])
}

/// Removes the containers whose waiter is gone: killed before it could do so itself.
///
/// # Errors
/// Those of the runtime.
pub async fn remove_abandoned(runtime: &dyn ContainerRuntime) -> Result<()> {
    for status in runtime.list().await? {
        if let Some(pid) = status.labels.get(LABEL)
            && !Path::new("/proc").join(pid).exists()
        {
            runtime.remove(&status.id).await?;
        }
    }
    Ok(())
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What the runtime saw.
    pub exit: Exit,
    /// Whether it was killed for not ending within its limit.
    pub timed_out: bool,
}

/// Runs a container to its end, at most for `limit`, hands each line of its output to `on_line` as
/// it comes, and removes it. Its exit status is for the caller to judge.
///
/// Every line arrives once and in order, unless more comes between two looks than the runtime
/// keeps: then the end of it.
///
/// **Cancellation:** the container is removed, by a task of its own.
///
/// # Errors
/// Those of the runtime; `ContainerFailed` when another removed the container.
pub async fn run(
    runtime: &Arc<dyn ContainerRuntime>,
    spec: &ContainerSpec,
    limit: Option<Duration>,
    on_line: impl FnMut(&str),
) -> Result<Ended> {
    let mut abandoned = Abandoned {
        runtime: Arc::clone(runtime),
        id: Some(spec.id.clone()),
    };
    let ended = follow(&**runtime, spec, limit, on_line).await;
    let removed = runtime.remove(&spec.id).await;
    abandoned.id = None;
    let ended = ended?;
    removed.map(|()| ended)
}

async fn follow(
    runtime: &dyn ContainerRuntime,
    spec: &ContainerSpec,
    limit: Option<Duration>,
    mut on_line: impl FnMut(&str),
) -> Result<Ended> {
    let started = Instant::now();
    runtime.start(spec).await?;
    let mut timed_out = false;
    let mut seen: Vec<String> = vec![];
    loop {
        // In this order: an ended container says nothing more.
        let status = runtime.status(&spec.id).await?;
        let lines = runtime.logs(&spec.id, LINES).await?;
        for line in &lines[overlap(&seen, &lines)..] {
            on_line(line);
        }
        seen = lines;
        match status.map(|s| s.state) {
            Some(ContainerState::Exited(exit)) => return Ok(Ended { exit, timed_out }),
            Some(_) => {}
            None => {
                return Err(
                    Error::new(Code::ContainerFailed, "the container disappeared")
                        .hint("Something else removed it; try again."),
                );
            }
        }
        if limit.is_some_and(|limit| started.elapsed() > limit) {
            timed_out = true;
            runtime.stop(&spec.id, Duration::ZERO).await?;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How many lines at the start of `now` are the end of `before`. Of a long output only the end is
/// kept, so that the two may begin at different lines.
fn overlap(before: &[String], now: &[String]) -> usize {
    (0..before.len())
        .find(|gone| now.starts_with(&before[*gone..]))
        .map_or(0, |gone| before.len() - gone)
}

/// Removes the container when its waiter goes away.
struct Abandoned {
    runtime: Arc<dyn ContainerRuntime>,
    id: Option<ContainerId>,
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        let (Some(id), Ok(handle)) = (self.id.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let runtime = Arc::clone(&self.runtime);
        handle.spawn(async move {
            if let Err(e) = runtime.remove(&id).await {
                tracing::warn!(error = %e.chain(), %id, "could not remove an abandoned container");
            }
        });
    }
}

#[cfg(test)]
mod tests;
