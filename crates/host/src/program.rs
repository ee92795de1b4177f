//! Outside programs: every line to the log as it comes, the end of the output kept, the whole
//! process group killed when the caller goes away, however it does.

use std::{
    collections::BTreeMap,
    env,
    ffi::{OsStr, OsString},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use luthier_ports::LogSink;
use luthier_types::{Error, Evidence, Result};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    process::{ChildStdin, Command},
    sync::mpsc,
};

use crate::mask_credentials;

/// Most bytes of output that are kept: its end.
const KEEP: usize = 64 * 1024;
/// Longest line; a longer one is cut into several.
const LINE: u64 = 8 * 1024;

/// Runs `$@`. Beside it, in its process group, a watcher waits for the end of standard input: the
/// end of the process that holds its other side. Without it a killed server's installer would go
/// on, and make anew what the next server sweeps away. It has to start before the program.
const WATCHED: &str = r#"
umask 022
exec 3<&0 </dev/null
{ read -r _; kill -9 -$$; } <&3 >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"#;

/// A program to run. It sees only the environment variables given here, no standard input, and
/// makes files readable to all (umask 022).
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    cwd: Option<PathBuf>,
    limit: Option<Duration>,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit status, if it exited by itself.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Whether it was killed for not ending within its limit.
    pub timed_out: bool,
    /// The end of its output, both streams as the lines came, credentials masked.
    pub output: String,
}

impl Outcome {
    /// Whether it exited with status 0.
    pub fn success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// What was observed.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            exit_code: self.exit_code,
            signal: self.signal,
            ..Evidence::output(&self.output)
        }
    }
}

impl Program {
    /// The program at `path`, without arguments.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: vec![],
            env: BTreeMap::new(),
            cwd: None,
            limit: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn without(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.remove(name.as_ref());
        self
    }

    /// Hands on those of this process's environment variables that `wanted` accepts.
    #[must_use]
    pub fn inherit(mut self, wanted: impl Fn(&str) -> bool) -> Self {
        for (name, value) in env::vars_os() {
            if name.to_str().is_some_and(&wanted) {
                self.env.insert(name, value);
            }
        }
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.cwd = Some(path.into());
        self
    }

    /// Kills it after `limit`; the outcome says so.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs it to its end. Its exit status is for the caller to judge.
    ///
    /// **Cancellation:** its process group is killed.
    ///
    /// # Errors
    /// `Internal` when it cannot be started.
    pub async fn run(&self, log: &LogSink) -> Result<Outcome> {
        let name = self.path.display();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", WATCHED, "sh"])
            .arg(&self.path)
            .args(&self.args)
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        let mut child = command
            .spawn()
            .map_err(|e| Error::internal(format!("starting {name}"), e))?;
        let group = Group {
            leader: child.id(),
            _held: child.stdin.take(),
        };
        let (lines, mut received) = mpsc::channel(64);
        let readers = [
            child
                .stdout
                .take()
                .map(|s| tokio::spawn(pump(s, lines.clone()))),
            child.stderr.take().map(|s| tokio::spawn(pump(s, lines))),
        ];
        let mut tail = Tail::default();
        let work = async {
            while let Some(line) = received.recv().await {
                let line = mask_credentials(&line);
                log.line(&line);
                tail.push(&line);
            }
            child.wait().await
        };
        let ended = match self.limit {
            Some(limit) => tokio::time::timeout(limit, work).await,
            None => Ok(work.await),
        };
        drop(group);
        for reader in readers.into_iter().flatten() {
            reader.abort();
        }
        let (exit_code, signal, timed_out) = match ended {
            Ok(status) => {
                let status =
                    status.map_err(|e| Error::internal(format!("waiting for {name}"), e))?;
                (status.code(), status.signal(), false)
            }
            Err(_) => (None, Some(Signal::SIGKILL as i32), true),
        };
        if timed_out {
            let line = format!(
                "{name} was stopped: it did not end within {} s",
                self.limit.unwrap_or_default().as_secs()
            );
            log.line(&line);
            tail.push(&line);
        }
        Ok(Outcome {
            exit_code,
            signal,
            timed_out,
            output: tail.text,
        })
    }
}

/// The process group of a child; what is left of it is killed when dropped.
struct Group {
    leader: Option<u32>,
    /// What the watcher waits for the end of.
    _held: Option<ChildStdin>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.leader.and_then(|p| i32::try_from(p).ok()) {
            // The watcher, and what the program left behind.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[derive(Default)]
struct Tail {
    text: String,
}

impl Tail {
    fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        // Cut rarely, so that a chatty program does not make this quadratic.
        if self.text.len() > 2 * KEEP {
            let mut cut = self.text.len() - KEEP;
            while !self.text.is_char_boundary(cut) {
                cut += 1;
            }
            self.text.drain(..cut);
        }
    }
}

async fn pump(stream: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut bytes = vec![];
        match (&mut reader).take(LINE).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&bytes);
        if lines.send(line.trim_end().to_owned()).await.is_err() {
            return;
        }
    }
}

/// The first executable file called `name` on `PATH`, then in `more` directories.
pub fn find_program(name: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(more.iter().cloned())
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs_err::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
