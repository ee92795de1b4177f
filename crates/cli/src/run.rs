//! `luthier run`: one command in a container with a package's environment, for training a model or
//! trying a package where it will be served.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::ProgressBar;
use luthier_server::machine::{Machine, MachineOptions};
use luthier_types::{Code, Error, Evidence, Mebibytes, Millicpu, Result, layout::container};

use crate::output;

/// Run a command in a package's environment, in a container without network.
///
/// The directory is read-only at the working directory; `/out` is writable, and what is written
/// there is copied to --out at the end.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// Directory of the package; its requirements.txt says what is installed.
    dir: PathBuf,
    /// Catalogue image.
    #[arg(long, default_value = "md-base/python/python-311:1.0.0")]
    image: String,
    /// Directory for what the command writes to /out.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Another directory, read-only at /mnt.
    #[arg(long)]
    mount: Option<PathBuf>,
    /// Memory limit, in MiB.
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Directory of all state.
    #[arg(long, default_value = "luthier-data", env = "LUTHIER_DATA")]
    data: PathBuf,
    /// Directory of layers; below the data directory when left out.
    #[arg(long, env = "LUTHIER_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// The command, for example `python train.py /out`.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// Runs `luthier run`.
pub(crate) async fn run(args: &Run) -> Result<()> {
    let dir = existing(&args.dir)?;
    let scratch = tempfile::Builder::new()
        .prefix("luthier-run-")
        .tempdir()
        .map_err(|e| Error::internal("making a scratch directory", e))?;
    let machine = Machine::open(&MachineOptions {
        data: args.data.clone(),
        cache: args.cache_dir.clone(),
        containers: Some(scratch.path().join("containers")),
    })?;

    let bar = ProgressBar::new_spinner();
    if output::is_watched() {
        bar.enable_steady_tick(Duration::from_millis(120));
    }
    let lines = bar.clone();
    let log = luthier_server::machine::LogSink::new(move |line| {
        if output::is_watched() {
            lines.set_message(line.chars().take(100).collect::<String>());
        } else {
            output::note(line);
        }
    });
    let requirements = luthier_inspect::read_requirements(&dir)?;
    let layers = machine.environment(&args.image, requirements, &log).await?;
    bar.finish_and_clear();

    let out = scratch.path().join("out");
    fs_err::create_dir(&out).map_err(|e| Error::internal("making a scratch directory", e))?;
    let mut mounts = vec![
        machine.mount(&dir, container::PACKAGE, true),
        machine.mount(&out, "/out", false),
    ];
    if let Some(mount) = &args.mount {
        mounts.push(machine.mount(&existing(mount)?, "/mnt", true));
    }
    let mut command = args.command.clone();
    if let Some(program) = command.first_mut()
        && matches!(program.as_str(), "python" | "python3")
    {
        *program = container::ENV_PYTHON.to_owned();
    }
    let env = BTreeMap::from([
        ("HOME".to_owned(), "/tmp".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
        (
            container::MEMORY_VARIABLE.to_owned(),
            args.memory.to_string(),
        ),
    ]);
    let exit = machine
        .run_to_end(
            &layers,
            mounts,
            command,
            env,
            Mebibytes(args.memory),
            Millicpu(1000),
            |line| {
                output::data(line);
            },
        )
        .await?;

    if exit.code == Some(0) {
        return args
            .out
            .as_ref()
            .map_or(Ok(()), |target| copy_all(&out, target));
    }
    let evidence = Evidence {
        exit_code: exit.code,
        signal: exit.signal,
        out_of_memory: Some(exit.out_of_memory),
        memory_peak: exit.memory_peak,
        memory_limit: Some(Mebibytes(args.memory).bytes()),
        ..Evidence::default()
    };
    let cause = exit
        .error
        .unwrap_or_else(|| "the command failed".to_owned());
    let failure = Error::new(Code::ContainerFailed, cause).evidence(evidence);
    Err(if exit.out_of_memory {
        failure.hint("Give it more with --memory.")
    } else {
        failure.hint("Its output above says why.")
    })
}

fn existing(path: &Path) -> Result<PathBuf> {
    fs_err::canonicalize(path).map_err(|e| {
        Error::new(
            Code::BadRequest,
            format!("there is no directory {}", path.display()),
        )
        .source(e)
    })
}

/// Copies regular files and directories; links are left out, since the command made them.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let failed = |e: std::io::Error| Error::internal("copying what the command wrote", e);
    fs_err::create_dir_all(to).map_err(failed)?;
    for entry in fs_err::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs_err::copy(entry.path(), target).map_err(failed)?;
        }
    }
    Ok(())
}
