//! Identity of processes: a pid alone may be reused; a pid with its start time and the machine's
//! boot is not.

use nix::{sys::signal::Signal, unistd::Pid};
use serde::{Deserialize, Serialize};

/// A process, by pid, start time and boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub(crate) started: u64,
    /// The kernel's name for the time between two boots.
    pub(crate) boot: String,
}

impl ProcessId {
    /// The calling process.
    pub(crate) fn current() -> std::io::Result<Self> {
        let pid = std::process::id();
        let (_, started) = stat(pid).ok_or_else(|| std::io::Error::other("/proc is unreadable"))?;
        Ok(Self {
            pid,
            started,
            boot: boot()?,
        })
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn alive(&self) -> bool {
        let runs = |(state, started)| started == self.started && !matches!(state, 'Z' | 'X');
        stat(self.pid).is_some_and(runs) && boot().is_ok_and(|boot| boot == self.boot)
    }

    /// Sends it a signal if it still runs.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.alive()
            && let Ok(pid) = i32::try_from(self.pid)
        {
            // It may end in between; then there is nothing left to signal.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), signal);
        }
    }
}

fn boot() -> std::io::Result<String> {
    let id = fs_err::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(id.trim().to_owned())
}

/// State letter and start time of a process.
fn stat(pid: u32) -> Option<(char, u64)> {
    parse_stat(&fs_err::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<(char, u64)> {
    // The second field is the program's name in parentheses and may itself hold `) `.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_hostile_name() {
        let stat = "12 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(parse_stat(stat), Some(('S', 777)));
        assert_eq!(parse_stat("12 (a"), None);
    }

    #[test]
    fn the_current_process_lives_and_its_namesake_does_not() {
        let me = ProcessId::current().unwrap();
        assert!(me.alive());
        let earlier = ProcessId {
            started: me.started - 1,
            ..me.clone()
        };
        let before_boot = ProcessId {
            boot: "another".to_owned(),
            ..me
        };
        assert!(!earlier.alive() && !before_boot.alive());
    }
}
