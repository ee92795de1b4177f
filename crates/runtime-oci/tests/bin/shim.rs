//! The shim as a program of its own, for tests.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "shim", dir] => luthier_runtime_oci::shim_main(Path::new(dir)),
        _ => ExitCode::FAILURE,
    }
}
