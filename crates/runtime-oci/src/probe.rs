//! What this machine offers to containers, for `luthier doctor`.

use std::{io, os::unix::process::CommandExt as _, path::Path, process::Command};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};
use serde::Serialize;

use crate::cgroup::Mounts;

/// The oldest kernel that has every call the runtime makes (`mount_setattr`, `close_range`).
const KERNEL: (u32, u32) = (5, 12);

/// One thing that containers need of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Short name, stable.
    pub name: &'static str,
    /// Whether it is there.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do when it is not there.
    pub hint: &'static str,
}

/// Looks at this machine. Changes nothing.
pub fn probe() -> Vec<Probe> {
    vec![
        root(),
        kernel(),
        user_namespace(),
        cgroups(),
        seccomp(),
        tmpfs(),
    ]
}

fn root() -> Probe {
    let uid = nix::unistd::geteuid();
    Probe {
        name: "root",
        ok: uid.is_root(),
        detail: format!("running as user {uid}"),
        hint: "Run the server as root, or use the Docker or Kubernetes runtime.",
    }
}

fn kernel() -> Probe {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Probe {
        name: "kernel",
        ok: version >= KERNEL,
        detail: format!("Linux {release}"),
        hint: "Upgrade to Linux 5.12 or later.",
    }
}

fn user_namespace() -> Probe {
    let result = user_namespaces();
    Probe {
        name: "user namespaces",
        ok: result.is_ok(),
        detail: match result {
            Ok(()) => "available".to_owned(),
            Err(e) => format!("refused by the kernel: {e}"),
        },
        hint: "Containers run without one, as an unprivileged user of the host; to allow them set \
               the sysctl user.max_user_namespaces above 0.",
    }
}

fn cgroups() -> Probe {
    let mounts = Mounts::read();
    let wanted = ["memory", "cpu", "pids"];
    let (mode, missing): (_, Vec<&str>) = match &mounts.unified {
        Some(root) => {
            let there = fs_err::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            let lacks = |name: &&str| !there.split_whitespace().any(|c| c == *name);
            ("version 2", wanted.into_iter().filter(lacks).collect())
        }
        None => {
            let lacks = |name: &&str| mounts.controller(name).is_none();
            ("version 1", wanted.into_iter().filter(lacks).collect())
        }
    };
    let swap = if mounts.limits_swap() {
        "swap is limited too"
    } else {
        "swap is not limited"
    };
    Probe {
        name: "cgroups",
        ok: missing.is_empty(),
        detail: if missing.is_empty() {
            format!("{mode}, with memory, cpu and pids; {swap}")
        } else {
            format!("{mode}, without {}", missing.join(", "))
        },
        hint: "Mount the cgroup controllers memory, cpu and pids below /sys/fs/cgroup; on some \
               machines the kernel's command line must enable them (cgroup_enable=memory).",
    }
}

fn seccomp() -> Probe {
    let actions = fs_err::read_to_string("/proc/sys/kernel/seccomp/actions_avail");
    Probe {
        name: "seccomp",
        ok: actions.as_ref().is_ok_and(|a| a.contains("errno")),
        detail: match actions {
            Ok(actions) => actions.trim().to_owned(),
            Err(_) => "the kernel has no seccomp filters".to_owned(),
        },
        hint: "Use a kernel built with CONFIG_SECCOMP_FILTER.",
    }
}

fn tmpfs() -> Probe {
    let there = fs_err::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.ends_with("\ttmpfs")))
        && Path::new("/proc/self/ns/mnt").exists();
    Probe {
        name: "tmpfs",
        ok: there,
        detail: if there { "available" } else { "not available" }.to_owned(),
        hint: "Use a kernel with tmpfs and mount namespaces.",
    }
}

/// Whether a container may have its own user namespace.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn user_namespaces() -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    #[expect(unsafe_code, reason = "only a child with one thread may try this")]
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        // The child tries and then always fails, so that nothing is ever executed.
        command.pre_exec(|| {
            unshare(
                CloneFlags::CLONE_NEWUSER
                    | CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWPID
                    | CloneFlags::CLONE_NEWIPC
                    | CloneFlags::CLONE_NEWUTS
                    | CloneFlags::CLONE_NEWCGROUP,
            )?;
            Err(io::Error::from_raw_os_error(Errno::ECANCELED as i32))
        });
    }
    match command.spawn() {
        Err(e) if e.raw_os_error() == Some(Errno::ECANCELED as i32) => Ok(()),
        Err(e) => Err(e),
        Ok(_) => Err(io::Error::other("the child ran on")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_says_what_it_found_and_what_to_do() {
        let probes = probe();
        assert_eq!(probes.len(), 6);
        for probe in probes {
            assert!(
                !probe.detail.is_empty() && probe.hint.ends_with('.'),
                "{probe:?}"
            );
        }
    }
}
