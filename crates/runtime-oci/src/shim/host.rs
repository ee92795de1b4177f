//! What the shim asks of the host for itself: namespaces, limits, a loopback that is up.

use std::{
    io,
    os::{fd::AsRawFd as _, unix::net::UnixListener},
    path::Path,
};

use luthier_types::runner::LISTENER;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        socket::{AddressFamily, SockFlag, SockType, socket},
        stat::{Mode, umask},
    },
};

/// Open files a container may have; interpreters and data libraries open many.
const OPEN_FILES: u64 = 65_536;

/// How much more than others the kernel spares a shim when the machine is out of memory: with it
/// would go the knowledge of how its container ended.
/// Where this is not granted, at least the container's own score, taken on in making it, goes.
const OOM_SCORES: [&str; 2] = ["-900", "0"];

/// Rids the process of what it has from the server: files, groups, directory, modes, limits.
pub(super) fn prepare() -> Result<(), String> {
    let failed = |what: &'static str| move |e: nix::Error| format!("cannot {what}: {e}");
    #[expect(unsafe_code, reason = "nothing safe closes a range of descriptors")]
    // SAFETY: nothing has been opened yet that this process would use again.
    let closed = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    nix::errno::Errno::result(closed).map_err(failed("close the server's files"))?;
    nix::unistd::setgroups(&[]).map_err(failed("leave the server's groups"))?;
    nix::unistd::chdir("/").map_err(failed("change to /"))?;
    umask(Mode::from_bits_truncate(0o022));
    // Containers inherit these: no process in a user namespace may raise its limits.
    let files = failed("set the limit of open files");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(files)?;
    // Not every root may raise the hard limit; then what the server has must do.
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard))
        .map_err(files)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(failed("forbid core files"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(failed("become a subreaper"))
}

/// Enters a mount namespace whose mounts nobody else sees, and, if `network`, a network namespace
/// with nothing but a loopback.
pub(super) fn own_namespaces(network: bool) -> Result<(), String> {
    let mut flags = CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWNET, network);
    unshare(flags).map_err(|e| format!("cannot make namespaces: {e}"))?;
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none)
        .map_err(|e| format!("cannot make the mounts private: {e}"))?;
    if network {
        loopback_up().map_err(|e| format!("cannot bring up the loopback interface: {e}"))?;
    }
    Ok(())
}

fn loopback_up() -> nix::Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    #[expect(unsafe_code, reason = "an ioctl with a struct of the C library")]
    // SAFETY: `ifreq` is plain data, valid when zeroed, and outlives the call that reads it; the
    // name is shorter than its field.
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    nix::errno::Errno::result(done).map(drop)
}

/// Listens at `path` for the container, which inherits the listener and never sees the path.
pub(super) fn listen(path: &Path) -> Result<UnixListener, String> {
    let listening = || {
        match fs_err::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        if listener.as_raw_fd() != LISTENER {
            return Err(io::Error::other("another file is open in its place"));
        }
        fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(listener)
    };
    listening().map_err(|e: io::Error| format!("cannot listen at {}: {e}", path.display()))
}

/// Makes the kernel spare the shim. After the container was made, which would inherit it.
pub(super) fn protect_from_oom() {
    let set = |score| fs_err::write("/proc/self/oom_score_adj", score).is_ok();
    // Where neither is granted the shim is as mortal as its container.
    let _ = OOM_SCORES.into_iter().any(set);
}
