//! The process itself: its memory, and how it stops.

use std::{
    io,
    os::fd::{AsRawFd as _, IntoRawFd as _},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd,
};

use crate::state::State;

/// How long requests may take to end once the runner is told to stop.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long Python's exit functions may take after that.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Who handles signals: a process forked off by the model inherits the handler, but not the part.
static OWNER: AtomicI32 = AtomicI32::new(0);
/// Where the handler writes to wake the signal thread; -1 once it was used.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Resident memory in bytes; 0 where the system does not say.
pub(crate) fn memory_bytes() -> u64 {
    let pages = fs_err::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    let size = unistd::sysconf(unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .unwrap_or(4096);
    pages.unwrap_or(0) * size.unsigned_abs()
}

/// Keeps the allocator from giving every connection's thread an arena of its own, whose free parts
/// no other thread can use.
pub(crate) fn few_arenas() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "a setting of the allocator; takes two numbers")]
        // SAFETY: no pointers; may be called at any time.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
        }
    }
}

/// Ends the process at once.
pub(crate) fn exit(status: i32) -> ! {
    #[expect(
        unsafe_code,
        reason = "the interpreter cannot be torn down while threads use it"
    )]
    // SAFETY: `_exit` does not return and touches no memory of ours.
    unsafe {
        libc::_exit(status)
    }
}

/// On the first SIGTERM or SIGINT the runner stops in order; on the second at once. Python's own
/// handling would wait for the main thread to come back to the interpreter.
pub(crate) fn on_stop_signals(state: &Arc<State>) -> io::Result<()> {
    let (read, write) = unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    OWNER.store(unistd::getpid().as_raw(), Ordering::Relaxed);
    WAKE.store(write.into_raw_fd(), Ordering::Relaxed);
    let state = Arc::clone(state);
    thread::Builder::new()
        .name("luthier-signal".to_owned())
        .spawn(move || {
            let mut byte = [0];
            // The descriptor stays open in `read` for as long as this thread lives.
            while let Err(Errno::EINTR) = unistd::read(&read, &mut byte) {}
            debug_assert!(read.as_raw_fd() >= 0);
            if state.drain(PATIENCE) {
                // The main thread leaves by itself, unless it cannot get the GIL.
                thread::sleep(LAST_WORDS);
            }
            exit(0);
        })?;
    take_stop_signals();
    Ok(())
}

/// Puts our handler in place.
pub(crate) fn take_stop_signals() {
    let action = SigAction::new(
        SigHandler::Handler(on_signal),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        #[expect(unsafe_code, reason = "installing a signal handler")]
        // SAFETY: the handler calls only async-signal-safe functions and atomics.
        let _ = unsafe { sigaction(signal, &action) };
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    let before = Errno::last_raw();
    #[expect(
        unsafe_code,
        reason = "a signal handler may call only the system's own functions"
    )]
    // SAFETY: getpid, signal, raise, write and _exit are async-signal-safe; the descriptor is a
    // pipe that nobody closes.
    unsafe {
        if libc::getpid() != OWNER.load(Ordering::Relaxed) {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
            return;
        }
        let wake = WAKE.swap(-1, Ordering::Relaxed);
        if wake < 0 {
            libc::_exit(128 + signal);
        }
        libc::write(wake, [1_u8].as_ptr().cast(), 1);
    }
    Errno::set_raw(before);
}
