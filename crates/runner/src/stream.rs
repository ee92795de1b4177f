//! One listener and one connection type over Unix sockets and TCP.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, RawFd},
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{getsockopt, sockopt},
};

/// Where connections come from.
pub(crate) enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// One connection.
pub(crate) enum Conn {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Listener {
    /// Listens on `unix:/path`, `tcp:host:port`, or the Unix socket that was handed over as `fd:N`.
    pub(crate) fn bind(address: &str) -> io::Result<Self> {
        if let Some(number) = address.strip_prefix("fd:") {
            handed_over(number).map(Self::Unix)
        } else if let Some(path) = address.strip_prefix("unix:") {
            // A socket left by a runner that was killed.
            if fs_err::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
                fs_err::remove_file(path)?;
            }
            let listener = UnixListener::bind(path)
                .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {path}: {e}")))?;
            // Who may connect is decided by the directory: the server's user outside need not be
            // the runner's inside.
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
            Ok(Self::Unix(listener))
        } else if let Some(address) = address.strip_prefix("tcp:") {
            let listener = TcpListener::bind(address).map_err(|e| {
                io::Error::new(e.kind(), format!("cannot listen on {address}: {e}"))
            })?;
            Ok(Self::Tcp(listener))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{address}` is neither unix:/path nor tcp:host:port nor fd:N"),
            ))
        }
    }

    pub(crate) fn accept(&self) -> io::Result<Conn> {
        match self {
            Self::Unix(listener) => Ok(Conn::Unix(listener.accept()?.0)),
            Self::Tcp(listener) => {
                let conn = listener.accept()?.0;
                conn.set_nodelay(true)?;
                Ok(Conn::Tcp(conn))
            }
        }
    }
}

/// The listening socket with this descriptor.
fn handed_over(number: &str) -> io::Result<UnixListener> {
    let wrong = |why: String| {
        let said = format!("descriptor `{number}` is not a socket to listen on: {why}");
        io::Error::new(io::ErrorKind::InvalidInput, said)
    };
    let number: RawFd = number
        .parse()
        .map_err(|e: std::num::ParseIntError| wrong(e.to_string()))?;
    if number <= 2 {
        return Err(wrong("it is one of the three streams".to_owned()));
    }
    #[expect(unsafe_code, reason = "a descriptor is handed over as a number")]
    // SAFETY: whoever starts the runner opened it for the runner alone, which takes it once.
    let listener = unsafe { UnixListener::from_raw_fd(number) };
    let listens = getsockopt(&listener, sockopt::AcceptConn);
    if !listens.map_err(|e| wrong(e.to_string()))? {
        return Err(wrong("nobody listens on it".to_owned()));
    }
    // Not for the programs that a package starts.
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(listener)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(conn) => conn.as_fd(),
            Self::Tcp(conn) => conn.as_fd(),
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Unix(listener) => listener.as_raw_fd(),
            Self::Tcp(listener) => listener.as_raw_fd(),
        }
    }
}

impl Conn {
    pub(crate) fn set_timeouts(&self, read: Duration, write: Duration) -> io::Result<()> {
        match self {
            Self::Unix(conn) => {
                conn.set_read_timeout(Some(read))?;
                conn.set_write_timeout(Some(write))
            }
            Self::Tcp(conn) => {
                conn.set_read_timeout(Some(read))?;
                conn.set_write_timeout(Some(write))
            }
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&self) -> io::Result<()> {
        match self {
            Self::Unix(conn) => conn.shutdown(Shutdown::Write),
            Self::Tcp(conn) => conn.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Conn {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(conn) => conn.read(buf),
            Self::Tcp(conn) => conn.read(buf),
        }
    }
}

impl Write for Conn {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(conn) => conn.write(buf),
            Self::Tcp(conn) => conn.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
