//! A container's directory, the only thing that server and shim share.
//!
//! | file | written by | meaning |
//! | --- | --- | --- |
//! | `spec.json` | server, before the directory gets its name | what to run |
//! | `shim.json` | shim, first of all | who supervises |
//! | `running.json` | shim | pid of the container's first process |
//! | `exit.json` | shim, last of all; or who finds the shim dead | how it ended |
//! | `out.log`, `out.log.1` | shim | output |
//! | `shim.log` | shim | its own last words, normally empty; locked while the container is started |

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use luthier_ports::{ContainerSpec, Exit};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{cgroup::Cgroup, process::ProcessId};

/// What `spec.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) container: ContainerSpec,
    /// Whether the container has a user namespace of its own.
    pub(crate) user_namespace: bool,
    /// First host id of the container's range.
    pub(crate) uid_base: u32,
    /// Path of its cgroup below the root of each hierarchy, absolute.
    pub(crate) cgroup: PathBuf,
    /// Bound of both log files together.
    pub(crate) log_max_bytes: u64,
}

impl Stored {
    /// The host's user and group id of the container's processes.
    pub(crate) fn host_uid(&self) -> u32 {
        self.uid_base + crate::oci::UID
    }

    /// Its cgroup.
    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::at(&self.cgroup)
    }
}

/// What `running.json` holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
}

/// What `exit.json` holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    #[serde(flatten)]
    pub(crate) exit: Exit,
    pub(crate) finished_at: Timestamp,
}

/// What the shim tells its starter, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handshake {
    /// Why the container cannot run; absent when it does.
    pub(crate) error: Option<String>,
}

/// The sign that a container is being started: a lock on `shim.log`.
///
/// Its starter holds it, and so does the shim, whose standard error the file is. So a container
/// without a shim and without this lock will never get one: whoever began to start it is dead.
#[derive(Debug)]
pub(crate) struct Starting(File);

impl Starting {
    /// What the shim is to have as its standard error.
    pub(crate) fn log(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}

/// A container's directory.
#[derive(Clone, Debug)]
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("out.log")
    }

    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    pub(crate) fn stored(&self) -> io::Result<Option<Stored>> {
        self.read("spec.json")
    }

    pub(crate) fn shim(&self) -> io::Result<Option<ProcessId>> {
        self.read("shim.json")
    }

    pub(crate) fn running(&self) -> io::Result<Option<Running>> {
        self.read("running.json")
    }

    pub(crate) fn ended(&self) -> io::Result<Option<Ended>> {
        self.read("exit.json")
    }

    pub(crate) fn write_stored(&self, stored: &Stored) -> io::Result<()> {
        self.write("spec.json", stored)
    }

    pub(crate) fn write_shim(&self, shim: &ProcessId) -> io::Result<()> {
        self.write("shim.json", shim)
    }

    pub(crate) fn write_running(&self, pid: u32) -> io::Result<()> {
        self.write("running.json", &Running { pid })
    }

    pub(crate) fn write_ended(&self, exit: Exit) -> io::Result<()> {
        let finished_at = Timestamp::now();
        self.write("exit.json", &Ended { exit, finished_at })
    }

    /// Begins to start the container. Must be called before the directory gets its name.
    pub(crate) fn begin(&self) -> io::Result<Starting> {
        let log = fs_err::File::create(self.shim_log())?.into_file();
        log.lock()?;
        Ok(Starting(log))
    }

    /// Whether somebody holds [`Starting`].
    pub(crate) fn being_started(&self) -> io::Result<bool> {
        let log = match fs_err::File::open(self.shim_log()) {
            Ok(log) => log.into_file(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        // Shared, so that who looks is not taken for a starter by another who looks.
        match log.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// Reads a file; one that a crash of the machine left torn or empty is as good as none.
    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs_err::read(self.0.join(name)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .inspect_err(|e| tracing::warn!(dir = ?self.0, name, error = %e, "a torn file"))
                .ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes all of a file or nothing of it.
    fn write<T: Serialize>(&self, name: &str, value: &T) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
        serde_json::to_writer(&mut file, value)?;
        file.persist(self.0.join(name)).map_err(|e| e.error)?;
        Ok(())
    }
}
