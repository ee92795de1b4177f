//! The shim as a program of its own, for tests; and a server that starts a container and then does
//! nothing, to be killed.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use luthier_ports::{ContainerRuntime as _, ContainerSpec};
use luthier_runtime_oci::{OciRuntime, Options};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "shim", dir] => luthier_runtime_oci::shim_main(Path::new(dir)),
        [program, "server", state, cgroup, spec] => serve(program, state, cgroup, spec),
        _ => ExitCode::FAILURE,
    }
}

fn serve(program: &str, state: &str, cgroup: &str, spec: &str) -> ExitCode {
    let mut options = Options::new(state, program);
    options.cgroup_parent = cgroup.to_owned();
    let started = serde_json::from_str::<ContainerSpec>(spec)
        .map_err(io::Error::other)
        .and_then(|spec| {
            let runtime = OciRuntime::new(options).map_err(io::Error::other)?;
            let executor = tokio::runtime::Runtime::new()?;
            executor
                .block_on(runtime.start(&spec))
                .map_err(io::Error::other)?;
            io::stdout().write_all(b"started\n")
        });
    match started {
        Ok(()) => loop {
            std::thread::park();
        },
        Err(e) => {
            let _ = writeln!(io::stderr(), "{e:?}");
            ExitCode::FAILURE
        }
    }
}
