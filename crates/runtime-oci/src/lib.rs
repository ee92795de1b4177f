//! The embedded container runtime: OCI containers made by `libcontainer`, each under a shim process
//! of its own that outlives the server.
//!
//! ```text
//! server ── OciRuntime ──spawns──▶ shim <dir> ──libcontainer──▶ container
//!                 │                  │  copies output, reaps, records the end
//!                 └──── reads ───▶ <state>/<id>/{spec,shim,running,exit}.json, out.log
//! ```
//!
//! Only files join the two: a server that dies takes nothing with it, and the next one finds every
//! container by reading the state directory. The shim owns what the container needs of the host:
//! its mounts (in the shim's private mount namespace, so that they vanish with it), its network
//! namespace (loopback only) and its cgroup. When the shim dies the kernel kills the container.
//!
//! Known limits: a program runs as process 1 of its namespace, so a SIGTERM that it does not handle
//! is ignored and `stop` takes the whole grace; a service manager that ends the server must spare
//! the shims (systemd: `KillMode=process`); the peak of memory is the kernel's figure, which counts
//! page cache.

mod cgroup;
mod dir;
mod executor;
mod logs;
mod oci;
mod probe;
mod process;
mod rootfs;
mod runtime;
mod seccomp;
mod shim;

pub use probe::{Probe, probe};
pub use runtime::{OciRuntime, Options};
pub use shim::shim_main;
