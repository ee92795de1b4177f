//! What a base image has, as its own Python tells in a container: nothing of it is run outside.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use luthier_host::{Staged, container as containers};
use luthier_ports::{ContainerRuntime, ContainerSpec, Mount, Network, Provided};
use luthier_types::{Digest, Error, Mebibytes, Millicpu, Result, layout::container, runner};
use oci_client::Reference;
use safe_path::scoped_join;
use serde::Deserialize;

use super::pull::unfit;

const SCRIPT: &str = include_str!("probe.py");
const LIMIT: Duration = Duration::from_secs(120);
/// Where the programs of images lie that do not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Most variables of an image that are taken, and most bytes of them all.
const MOST_VARIABLES: usize = 200;
const VARIABLES_BYTES: usize = 64 << 10;
/// The oldest Python for which there is a runner.
const OLDEST: (u32, u32) = (3, 9);

/// What an image's Python is and has.
#[derive(Debug)]
pub(super) struct Found {
    /// Its version.
    pub(super) version: (u32, u32, u32),
    /// The program, its links followed.
    pub(super) program: PathBuf,
    pub(super) glibc: u32,
    pub(super) paths: Vec<PathBuf>,
    pub(super) provided: Vec<Provided>,
}

/// The last line of the script.
#[derive(Deserialize)]
struct Told {
    implementation: String,
    version: (u32, u32, u32),
    program: String,
    glibc: Option<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    distributions: Vec<Provided>,
    /// Why the runner cannot be loaded.
    runner: Option<String>,
}

/// The variables of an image as containers get them: what has the form of one, but not ours.
pub(super) fn variables(listed: &[String]) -> BTreeMap<String, String> {
    let mut bytes = 0;
    listed
        .iter()
        .take(MOST_VARIABLES)
        .filter_map(|line| line.split_once('='))
        .filter(|(name, value)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            bytes += name.len() + value.len();
            !name.is_empty()
                && name.chars().all(plain)
                && !name.starts_with("LUTHIER_")
                && !name.starts_with("PYTHONHOME")
                && !value.contains('\0')
                && bytes <= VARIABLES_BYTES
        })
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The Python that an image's `PATH` finds first, as a path inside it.
pub(super) fn find(tree: &Path, variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let path = variables.get("PATH").map_or(PATH, String::as_str);
    path.split(':')
        .chain(PATH.split(':'))
        .find_map(|directory| {
            let real = |name: &str| {
                let inside = Path::new("/").join(directory).join(name);
                let place = scoped_join(tree, &inside).ok()?;
                fs_err::metadata(place)
                    .is_ok_and(|m| m.is_file())
                    .then_some(inside)
            };
            ["python3", "python"].into_iter().find_map(real)
        })
}

/// Asks the Python at `program` of the image in `staged`.
pub(super) async fn ask(
    runtime: &Arc<dyn ContainerRuntime>,
    staged: &Staged,
    runner: &Path,
    program: &Path,
    variables: &BTreeMap<String, String>,
    reference: &Reference,
) -> Result<Found> {
    let directory = staged.scratch().join("probe");
    let failed = |e| Error::internal("preparing a look at an image", e);
    fs_err::create_dir(&directory)
        .and_then(|()| fs_err::write(directory.join("probe.py"), SCRIPT))
        .map_err(failed)?;
    let mount = |source: &Path, target: &str| Mount {
        source: source.to_owned(),
        target: target.into(),
        read_only: true,
    };
    let script = format!("{}/probe.py", container::CONFIG_DIR);
    let unique = Digest::of(staged.scratch().as_os_str().as_encoded_bytes());
    let mut env = variables.clone();
    env.extend([
        ("HOME".to_owned(), "/tmp".to_owned()),
        ("PYTHONIOENCODING".to_owned(), "utf-8".to_owned()),
    ]);
    let spec = ContainerSpec {
        id: luthier_ports::ContainerId(format!("probe-{}", unique.short())),
        rootfs: staged.path().to_owned(),
        mounts: vec![
            mount(&directory, container::CONFIG_DIR),
            mount(runner, container::RUNNER),
        ],
        socket: None,
        args: [
            &*program.to_string_lossy(),
            "-s",
            "-B",
            &script,
            container::RUNNER,
        ]
        .map(str::to_owned)
        .into(),
        env,
        cwd: "/".into(),
        memory: Mebibytes(512),
        cpu: Millicpu(1000),
        cpu_cap: false,
        pids: 64,
        scratch: Mebibytes(64),
        network: Network::Loopback,
        labels: containers::labels(),
    };
    containers::remove_abandoned(&**runtime).await?;
    let mut output = String::new();
    let ended = containers::run(runtime, &spec, Some(LIMIT), |line| {
        output.push_str(line);
        output.push('\n');
    })
    .await?;
    read(&output, ended.exit.code == Some(0)).map_err(|why| {
        let mut evidence = luthier_types::Evidence::output(&output);
        evidence.exit_code = ended.exit.code;
        evidence.signal = ended.exit.signal;
        let at = program.display();
        unfit(reference, format!("its Python ({at}) {why}")).evidence(evidence)
    })
}

