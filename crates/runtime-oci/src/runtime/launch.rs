//! Starting a shim and hearing whether its container runs.

use std::{
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use luthier_ports::ContainerSpec;
use luthier_types::Result;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};

use super::{Inner, cannot_start, discard};
use crate::dir::{Dir, Handshake, Starting, Stored};

/// How long a container may take until its program runs; normally some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of a shim's answer.
const ANSWER_BYTES: u64 = 64 * 1024;

impl Inner {
    /// Makes the container's directory, starts its shim and waits for the shim's word. On failure
    /// nothing is left.
    pub(super) fn launch(&self, spec: &ContainerSpec) -> Result<()> {
        let id = &spec.id;
        let failed = |cause: &str| cannot_start(id, cause, "");
        let (dir, starting) = self.place(spec).map_err(|e| failed(&e.to_string()))?;
        let answer = self
            .spawn(&dir, &starting)
            .and_then(|pipe| answer(pipe, &dir));
        let cause = match answer {
            Ok(Handshake { error: None }) => return Ok(()),
            Ok(Handshake { error: Some(cause) }) => cause,
            Err(e) => e.to_string(),
        };
        let said = fs_err::read_to_string(dir.shim_log()).unwrap_or_default();
        let error = cannot_start(id, &cause, &said);
        if let Err(e) = self.forget(id) {
            tracing::warn!(%id, error = %e.chain(), "a failed container is not wholly removed");
        }
        Err(error)
    }

    /// Makes the container's directory, whole or not at all, and gives the sign that it is being
    /// started.
    fn place(&self, spec: &ContainerSpec) -> io::Result<(Dir, Starting)> {
        let state = &self.options.state_dir;
        let made = tempfile::Builder::new()
            .prefix(&format!("{}{}-", super::check::HIDDEN[0], spec.id))
            .tempdir_in(state)?;
        let path = state.join(&spec.id.0);
        let dir = Dir::new(made.path());
        let starting = dir.begin()?;
        dir.write_stored(&Stored {
            container: spec.clone(),
            user_namespace: self.user_namespaces,
            uid_base: self.options.uid_base,
            cgroup: Path::new("/")
                .join(&self.options.cgroup_parent)
                .join(&spec.id.0),
            log_max_bytes: self.options.log_max_bytes,
        })?;
        // What lies there has no readable description, so it is no container.
        discard(&path)?;
        if let Err(e) = fs_err::rename(made.path(), &path) {
            discard(made.path())?;
            return Err(e);
        }
        // It has its own name now; nothing is left to remove under the old one.
        let _ = made.keep();
        Ok((Dir::new(path), starting))
    }

    /// Starts the shim; gives the pipe that its answer comes through.
    fn spawn(&self, dir: &Dir, starting: &Starting) -> io::Result<OwnedFd> {
        let mut command = Command::new(&self.options.shim);
        command
            .arg("shim")
            .arg(dir.path())
            .env_clear()
            // `libcontainer` looks programs up along it.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(starting.log()?);
        #[expect(
            unsafe_code,
            reason = "a session of its own, out of the terminal's reach"
        )]
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(io::Error::from));
        }
        let mut child = command.spawn()?;
        let pipe = child.stdout.take().map(OwnedFd::from);
        // The shim is the child's child; the child ends at once.
        child.wait()?;
        pipe.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

/// Waits for the shim's answer. A shim that gives none in time is killed.
fn answer(pipe: OwnedFd, dir: &Dir) -> io::Result<Handshake> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(
            std::os::fd::AsFd::as_fd(&pipe),
            PollFlags::POLLIN,
        )];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(0) => {
                if let Some(shim) = dir.shim()? {
                    shim.signal(Signal::SIGKILL);
                }
                return Err(io::Error::other("it was not ready in time"));
            }
            Ok(_) => break,
        }
    }
    let mut line = vec![];
    // The shim writes its answer at once and closes the pipe.
    std::fs::File::from(pipe)
        .take(ANSWER_BYTES)
        .read_to_end(&mut line)?;
    if line.is_empty() {
        return Err(io::Error::other(
            "its supervising process ended without a word",
        ));
    }
    Ok(serde_json::from_slice(&line)?)
}
