//! The life of a running container, as its shim sees it.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use luthier_ports::Exit;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        signalfd::SignalFd,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::{
    dir::{Dir, Stored},
    logs::LogWriter,
};

/// Bytes of output read at once.
const CHUNK: usize = 16 * 1024;

/// A running container.
pub(super) struct Watch {
    pub(super) signals: SignalFd,
    /// Read end of the pipe that both of its output streams go to.
    pub(super) output: OwnedFd,
    pub(super) init: Pid,
    pub(super) stored: Stored,
}

/// How the first process ended.
struct End {
    code: Option<i32>,
    signal: Option<i32>,
}

impl Watch {
    /// Watches until the container has ended, removes its cgroup and records its end.
    pub(super) fn watch(self, dir: &Dir) -> io::Result<()> {
        fcntl(&self.output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut log = Output {
            log: LogWriter::open(&dir.log(), self.stored.log_max_bytes)?,
            buffer: vec![0; CHUNK],
            open: true,
        };
        let end = loop {
            let (output, signals) = self.wait(log.open)?;
            if output {
                log.copy(&self.output)?;
            }
            if signals {
                self.act()?;
                if let Some(end) = self.reap()? {
                    break end;
                }
            }
        };
        // The first process of a pid namespace is reaped last, so every byte is in the pipe.
        while log.open && log.copy(&self.output)? {}
        log.finish();

        let cgroup = self.stored.cgroup();
        let exit = Exit {
            code: end.code,
            signal: end.signal,
            out_of_memory: cgroup.oom_kills() > 0,
            memory_peak: cgroup.peak(),
            error: None,
        };
        let removed = cgroup.remove();
        dir.write_ended(exit)?;
        removed
    }

    /// Waits for output or signals.
    fn wait(&self, output: bool) -> io::Result<(bool, bool)> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if output {
            fds.push(PollFd::new(self.output.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd| fd.any() == Some(true));
        Ok((ready(1), ready(0)))
    }

    /// Does what the signals that came ask for.
    fn act(&self) -> io::Result<()> {
        while let Some(info) = self.signals.read_signal()? {
            let pass = match Signal::try_from(info.ssi_signo.cast_signed()) {
                Ok(Signal::SIGTERM) => Signal::SIGTERM,
                Ok(Signal::SIGUSR1) => Signal::SIGKILL,
                _ => continue,
            };
            // Not reaped yet, so the pid is still its own.
            let _ = kill(self.init, pass);
        }
        Ok(())
    }

    /// Reaps what has ended; the end of the first process, if it is among them.
    fn reap(&self) -> io::Result<Option<End>> {
        loop {
            let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (
                    pid,
                    End {
                        code: Some(code),
                        signal: None,
                    },
                ),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (
                    pid,
                    End {
                        code: None,
                        signal: Some(signal as i32),
                    },
                ),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            if pid == self.init {
                return Ok(Some(end));
            }
        }
    }
}

/// The copying of output to the log.
struct Output {
    log: LogWriter,
    buffer: Vec<u8>,
    open: bool,
}

impl Output {
    /// Copies one chunk; whether there may be more now.
    fn copy(&mut self, from: &OwnedFd) -> io::Result<bool> {
        match nix::unistd::read(from, &mut self.buffer) {
            Ok(0) => {
                self.open = false;
                Ok(false)
            }
            Ok(n) => {
                // A full disk must not stop the container by a full pipe: what cannot be written
                // is dropped.
                let _ = self.log.push(&self.buffer[..n]);
                Ok(true)
            }
            Err(Errno::EAGAIN) => Ok(false),
            Err(Errno::EINTR) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    fn finish(&mut self) {
        let _ = self.log.finish();
    }
}
