//! The system calls a container may make. What is not named fails with `EPERM`.
//!
//! The list is what ordinary programs, interpreters and numeric libraries need: files, memory,
//! threads, processes, signals, sockets, timers. Left out is what changes the machine or widens the
//! kernel's attack surface: mounting, modules, kexec, tracing, BPF, perf, keyrings, `userfaultfd`,
//! `io_uring`, handles by number, clocks, and every way into another namespace.

use oci_spec::{
    OciSpecError,
    runtime::{
        LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
        LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
    },
};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Every `CLONE_NEW*` flag that `clone` takes: mount, cgroup, uts, ipc, user, pid, net.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Files by descriptor and by name.
const FILES: &str = "\
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat \
    faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl \
    fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate \
    futimesat getcwd getdents getdents64 getxattr ioctl lchown lgetxattr link linkat listxattr \
    llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open \
    openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink \
    readlinkat readv removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat \
    statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask unlink \
    unlinkat utime utimensat utimes vmsplice write writev";

/// Waiting and events.
const EVENTS: &str = "\
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy \
    io_getevents io_pgetevents io_setup io_submit pipe pipe2 poll ppoll pselect6 select \
    signalfd signalfd4";

/// Memory.
const MEMORY: &str = "\
    brk cachestat get_mempolicy madvise mbind membarrier memfd_create memfd_secret mincore \
    mlock mlock2 mlockall mmap mprotect mremap mseal msync munlock munlockall munmap \
    pkey_alloc pkey_free pkey_mprotect process_madvise remap_file_pages set_mempolicy";

/// Processes, threads and scheduling.
const PROCESSES: &str = "\
    arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue \
    futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid geteuid \
    getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit \
    getrusage getsid gettid getuid ioprio_get ioprio_set kill pidfd_open pidfd_send_signal \
    prctl prlimit64 restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask \
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr \
    sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr \
    sched_setparam sched_setscheduler sched_yield seccomp set_robust_list set_thread_area \
    set_tid_address setfsgid setfsuid setgid setgroups setpgid setpriority setregid setresgid \
    setresuid setreuid setrlimit setsid setuid sigaltstack sysinfo tgkill times tkill uname \
    vfork wait4 waitid";

/// Sockets.
const SOCKETS: &str = "\
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg \
    recvmsg sendmmsg sendmsg sendto setsockopt shutdown socketpair";

/// Time.
const TIME: &str = "\
    alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep pause \
    setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime \
    timerfd_create timerfd_gettime timerfd_settime";

/// Messages and memory between processes; the ipc namespace bounds them.
const IPC: &str = "\
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget \
    msgrcv msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget getrandom";

/// Every group.
const GROUPS: [&str; 7] = [FILES, EVENTS, MEMORY, PROCESSES, SOCKETS, TIME, IPC];

fn allowed() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.split_whitespace())
}

/// Address families of `socket`: unix, inet, inet6.
const FAMILIES: [u64; 3] = [1, 2, 10];

/// Execution domains of `personality` that programs ask for: Linux, and asking without changing.
const PERSONALITIES: [u64; 2] = [0, 0xffff_ffff];

/// The filter.
pub(crate) fn filter() -> Result<LinuxSeccomp, OciSpecError> {
    let mut rules = vec![allow()?];
    for family in FAMILIES {
        rules.push(allow_when("socket", family, None)?);
    }
    // A netlink socket of the routing family (16, protocol 0) is how programs list interfaces.
    rules.push(allow_when("socket", 16, Some((2, 0)))?);
    for domain in PERSONALITIES {
        rules.push(allow_when("personality", domain, None)?);
    }
    rules.push(
        LinuxSyscallBuilder::default()
            .names(vec!["clone".to_owned()])
            .action(LinuxSeccompAction::ScmpActAllow)
            .args(vec![
                // None of them may be set. `libcontainer` takes the mask from `value_two`, and not
                // from `value` as other runtimes do; the other way round everything would pass.
                LinuxSeccompArgBuilder::default()
                    .index(0usize)
                    .value(0u64)
                    .value_two(CLONE_NAMESPACES)
                    .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
                    .build()?,
            ])
            .build()?,
    );
    // Its flags lie in memory, where a filter cannot look; "not implemented" makes the C library
    // fall back to `clone`, whose flags it can.
    rules.push(
        LinuxSyscallBuilder::default()
            .names(vec!["clone3".to_owned()])
            .action(LinuxSeccompAction::ScmpActErrno)
            .errno_ret(ENOSYS)
            .build()?,
    );
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .syscalls(rules)
        .build()
}

fn allow() -> Result<LinuxSyscall, OciSpecError> {
    LinuxSyscallBuilder::default()
        .names(allowed().map(str::to_owned).collect::<Vec<_>>())
        .action(LinuxSeccompAction::ScmpActAllow)
        .build()
}

/// Allows a call whose first argument is `value`, and, if given, whose argument `and.0` is `and.1`.
fn allow_when(
    name: &str,
    value: u64,
    and: Option<(usize, u64)>,
) -> Result<LinuxSyscall, OciSpecError> {
    let equals = |index: usize, value: u64| {
        LinuxSeccompArgBuilder::default()
            .index(index)
            .value(value)
            .op(LinuxSeccompOperator::ScmpCmpEq)
            .build()
    };
    let mut args = vec![equals(0, value)?];
    if let Some((index, value)) = and {
        args.push(equals(index, value)?);
    }
    LinuxSyscallBuilder::default()
        .names(vec![name.to_owned()])
        .action(LinuxSeccompAction::ScmpActAllow)
        .args(args)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dangerous_is_not_allowed() {
        let closed = [
            "mount",
            "umount2",
            "pivot_root",
            "unshare",
            "setns",
            "ptrace",
            "bpf",
            "keyctl",
            "add_key",
            "perf_event_open",
            "init_module",
            "kexec_load",
            "open_by_handle_at",
            "io_uring_setup",
            "userfaultfd",
            "clock_settime",
            "reboot",
            "swapon",
            "clone3",
            "process_vm_writev",
            "pidfd_getfd",
            "move_mount",
            "fsopen",
            "open_tree",
        ];
        for name in closed {
            assert!(!allowed().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn every_name_stands_once() {
        let mut names: Vec<_> = allowed().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), allowed().count());
    }

    #[test]
    fn the_default_refuses() {
        let filter = filter().unwrap();
        assert_eq!(filter.default_action(), LinuxSeccompAction::ScmpActErrno);
        assert_eq!(filter.default_errno_ret(), Some(EPERM));
    }
}
