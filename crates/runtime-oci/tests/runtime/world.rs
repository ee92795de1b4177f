//! A runtime with a state directory and a cgroup of its own, and a root file system of one static
//! program. [`World::finish`] fails when a test leaves anything on the machine.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use luthier_ports::{
    ContainerId, ContainerRuntime as _, ContainerSpec, ContainerState, Exit, Mount, Network,
};
use luthier_runtime_oci::{OciRuntime, Options};
use luthier_types::{Mebibytes, Millicpu};

/// Bound of every wait; far above what is ever needed, for machines under load.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) runtime: OciRuntime,
    pub(crate) dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().file_name().unwrap().to_string_lossy();
        let mut options = Options::new(
            dir.path().join("state"),
            env!("CARGO_BIN_EXE_luthier-shim-test"),
        );
        options.cgroup_parent = format!("luthier-test-{}", name.trim_start_matches('.'));
        change(&mut options);
        Self {
            runtime: OciRuntime::new(options.clone()).unwrap(),
            options,
            dir,
        }
    }

    /// A server in a process group of its own that has started `spec` and then does nothing;
    /// `wrapper` is put before its command line.
    pub(crate) fn server(&self, wrapper: &[&str], spec: &ContainerSpec) -> Child {
        let program = self.options.shim.to_str().unwrap();
        let line = [wrapper, &[program, "server"]].concat();
        let mut server = Command::new(line[0])
            .args(&line[1..])
            .arg(&self.options.state_dir)
            .arg(&self.options.cgroup_parent)
            .arg(serde_json::to_string(spec).unwrap())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "started\n");
        server
    }

    /// Another runtime over the same state, as a restarted server makes it.
    pub(crate) fn successor(&self) -> OciRuntime {
        OciRuntime::new(self.options.clone()).unwrap()
    }

    pub(crate) fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.options.state_dir.join(&id.0)
    }

    pub(crate) async fn start(&self, spec: &ContainerSpec) -> ContainerId {
        self.runtime.start(spec).await.unwrap();
        spec.id.clone()
    }

    /// Runs a shell script to its end; its exit and output.
    pub(crate) async fn run(&self, script: &str) -> (Exit, Vec<String>) {
        self.run_spec(&spec("once", script)).await
    }

    pub(crate) async fn run_spec(&self, spec: &ContainerSpec) -> (Exit, Vec<String>) {
        let id = self.start(spec).await;
        let exit = self.exit(&id).await;
        let lines = self.runtime.logs(&id, 1000).await.unwrap();
        self.runtime.remove(&id).await.unwrap();
        (exit, lines)
    }

    /// Waits for a container's end.
    pub(crate) async fn exit(&self, id: &ContainerId) -> Exit {
        wait_for("the container to end", async || {
            match self.runtime.status(id).await.unwrap().unwrap().state {
                ContainerState::Exited(exit) => Some(exit),
                _ => None,
            }
        })
        .await
    }

    /// Waits until a container has written a line.
    pub(crate) async fn line(&self, id: &ContainerId, line: &str) {
        wait_for(line, async || {
            let lines = self.runtime.logs(id, 1000).await.unwrap();
            lines.iter().any(|l| l == line).then_some(())
        })
        .await;
    }

    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        let entries = fs_err::read_dir("/sys/fs/cgroup").unwrap();
        roots.extend(entries.map(|entry| entry.unwrap().path()));
        roots
            .into_iter()
            .map(|root| root.join(&self.options.cgroup_parent))
            .filter(|dir| dir.is_dir())
            .collect()
    }

    /// Removes every container and checks that nothing of them is left.
    pub(crate) async fn finish(self) {
        for container in self.runtime.list().await.unwrap() {
            self.runtime.remove(&container.id).await.unwrap();
        }
        let left = fs_err::read_dir(&self.options.state_dir).unwrap().count();
        assert_eq!(left, 0, "the state directory is empty");
        for parent in self.cgroups() {
            // Fails on a cgroup with children.
            fs_err::remove_dir(&parent).unwrap();
        }
        let dir = self.dir.path().to_str().unwrap();
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir), "no mount is left: {mounts}");
        let shims: Vec<_> = fs_err::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs_err::read(entry.unwrap().path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .filter(|line| line.contains(dir))
            .collect();
        assert!(shims.is_empty(), "no process is left: {shims:?}");
    }
}

impl Drop for World {
    /// A failed test must not leave containers running.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let clean = async || {
            for container in self.runtime.list().await? {
                self.runtime.remove(&container.id).await?;
            }
            Ok::<_, luthier_types::Error>(())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let executor = tokio::runtime::Runtime::new();
                executor.map(|executor| executor.block_on(clean()))
            });
        });
        for parent in self.cgroups() {
            let _ = fs_err::remove_dir(parent);
        }
    }
}

/// A container that runs a shell script.
pub(crate) fn spec(id: &str, script: &str) -> ContainerSpec {
    ContainerSpec {
        id: ContainerId(id.to_owned()),
        rootfs: rootfs().to_owned(),
        mounts: vec![],
        socket: None,
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        cwd: PathBuf::from("/"),
        memory: Mebibytes(64),
        cpu: Millicpu(500),
        cpu_cap: false,
        pids: 32,
        scratch: Mebibytes(8),
        network: Network::Loopback,
        labels: BTreeMap::from([("kind".to_owned(), "test".to_owned())]),
    }
}

pub(crate) fn mount(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: source.to_owned(),
        target: target.into(),
        read_only,
    }
}

/// Waits until `condition` gives something; fails the test after a bounded time.
pub(crate) async fn wait_for<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A root file system with one static program and the names it goes by; made once.
pub(crate) fn rootfs() -> &'static Path {
    static ROOTFS: OnceLock<PathBuf> = OnceLock::new();
    ROOTFS.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox-rootfs");
        if !path.is_dir() {
            make_rootfs(&path).unwrap();
        }
        path
    })
}

fn make_rootfs(path: &Path) -> io::Result<()> {
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let script = "set -e
        cd \"$1\"
        apt-get download -q busybox-static >&2
        dpkg-deb -x busybox-static_*.deb package
        mkdir -p rootfs/bin rootfs/etc rootfs/opt/image rootfs/usr rootfs/var
        cp package/bin/busybox rootfs/bin/busybox
        for name in $(rootfs/bin/busybox --list); do
            [ $name = busybox ] || ln -s busybox rootfs/bin/$name
        done
        echo image > rootfs/etc/origin
        chmod 755 rootfs";
    let mut shell = Command::new("sh");
    let done = shell.args(["-c", script, "sh"]).arg(work.path()).status()?;
    if !done.success() {
        return Err(io::Error::other(
            "the root file system of the tests cannot be made",
        ));
    }
    match fs_err::rename(work.path().join("rootfs"), path) {
        // Another test process was faster.
        Err(_) if path.is_dir() => Ok(()),
        other => other,
    }
}
