//! The OCI runtime specification of a container.

use std::{collections::HashMap, path::Path};

use luthier_types::Mebibytes;
use oci_spec::{
    OciSpecError,
    runtime::{
        Capabilities, Linux, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxCpuBuilder,
        LinuxDeviceCgroupBuilder, LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespaceBuilder,
        LinuxNamespaceType, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, Mount,
        MountBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
    },
};

use crate::{dir::Stored, seccomp};

/// User and group of the container's processes, inside its user namespace.
pub(crate) const UID: u32 = 1000;

/// The annotation that holds the working directory.
pub(crate) const CWD: &str = "luthier.cwd";

/// Ids in a container's range.
const IDS: u32 = 65_536;

/// Size of `/dev/shm`, through which worker processes share arrays. Counts against the memory limit.
const SHM: Mebibytes = Mebibytes(64);

/// Containers go before the server and its shims when the machine is out of memory.
const OOM_SCORE: i32 = 500;

/// Length of the period in which a CPU quota is counted, in µs.
const CPU_PERIOD: u64 = 100_000;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What of `/proc` tells of or reaches the host.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysvipc",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/kallsyms",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The specification, for a root assembled at `root`.
pub(crate) fn spec(stored: &Stored, root: &Path, limit_swap: bool) -> Result<Spec, OciSpecError> {
    SpecBuilder::default()
        .version("1.0.2")
        .root(RootBuilder::default().path(root).readonly(true).build()?)
        .annotations(HashMap::from([(
            CWD.to_owned(),
            stored.container.cwd.to_string_lossy().into_owned(),
        )]))
        .hostname(stored.container.id.0.clone())
        .mounts(mounts(stored)?)
        .process(process(stored)?)
        .linux(linux(stored, limit_swap)?)
        .build()
}

fn mounts(stored: &Stored) -> Result<Vec<Mount>, OciSpecError> {
    let scratch = stored.container.scratch.bytes();
    let shm = SHM.bytes();
    let tmpfs = |target: &str, options: String| {
        MountBuilder::default()
            .destination(target)
            .typ("tmpfs")
            .source("tmpfs")
            .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
            .build()
    };
    Ok(vec![
        MountBuilder::default()
            .destination("/proc")
            .typ("proc")
            .source("proc")
            .options(["nosuid", "noexec", "nodev"].map(str::to_owned).to_vec())
            .build()?,
        // Not `nodev`: the devices lie here.
        tmpfs("/dev", "nosuid,noexec,mode=755,size=64k".to_owned())?,
        tmpfs(
            "/dev/shm",
            format!("nosuid,nodev,noexec,mode=1777,size={shm}"),
        )?,
        // Executable: compilers of models (JITs, built wheels) load what they write here.
        tmpfs("/tmp", format!("nosuid,nodev,mode=1777,size={scratch}"))?,
    ])
}

fn process(stored: &Stored) -> Result<Process, OciSpecError> {
    let container = &stored.container;
    let id = if stored.user_namespace {
        UID
    } else {
        stored.host_uid()
    };
    let mut env = container.env.clone();
    env.entry("PATH".to_owned()).or_insert(PATH.to_owned());
    env.entry("HOME".to_owned()).or_insert("/tmp".to_owned());
    let none = Capabilities::new;
    let mut process = ProcessBuilder::default()
        .terminal(false)
        .user(
            UserBuilder::default()
                .uid(id)
                .gid(id)
                .umask(0o022u32)
                .build()?,
        )
        .args(container.args.clone())
        .env(
            env.iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>(),
        )
        // Left to the executor, which can say what is wrong with it.
        .cwd("/")
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(none())
                .effective(none())
                .inheritable(none())
                .permitted(none())
                .ambient(none())
                .build()?,
        )
        .no_new_privileges(true)
        .oom_score_adj(OOM_SCORE)
        .build()?;
    // Inherited from the shim, which may raise them; inside a user namespace nobody may.
    process.set_rlimits(None);
    Ok(process)
}

fn linux(stored: &Stored, limit_swap: bool) -> Result<Linux, OciSpecError> {
    let mut namespaces = vec![
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Cgroup,
    ];
    if stored.user_namespace {
        namespaces.push(LinuxNamespaceType::User);
    }
    let namespaces = namespaces
        .into_iter()
        .map(|typ| LinuxNamespaceBuilder::default().typ(typ).build())
        .collect::<Result<Vec<_>, _>>()?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .cgroups_path(stored.cgroup.clone())
        .resources(resources(stored, limit_swap)?)
        .seccomp(seccomp::filter()?)
        .rootfs_propagation("private")
        .masked_paths(MASKED.map(str::to_owned).to_vec())
        .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
        .build()?;
    if stored.user_namespace {
        let mapping = vec![
            LinuxIdMappingBuilder::default()
                .container_id(0u32)
                .host_id(stored.uid_base)
                .size(IDS)
                .build()?,
        ];
        linux.set_uid_mappings(Some(mapping.clone()));
        linux.set_gid_mappings(Some(mapping));
    }
    Ok(linux)
}

fn resources(stored: &Stored, limit_swap: bool) -> Result<LinuxResources, OciSpecError> {
    let mut resources = changeable(stored, limit_swap)?;
    resources.set_devices(Some(vec![
        LinuxDeviceCgroupBuilder::default()
            .allow(false)
            .access("rwm")
            .build()?,
    ]));
    resources.set_pids(Some(
        LinuxPidsBuilder::default()
            .limit(i64::from(stored.container.pids))
            .build()?,
    ));
    Ok(resources)
}

/// What of its resources may change while it runs: memory and CPU.
pub(crate) fn changeable(
    stored: &Stored,
    limit_swap: bool,
) -> Result<LinuxResources, OciSpecError> {
    let container = &stored.container;
    let limit = i64::try_from(container.memory.bytes()).unwrap_or(i64::MAX);
    let mut memory = LinuxMemoryBuilder::default().limit(limit);
    if limit_swap {
        memory = memory.swap(limit);
    }
    let millicpu = u64::from(container.cpu.0);
    let mut cpu = LinuxCpuBuilder::default().shares((millicpu * 1024 / 1000).max(2));
    if container.cpu_cap {
        let quota = millicpu * CPU_PERIOD / 1000;
        // Below 1 ms per period the kernel refuses.
        cpu = cpu
            .period(CPU_PERIOD)
            .quota(i64::try_from(quota.max(1000)).unwrap_or(i64::MAX));
    }
    LinuxResourcesBuilder::default()
        .memory(memory.build()?)
        .cpu(cpu.build()?)
        .build()
}
