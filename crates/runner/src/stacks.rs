//! Where Python's threads are, without waiting for any of them.
//!
//! `faulthandler` writes it from a signal handler, which neither takes the GIL nor allocates, so that
//! it works while a thread holds the GIL for ever. The signal is raised by the thread that asks, which
//! therefore runs the handler itself before it goes on. A thread that begins or ends at that very
//! moment may be seen half made: it is asked for only of a runner that is about to be replaced.

use std::{
    io,
    os::fd::{IntoRawFd as _, OwnedFd},
    sync::{Mutex, OnceLock, PoisonError},
};

use nix::{fcntl::OFlag, libc, unistd};
use pyo3::{prelude::*, types::PyDict};

/// Most that is read; threads past it are left out by the pipe.
const MOST: usize = 64 * 1024;

struct Stacks {
    signal: libc::c_int,
    /// The handler that was put in place. Without it the signal would end the process.
    handler: libc::sighandler_t,
    pipe: Mutex<OwnedFd>,
}

static STACKS: OnceLock<Stacks> = OnceLock::new();

/// Puts `faulthandler`'s handler in place.
pub(crate) fn set_up(register: &Bound<'_, PyAny>) -> PyResult<()> {
    // The last but one: the first are the C library's, and few libraries use any.
    let signal = libc::SIGRTMAX() - 1;
    let (read, write) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .map_err(|e| io::Error::from_raw_os_error(e as i32))?;
    let options = PyDict::new(register.py());
    // Never closed: it is the handler's from now on.
    options.set_item("file", write.into_raw_fd())?;
    options.set_item("all_threads", true)?;
    register.call((signal,), Some(&options))?;
    if let Some(handler) = handler(signal) {
        let pipe = Mutex::new(read);
        let _ = STACKS.set(Stacks {
            signal,
            handler,
            pipe,
        });
    }
    Ok(())
}

/// What `faulthandler` writes now; empty when it cannot be had.
pub(crate) fn text() -> Vec<u8> {
    let Some(stacks) = STACKS.get() else {
        return vec![];
    };
    let pipe = stacks.pipe.lock().unwrap_or_else(PoisonError::into_inner);
    // What a package has put in its place is not ours to call.
    if handler(stacks.signal) != Some(stacks.handler) {
        return vec![];
    }
    #[expect(unsafe_code, reason = "raising a signal whose handler is known")]
    // SAFETY: the handler is `faulthandler`'s, which is async-signal-safe.
    let raised = unsafe { libc::raise(stacks.signal) };
    if raised != 0 {
        return vec![];
    }
    let mut text = vec![0; MOST];
    let mut length = 0;
    while let Some(rest) = text.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match unistd::read(&*pipe, rest) {
            Ok(n) if n > 0 => length += n,
            Err(nix::errno::Errno::EINTR) => {}
            _ => break,
        }
    }
    text.truncate(length);
    text
}

/// The handler of a signal, unless it is the default or to ignore it.
fn handler(signal: libc::c_int) -> Option<libc::sighandler_t> {
    #[expect(unsafe_code, reason = "asking for a signal's handler")]
    // SAFETY: `sigaction` is plain data, valid when zeroed; the call writes to nothing else.
    let handler = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &raw mut action) != 0 {
            return None;
        }
        action.sa_sigaction
    };
    (handler != libc::SIG_DFL && handler != libc::SIG_IGN).then_some(handler)
}
