//! The last steps inside a container before its program replaces the process.

use std::{
    ffi::CString,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::sys::signal::{SigHandler, SigSet, Signal};
use oci_spec::runtime::Spec;

use crate::oci;

/// Marks, within the texts that `libcontainer` wraps around it, a cause that lies in what was asked
/// to run and not in this machine.
pub(crate) const MARK: &str = "cannot run its program: ";

/// Runs the program of the specification, tied to the shim's life.
#[derive(Clone)]
pub(crate) struct Payload;

impl Executor for Payload {
    /// Runs as the container's user, before the shim is told that all is ready.
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        // Nothing of a container outlives its shim. Here, not later: from now on no change of
        // credentials follows, which would undo it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| {
            let cause = format!("cannot tie the container to its shim: {e}");
            ExecutorValidationError::ArgValidationError(cause)
        })?;
        enter(spec).map_err(invalid)?;
        program(spec).map(|_| ()).map_err(invalid)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        run(spec).map_err(|cause| {
            // The shim no longer listens; the container's log is the only place left.
            let _ = nix::unistd::write(std::io::stderr(), format!("{cause}\n").as_bytes());
            ExecutorError::Other(cause)
        })
    }
}

/// Changes to the working directory, as the user who will work in it.
fn enter(spec: &Spec) -> Result<(), String> {
    let Some(process) = spec.process() else {
        return Ok(());
    };
    let annotations = spec.annotations().as_ref();
    let cwd = annotations
        .and_then(|all| all.get(oci::CWD))
        .map_or(process.cwd().as_path(), Path::new);
    nix::unistd::chdir(cwd)
        .map_err(|e| format!("cannot enter the working directory {}: {e}", cwd.display()))
}

fn invalid(cause: String) -> ExecutorValidationError {
    ExecutorValidationError::ArgValidationError(format!("{MARK}{cause}"))
}

fn run(spec: &Spec) -> Result<(), String> {
    restore_signals().map_err(|e| format!("cannot restore signals: {e}"))?;
    let path = program(spec)?;
    let c_string = |text: &str| CString::new(text).map_err(|_| format!("{text:?} holds a NUL"));
    let args = args(spec)
        .iter()
        .map(|arg| c_string(arg))
        .collect::<Result<Vec<_>, _>>()?;
    let file = c_string(&path.to_string_lossy())?;
    match nix::unistd::execv(&file, &args) {
        Ok(never) => match never {},
        Err(e) => Err(format!("cannot run {}: {e}", path.display())),
    }
}

/// Undoes for the program what the shim changed for itself: both survive `execve`.
fn restore_signals() -> nix::Result<()> {
    #[expect(unsafe_code, reason = "resets to the default, so no handler can run")]
    // SAFETY: no handler is installed, and the process has one thread.
    unsafe {
        nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigDfl)?;
    }
    SigSet::empty().thread_set_mask()
}

fn args(spec: &Spec) -> &[String] {
    spec.process()
        .as_ref()
        .and_then(|process| process.args().as_deref())
        .unwrap_or_default()
}

/// The file to run: the first argument, looked up along `PATH` when it has no slash.
fn program(spec: &Spec) -> Result<PathBuf, String> {
    let name = args(spec).first().ok_or("no program is given")?;
    if name.contains('/') {
        return match runnable(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(cause) => Err(format!("{name} {cause}")),
        };
    }
    let env = spec.process().as_ref().and_then(|p| p.env().as_deref());
    let path = env
        .unwrap_or_default()
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or_default();
    path.split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|candidate| runnable(candidate).is_ok())
        .ok_or_else(|| format!("{name} is not in the container's PATH ({path})"))
}

fn runnable(path: &Path) -> Result<(), String> {
    let metadata = fs_err::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => "does not exist in the container".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "is in a directory that the container's user may not enter".to_owned()
        }
        _ => e.to_string(),
    })?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err("is not an executable file".to_owned())
    }
}
