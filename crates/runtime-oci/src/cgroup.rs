//! A container's cgroup after it was made: what it uses, whether the kernel killed in it, its end.
//! Making and limiting it is `libcontainer`'s part.
//!
//! On version 2 a cgroup is one directory; on version 1, and on hybrid machines, whose controllers
//! are version 1's, it is one directory per hierarchy.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Most attempts, 10 ms apart, to remove a cgroup whose processes are dying.
const REMOVE_ATTEMPTS: usize = 500;

/// A container's cgroup.
#[derive(Debug)]
pub(crate) struct Cgroup {
    dirs: Vec<PathBuf>,
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    unified: bool,
}

impl Cgroup {
    /// The cgroup at `path` (absolute, below the root of every hierarchy), which need not exist.
    pub(crate) fn at(path: &Path) -> Self {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let mounts = Mounts::read();
        if let Some(root) = mounts.unified {
            let dir = root.join(relative);
            return Self {
                dirs: vec![dir.clone()],
                memory: Some(dir.clone()),
                cpu: Some(dir),
                unified: true,
            };
        }
        Self {
            dirs: mounts.v1.iter().map(|m| m.join(relative)).collect(),
            memory: mounts.controller("memory").map(|m| m.join(relative)),
            cpu: mounts.controller("cpuacct").map(|m| m.join(relative)),
            unified: false,
        }
    }

    /// How many processes the kernel killed in it for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = ["memory.oom_control", "memory.events"][usize::from(self.unified)];
        self.keyed(file, "oom_kill").unwrap_or(0)
    }

    /// Most memory it used, in bytes, page cache included.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.value(["memory.max_usage_in_bytes", "memory.peak"][usize::from(self.unified)])
    }

    /// Memory it uses now, in bytes, without the file cache that the kernel can drop at will.
    pub(crate) fn current(&self) -> Option<u64> {
        let (usage, cache) = if self.unified {
            ("memory.current", "inactive_file")
        } else {
            ("memory.usage_in_bytes", "total_inactive_file")
        };
        let cache = self.keyed("memory.stat", cache).unwrap_or(0);
        Some(self.value(usage)?.saturating_sub(cache))
    }

    /// CPU time that its processes have used so far, also those that have ended.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        let dir = self.cpu.as_ref()?;
        if self.unified {
            let text = fs_err::read_to_string(dir.join("cpu.stat")).ok()?;
            return keyed(&text, "usage_usec").map(Duration::from_micros);
        }
        let text = fs_err::read_to_string(dir.join("cpuacct.usage")).ok()?;
        text.trim().parse().ok().map(Duration::from_nanos)
    }

    /// Kills all of it and removes it, waiting for the dying.
    ///
    /// # Errors
    /// When it is still there at the end of a bounded wait.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut last = None;
        for attempt in 0..REMOVE_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
            self.kill();
            last = self.dirs.iter().find_map(|dir| remove_dir(dir).err());
            if last.is_none() {
                return Ok(());
            }
        }
        Err(last.unwrap_or_else(|| io::ErrorKind::TimedOut.into()))
    }

    fn kill(&self) {
        for dir in &self.dirs {
            let Ok(procs) = fs_err::read_to_string(dir.join("cgroup.procs")) else {
                continue;
            };
            for pid in procs.lines().filter_map(|line| line.parse().ok()) {
                // 0 stands for a process of a foreign pid namespace; signalling it would be
                // signalling ourselves.
                if pid > 0 {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
    }

    fn value(&self, file: &str) -> Option<u64> {
        let text = fs_err::read_to_string(self.memory.as_ref()?.join(file)).ok()?;
        text.trim().parse().ok()
    }

    fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        let text = fs_err::read_to_string(self.memory.as_ref()?.join(file)).ok()?;
        keyed(&text, key)
    }
}

/// The value of `key` in lines of `key value`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs_err::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(()),
        other => other,
    }
}

/// Where the hierarchies are mounted.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    /// Version 2's, when it holds the controllers.
    pub(crate) unified: Option<PathBuf>,
    /// Version 1's.
    pub(crate) v1: Vec<PathBuf>,
}

impl Mounts {
    /// Those of this machine.
    pub(crate) fn read() -> Self {
        Self::parse(&fs_err::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(mountinfo: &str) -> Self {
        let mut mounts = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = left.split(' ').nth(4) else {
                continue;
            };
            match right.split(' ').next() {
                Some("cgroup2") if point == "/sys/fs/cgroup" => {
                    mounts.unified = Some(point.into());
                }
                Some("cgroup") => mounts.v1.push(point.into()),
                _ => {}
            }
        }
        mounts
    }

    /// Where version 1's hierarchy of a controller is mounted.
    pub(crate) fn controller(&self, name: &str) -> Option<&PathBuf> {
        self.v1.iter().find(|mount| {
            mount
                .file_name()
                .and_then(|file| file.to_str())
                .is_some_and(|file| file.split(',').any(|part| part == name))
        })
    }

    /// Whether a limit can include swap.
    pub(crate) fn limits_swap(&self) -> bool {
        self.unified.is_some()
            || self
                .controller("memory")
                .is_some_and(|dir| dir.join("memory.memsw.limit_in_bytes").exists())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchies() {
        let hybrid = Mounts::parse(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu\n\
             33 31 0:30 / /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(hybrid.unified, None);
        assert_eq!(hybrid.v1.len(), 2);
        let cpuacct = hybrid.controller("cpuacct").unwrap();
        assert_eq!(cpuacct, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(hybrid.controller("pids"), None);

        let unified = Mounts::parse("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(unified.unified.unwrap(), Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn reads_keyed_values() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n";
        assert_eq!(keyed(text, "oom_kill"), Some(2));
        assert_eq!(keyed(text, "oom"), None);
    }
}