/// What the script said, if the image can be a base; else why not.
fn read(output: &str, ended_well: bool) -> Result<Found, String> {
    let last = output.trim_end().lines().next_back().unwrap_or_default();
    let told: Told = match serde_json::from_str(last) {
        Ok(told) if ended_well => told,
        _ => return Err("does not run".to_owned()),
    };
    let (major, minor, patch) = told.version;
    if told.implementation != "cpython" || (major, minor) < OLDEST {
        return Err(format!(
            "is {} {major}.{minor}.{patch}, and a base needs CPython from {}.{} on",
            told.implementation, OLDEST.0, OLDEST.1
        ));
    }
    let glibc = told.glibc.as_deref().and_then(|text| {
        let version = text.strip_prefix("glibc 2.")?;
        version.split('.').next()?.parse::<u32>().ok()
    });
    let Some(glibc) = glibc else {
        return Err(
            "does not use the GNU C library, for which libraries' wheels and the runner are made \
             (Alpine's images do not)"
                .to_owned(),
        );
    };
    if let Some(why) = &told.runner {
        return Err(format!("cannot load the runner (glibc 2.{glibc}): {why}"));
    }
    let program = PathBuf::from(&told.program);
    if !plain_path(&told.program) || program.starts_with("/opt/luthier") {
        return Err(format!(
            "lies in {}, where a base's Python cannot be: name the image that this one was made from",
            told.program
        ));
    }
    Ok(Found {
        version: told.version,
        program,
        glibc,
        paths: told
            .paths
            .iter()
            .filter(|path| plain_path(path))
            .map(PathBuf::from)
            .collect(),
        provided: told.distributions.into_iter().filter(is_one).collect(),
    })
}

/// Whether a path can stand in Python code and settings as it is.
fn plain_path(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"'\"\\:".contains(c);
    path.starts_with('/') && path.chars().all(plain) && !path.contains("/../")
}

/// Whether a distribution can be written into files of requirements: the image says what it likes.
fn is_one(provided: &Provided) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let version = |c: char| c.is_ascii_alphanumeric() || "-._+!".contains(c);
    let line = |text: &String| text.len() < 1000 && !text.contains(char::is_control);
    provided
        .name
        .starts_with(|c: char| c.is_ascii_alphanumeric())
        && provided.name.chars().all(name)
        && provided.version.starts_with(|c: char| c.is_ascii_digit())
        && provided.version.chars().all(version)
        && provided.requires.iter().all(line)
        && provided.extras.iter().all(|extra| extra.chars().all(name))
}

/// The environment variables of a replica's own that an image's do not replace.
pub(super) fn without_ours(mut variables: BTreeMap<String, String>) -> BTreeMap<String, String> {
    variables
        .retain(|name, _| name == "PATH" || runner::ENVIRONMENT.iter().all(|(n, _)| n != name));
    if let Some(path) = variables.get_mut("PATH") {
        *path = format!("{}/bin:{path}", container::ENV);
    }
    variables
}

#[cfg(test)]
mod tests;
