//! Builds the runner's library, which `runner_layer` embeds, and lists the catalogue's files.
//!
//! The runner's is a build of its own: the library is always optimised, whatever the profile of the server, and
//! lies in a target directory of its own, so that cargo's lock on the outer one is no obstacle.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What cargo sets for a build script, by its beginning: left to itself it would make the inner
/// build another one each time, or a wrong one.
const OUTER: [&str; 21] = [
    "CARGO_BIN_",
    "CARGO_BUILD_TARGET",
    "CARGO_CFG_",
    "CARGO_CRATE_NAME",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_MAKEFLAGS",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_TMPDIR",
    "CLIPPY_",
    "DEP_",
    "LD_LIBRARY_PATH",
    "OPT_LEVEL",
    "OUT_DIR",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
];
/// The same, by their whole names.
const OUTER_NAMES: [&str; 7] = [
    "CARGO", "DEBUG", "HOST", "NUM_JOBS", "PROFILE", "RUSTC", "TARGET",
];

fn main() {
    let manifest = variable("CARGO_MANIFEST_DIR");
    let workspace = manifest
        .ancestors()
        .nth(2)
        .expect("the crate lies in crates/")
        .to_path_buf();
    for watched in [
        "crates/runner/src",
        "crates/runner/Cargo.toml",
        "crates/runner/python",
        "crates/types/src/runner.rs",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(watched).display()
        );
    }
    println!("cargo::rerun-if-changed=build.rs");

    let out = variable("OUT_DIR");
    list_catalogue(&workspace.join("images"), &out);
    let target = target_directory(&out);
    build(&workspace, &target);
    let built = target.join("release").join("libluthier_runner.so");
    // Kept with what embeds it: the other directory may be cleaned on its own.
    let library = out.join("luthier_runner.abi3.so");
    std::fs::copy(&built, &library).expect("the library was built");
    println!(
        "cargo::rustc-env=LUTHIER_RUNNER_LIBRARY={}",
        library.display()
    );
}

/// Writes the names and contents of the catalogue's files, whatever there are, as Rust constants.
fn list_catalogue(images: &Path, out: &Path) {
    let mut code = String::new();
    for (constant, about, directory, extension) in [
        ("FILES", "images/*.toml", images.to_owned(), "toml"),
        ("LOCKS", "images/locks/*.lock", images.join("locks"), "lock"),
    ] {
        println!("cargo::rerun-if-changed={}", directory.display());
        let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
            .expect("the catalogue is in the repository")
            .map(|entry| entry.expect("it can be read").path())
            .filter(|path| path.extension().is_some_and(|e| e == extension))
            .collect();
        files.sort();
        code.push_str(&format!(
            "/// `{about}`: name and text.\npub(super) const {constant}: &[(&str, &str)] = &[\n"
        ));
        for path in files {
            let name = path.file_name().expect("a file has a name").to_owned();
            code.push_str(&format!("    ({name:?}, include_str!({path:?})),\n"));
        }
        code.push_str("];\n");
    }
    std::fs::write(out.join("catalogue.rs"), code).expect("OUT_DIR can be written");
}

/// A directory beside the profiles', the same for all of them: `OUT_DIR` is
/// `<target>/[<triple>/]<profile>/build/<crate>-<hash>/out`, or one folder deeper.
fn target_directory(out: &Path) -> PathBuf {
    let build = out
        .ancestors()
        .find(|p| p.file_name().is_some_and(|name| name == "build"))
        .unwrap_or(out);
    build.ancestors().nth(2).unwrap_or(build).join("runner")
}

fn build(workspace: &Path, target: &Path) {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--package",
            "luthier-runner",
        ])
        .arg("--target-dir")
        .arg(target);
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        if OUTER.iter().any(|start| name.starts_with(start)) || OUTER_NAMES.contains(&name) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "building the runner failed");
}

fn variable(name: &str) -> PathBuf {
    env::var_os(name)
        .unwrap_or_else(|| panic!("cargo sets {name}"))
        .into()
}
