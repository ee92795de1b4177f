//! Containers that are only remembered. A test plays the part of the kernel through
//! [`FakeRuntime::say`] and [`FakeRuntime::exit`].

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use luthier_types::{Code, Error, Resources, Result};

use crate::{
    ContainerId, ContainerRuntime, ContainerSpec, ContainerState, ContainerStatus, Exit, LogLine,
    LogPart, Resized,
};

struct Fake {
    spec: ContainerSpec,
    state: ContainerState,
    output: Vec<LogLine>,
    /// Most memory it ever used, in bytes.
    peak: u64,
}

/// A [`ContainerRuntime`] in memory.
#[derive(Default)]
pub struct FakeRuntime {
    containers: Mutex<BTreeMap<ContainerId, Fake>>,
    refuse: Mutex<Option<String>>,
}

impl FakeRuntime {
    fn containers(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Fake>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `start` fail with `cause` until called with `None`.
    pub fn refuse(&self, cause: Option<&str>) {
        *self.refuse.lock().unwrap_or_else(PoisonError::into_inner) = cause.map(str::to_owned);
    }

    /// Writes a line of a container's output.
    pub fn say(&self, id: &ContainerId, line: &str) {
        if let Some(fake) = self.containers().get_mut(id) {
            let before = fake.output.last().and_then(|line| line.at);
            let next = before.map_or(Timestamp::UNIX_EPOCH, |at| at + Duration::from_secs(1));
            fake.output.push(LogLine {
                at: Some(next),
                text: line.to_owned(),
            });
        }
    }

    /// Ends a running container as the kernel would.
    pub fn exit(&self, id: &ContainerId, exit: Exit) {
        if let Some(fake) = self.containers().get_mut(id) {
            fake.state = ContainerState::Exited(exit);
        }
    }

    /// Lets a container have used so much memory, in bytes.
    pub fn used(&self, id: &ContainerId, peak: u64) {
        if let Some(fake) = self.containers().get_mut(id) {
            fake.peak = peak;
        }
    }

    /// The specs of every container, by id.
    pub fn specs(&self) -> Vec<ContainerSpec> {
        self.containers()
            .values()
            .map(|fake| fake.spec.clone())
            .collect()
    }
}

fn status(fake: &Fake) -> ContainerStatus {
    let running = matches!(fake.state, ContainerState::Running { .. });
    ContainerStatus {
        id: fake.spec.id.clone(),
        labels: fake.spec.labels.clone(),
        state: fake.state.clone(),
        memory: running.then_some(1 << 20),
        memory_peak: running.then_some(2 << 20),
        cpu_time: running.then_some(Duration::from_millis(1500)),
        memory_limit: fake.spec.memory,
    }
}

#[async_trait]
impl ContainerRuntime for FakeRuntime {
    async fn start(&self, spec: &ContainerSpec) -> Result<()> {
        if let Some(cause) = &*self.refuse.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(Error::new(Code::ContainerFailed, cause.clone()));
        }
        self.containers()
            .entry(spec.id.clone())
            .or_insert_with(|| Fake {
                spec: spec.clone(),
                state: ContainerState::Running { pid: 1 },
                output: vec![],
                peak: 1 << 20,
            });
        Ok(())
    }

    async fn resize(
        &self,
        id: &ContainerId,
        resources: Resources,
        labels: &BTreeMap<String, String>,
    ) -> Result<Resized> {
        let mut containers = self.containers();
        let running = |fake: &&mut Fake| matches!(fake.state, ContainerState::Running { .. });
        let Some(fake) = containers.get_mut(id).filter(running) else {
            return Ok(Resized::Refused("it does not run".to_owned()));
        };
        if resources.memory.bytes() < fake.peak {
            return Ok(Resized::Refused("it has used more memory".to_owned()));
        }
        fake.spec.memory = resources.memory;
        fake.spec.cpu = resources.cpu;
        fake.spec.labels.clone_from(labels);
        Ok(Resized::Done)
    }

    async fn stop(&self, id: &ContainerId, _grace: Duration) -> Result<()> {
        if let Some(fake) = self.containers().get_mut(id)
            && !matches!(fake.state, ContainerState::Exited(_))
        {
            fake.state = ContainerState::Exited(Exit {
                code: None,
                signal: Some(15),
                out_of_memory: false,
                memory_peak: None,
                error: None,
            });
        }
        Ok(())
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.containers().remove(id);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<ContainerStatus>> {
        Ok(self.containers().values().map(status).collect())
    }

    async fn status(&self, id: &ContainerId) -> Result<Option<ContainerStatus>> {
        Ok(self.containers().get(id).map(status))
    }

    async fn read_log(&self, id: &ContainerId, part: LogPart) -> Result<Vec<LogLine>> {
        let containers = self.containers();
        let output = containers.get(id).map(|fake| fake.output.clone());
        Ok(part.pick(output.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use luthier_types::{Mebibytes, Millicpu};

    use super::*;
    use crate::{
        Network,
        conformance::{self, RuntimeFixture},
    };

    #[tokio::test]
    async fn conforms() {
        let fixture = RuntimeFixture {
            spec: &|id, _program| ContainerSpec {
                id: ContainerId(id.to_owned()),
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
            },
            reopen: None,
            runs: false,
        };
        conformance::runtime(&FakeRuntime::default(), &fixture).await;
    }
}
