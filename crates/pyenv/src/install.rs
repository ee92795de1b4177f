//! From a lock to an environment.

use std::{
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use luthier_host::{FileLock, Staged, sweep};
use luthier_ports::{Lock, LogSink, ResolvedImage};
use luthier_types::{Error, Result, layout::container};

use crate::{
    UvEnvs, bytecode,
    failure::{self, Asked},
    source,
};

/// Files that `uv` puts into an environment and a container has no use for.
const NOT_NEEDED: &[&str] = &[".gitignore", ".lock", "CACHEDIR.TAG"];

pub(crate) async fn build(
    envs: &UvEnvs,
    lock: &Lock,
    image: &ResolvedImage,
    log: &LogSink,
) -> Result<PathBuf> {
    let place = envs.layout().env(&lock.id);
    if place.is_dir() {
        log.line(format!(
            "environment {} is there already",
            lock.id.0.short()
        ));
        return Ok(place);
    }
    let guard = envs
        .layout()
        .root()
        .join(format!("locks/env-{}.lock", lock.id));
    let _lock = FileLock::acquire(&guard).await?;
    if place.is_dir() {
        log.line(format!(
            "environment {} is there already",
            lock.id.0.short()
        ));
        return Ok(place);
    }
    let staging = envs.layout().staging();
    sweep(&staging)?;
    let staged = Staged::new(&staging, "env")?;
    log.line(format!("building environment {}", lock.id.0.short()));
    make_venv(envs, image, &staged).await?;
    install(envs, lock, image, &staged, log).await?;
    bytecode::compile(envs, image, staged.path(), log).await?;
    finish(staged.path(), &lock.text)
        .map_err(|e| Error::internal("finishing the environment", e))?;
    staged.publish(&place)?;
    log.line(format!("environment {} is ready", lock.id.0.short()));
    Ok(place)
}

async fn make_venv(envs: &UvEnvs, image: &ResolvedImage, staged: &Staged) -> Result<()> {
    let ended = envs
        .uv()?
        .args([
            "venv",
            "--relocatable",
            "--no-project",
            "--quiet",
            "--python",
        ])
        .arg(envs.interpreter(image))
        .arg(staged.path())
        .cwd(staged.scratch())
        .limit(envs.options.build_limit)
        .run(&LogSink::none())
        .await?;
    if ended.success() {
        Ok(())
    } else {
        Err(
            Error::internal("making an empty environment", ended.output.clone())
                .evidence(ended.evidence()),
        )
    }
}

/// Installs the lock: from the cache alone if it holds everything, else from the index.
async fn install(
    envs: &UvEnvs,
    lock: &Lock,
    image: &ResolvedImage,
    staged: &Staged,
    log: &LogSink,
) -> Result<()> {
    let scratch = staged.scratch();
    fs_err::write(scratch.join("lock.txt"), &lock.text)
        .map_err(|e| Error::internal("writing the lock", e))?;
    let sync = envs
        .uv()?
        .args(["pip", "sync", "--require-hashes", "--no-build", "--quiet"])
        .args(["--link-mode", "hardlink", "--python"])
        .arg(staged.path().join("bin/python"))
        .arg("lock.txt")
        .args(source::find_links(envs, &lock.text))
        .cwd(scratch)
        .limit(envs.options.build_limit);
    let cached = sync.clone().arg("--offline").run(&LogSink::none()).await?;
    if cached.success() {
        return Ok(());
    }
    log.line("downloading what is not in the cache");
    let ended = sync.run(log).await?;
    if ended.success() {
        return Ok(());
    }
    let asked = Asked {
        uri: &image.info.uri,
        ..Asked::default()
    };
    Err(failure::error(&ended, "installing the packages", &asked))
}

/// Points the environment at the interpreter's place in a container and removes what is not
/// needed there.
fn finish(tree: &Path, lock: &str) -> io::Result<()> {
    let settings = tree.join("pyvenv.cfg");
    let rewritten: String = fs_err::read_to_string(&settings)?
        .lines()
        .flat_map(|line| match line.split_once(" = ") {
            Some(("home", _)) => [format!("home = {}/bin", container::PYTHON), "\n".to_owned()],
            _ => [line.to_owned(), "\n".to_owned()],
        })
        .collect();
    fs_err::write(&settings, rewritten)?;
    for name in NOT_NEEDED {
        remove(&tree.join(name))?;
    }
    let programs = tree.join("bin");
    for entry in fs_err::read_dir(&programs)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("activate") || text.ends_with(".bat") {
            remove(&programs.join(name))?;
        }
    }
    let python = programs.join("python");
    remove(&python)?;
    symlink(format!("{}/bin/python3", container::PYTHON), &python)?;
    fs_err::write(tree.join("requirements.lock"), lock)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
