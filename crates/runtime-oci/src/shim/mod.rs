//! The shim: the small process that makes one container, copies its output, reaps it and records
//! its end.
//!
//! ```text
//! start ──▶ shim.json ──▶ namespaces, root ──▶ create ──▶ running.json, handshake ──▶ watch ──▶ exit.json
//!                                 └── failed: handshake with the cause, nothing left ──▶ exit
//! ```
//!
//! SIGTERM is passed on to the container's first process; SIGUSR1 kills the container. It has one
//! thread, because `libcontainer` forks.

mod host;
mod watch;

use std::{
    error::Error,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::Path,
    process::ExitCode,
};

use libcontainer::{container::builder::ContainerBuilder, syscall::syscall::SyscallType};
use luthier_ports::Network;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{ForkResult, Pid},
};

use crate::{
    cgroup::Mounts,
    dir::{Dir, Handshake, Stored},
    executor::Payload,
    oci,
    process::ProcessId,
    rootfs,
};

/// The body of the hidden subcommand `shim <dir>`: runs the container that `dir` describes.
///
/// Returns at once in the calling process, so that the starter has a child to wait for; the shim
/// itself is its orphaned child. Says on standard output, in one line of JSON, whether the
/// container runs. Must be called before the process starts any thread.
pub fn shim_main(dir: &Path) -> ExitCode {
    #[expect(unsafe_code, reason = "fork, to become an orphan")]
    // SAFETY: the process has one thread, so the child may do anything.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Parent { .. }) => ExitCode::SUCCESS,
        Ok(ForkResult::Child) => supervise(&Dir::new(dir)),
        Err(e) => {
            report(Some(format!("cannot fork: {e}")));
            ExitCode::FAILURE
        }
    }
}

fn supervise(dir: &Dir) -> ExitCode {
    // `libcontainer` tells of details, such as which mount failed, only here.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    let started = host::prepare().and_then(|()| start(dir));
    match started {
        Ok(running) => {
            report(None);
            let_go();
            match running.watch(dir) {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    note(&format!("cannot record the container's end: {e}"));
                    ExitCode::FAILURE
                }
            }
        }
        Err(cause) => {
            if let Ok(Some(stored)) = dir.stored()
                && let Err(e) = stored.cgroup().remove()
            {
                note(&format!("cannot remove the cgroup: {e}"));
            }
            report(Some(cause));
            ExitCode::FAILURE
        }
    }
}

/// Makes the container and lets its program run.
fn start(dir: &Dir) -> Result<watch::Watch, String> {
    let stored = dir
        .stored()
        .and_then(|stored| stored.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .map_err(|e| format!("cannot read the container's description: {e}"))?;
    let me = ProcessId::current().map_err(|e| format!("cannot identify the shim: {e}"))?;
    dir.write_shim(&me)
        .map_err(|e| format!("cannot write the state directory: {e}"))?;

    let signals = watched();
    signals
        .thread_block()
        .map_err(|e| format!("cannot block signals: {e}"))?;
    host::own_namespaces(stored.container.network == Network::Loopback)?;
    // Within the container's network, and before any other file is open, so that it gets the
    // descriptor it is known by.
    let listener = match &stored.container.socket {
        Some(socket) => Some(host::listen(socket)?),
        None => None,
    };
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|e| format!("cannot watch signals: {e}"))?;

    let root = rootfs::assemble(&stored, dir.path())?;
    let (output, init) = create(dir, &stored, &root)?;
    // The container's alone from here on: who connects once it has ended is refused.
    drop(listener);
    host::protect_from_oom();
    dir.write_running(init.as_raw().unsigned_abs())
        .map_err(|e| format!("cannot write the state directory: {e}"))?;
    Ok(watch::Watch {
        signals,
        output,
        init,
        stored,
    })
}

/// The signals a shim acts on, and those that must not end it.
fn watched() -> SigSet {
    [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGUSR1,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
    ]
    .into_iter()
    .collect()
}

/// Creates and starts the container; gives the read end of its output and its first process.
fn create(dir: &Dir, stored: &Stored, root: &Path) -> Result<(OwnedFd, Pid), String> {
    let io = |e: io::Error| format!("cannot prepare the container: {e}");
    let bundle = dir.path().join("bundle");
    fs_err::create_dir_all(&bundle).map_err(io)?;
    let spec = oci::spec(stored, root, Mounts::read().limits_swap())
        .map_err(|e| format!("the container's description is not valid: {e}"))?;
    spec.save(bundle.join("config.json"))
        .map_err(|e| format!("cannot write the container's description: {e}"))?;

    let (output, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| io(e.into()))?;
    let errors = write.try_clone().map_err(io)?;
    let null = fs_err::File::open("/dev/null").map_err(io)?;
    let made = ContainerBuilder::new(stored.container.id.0.clone(), SyscallType::Linux)
        .with_executor(Payload)
        .with_stdin(OwnedFd::from(null.into_file()))
        .with_stdout(write)
        .with_stderr(errors)
        // The listener, if there is one, is the first after the three streams.
        .with_preserved_fds(i32::from(stored.container.socket.is_some()))
        .with_root_path(dir.path().join("libcontainer"))
        .and_then(|builder| builder.as_init(&bundle).with_systemd(false).build());
    let mut container = made.map_err(|e| {
        last_words(&output);
        causes(&e)
    })?;
    let pid = container
        .pid()
        .ok_or("the container has no first process")?;
    container.start().map_err(|e| causes(&e))?;
    Ok((output, Pid::from_raw(pid.as_raw())))
}

/// Saves what the processes that were to become the container said when they failed.
fn last_words(output: &OwnedFd) {
    let mut buffer = [0; 4096];
    // Without waiting: one of them may still hold the other end.
    let _ = fcntl(output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    if let Ok(length) = nix::unistd::read(output, &mut buffer) {
        note(String::from_utf8_lossy(&buffer[..length]).trim_end());
    }
}

/// An error with everything below it, each said once.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Tells the starter, who listens until this process closes the pipe.
fn report(error: Option<String>) {
    let mut line = serde_json::to_vec(&Handshake { error }).unwrap_or_default();
    line.push(b'\n');
    // The starter may be gone by now; the files tell its successor.
    let _ = io::stdout().write_all(&line);
    let _ = io::stdout().flush();
}

/// Closes the pipe to the starter. A shim that failed does so by ending, so that when the starter
/// hears of the failure nothing is left.
fn let_go() {
    if let Ok(null) = fs_err::OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
}

/// Leaves a word in `shim.log`.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
