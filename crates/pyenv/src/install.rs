//! From a lock to an environment.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use luthier_host::{FileLock, Staged, sweep};
use luthier_ports::{Lock, LogSink, ResolvedImage};
use luthier_types::{Error, Result, layout::container};

use crate::{
    UvEnvs, base, bytecode, disk,
    failure::{self, Asked},
    heal::{self, Bad},
    installed::{self, Distribution},
    source::{self, Read},
    store::{self, blocking},
    verify::{self, Checked},
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
    let built = locked(envs, lock, image, &place, log).await;
    built.map_err(|e| disk::explained(e, envs.layout().root()))?;
    Ok(place)
}

/// Builds under the environment's lock, so that it is built once and is not collected meanwhile.
async fn locked(
    envs: &UvEnvs,
    lock: &Lock,
    image: &ResolvedImage,
    place: &Path,
    log: &LogSink,
) -> Result<()> {
    let began = Instant::now();
    let short = lock.id.0.short();
    let _lock = FileLock::acquire(&envs.lock_of(&lock.id)).await?;
    if place.is_dir() {
        // A collection sees by this that somebody wants it.
        fs_err::File::open(place)
            .and_then(|directory| directory.file().set_modified(SystemTime::now()))
            .map_err(|e| Error::internal("touching the environment", e))?;
        log.line(format!("environment {short} is there already"));
        return Ok(());
    }
    let _caches = FileLock::share(&envs.caches_lock()).await?;
    sweep(&envs.layout().staging())?;
    log.line(format!("building environment {short}"));
    let (staged, bad) = assemble(envs, lock, image, log).await?;
    finish(staged.path(), &lock.text, image)
        .map_err(|e| Error::internal("finishing the environment", e))?;
    staged.publish(place)?;
    let healed = heal::heal(envs, bad, place.to_owned()).await?;
    if healed > 0 {
        log.line(format!(
            "replaced {healed} damaged files in other environments"
        ));
    }
    log.line(format!(
        "environment {short} is ready after {:.2} s",
        began.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// An environment whose files are as their authors made them, with compiled modules. Returns it
/// with the damaged files that were found in the caches on the way.
async fn assemble(
    envs: &UvEnvs,
    lock: &Lock,
    image: &ResolvedImage,
    log: &LogSink,
) -> Result<(Staged, Vec<Bad>)> {
    let notes = envs.layout().root().join(verify::NOTES);
    let mut staged = installed(envs, lock, image, log).await?;
    let (mut distributions, mut checked) = check(&staged, &notes).await?;
    let mut bad = vec![];
    if !checked.damaged.is_empty() {
        let names: Vec<&str> = checked.damaged.iter().map(|d| d.name.as_str()).collect();
        log.line(format!(
            "damaged in the cache: {}; fetching again",
            names.join(", ")
        ));
        for damaged in &checked.damaged {
            bad.extend(heal::bad(staged.path(), &damaged.files));
        }
        forget(envs, &names).await?;
        staged = installed(envs, lock, image, log).await?;
        (distributions, checked) = check(&staged, &notes).await?;
        // What was fetched just now has the hash of the lock: its record is wrong, not its files.
        for damaged in &checked.damaged {
            log.line(format!(
                "the record of {} is not right; its files are",
                damaged.name
            ));
            verify::accept(damaged, &notes)
                .map_err(|e| Error::internal("noting a wrong record", e))?;
            let (name, content) = (damaged.name.clone(), damaged.content.clone());
            checked.contents.insert(name, content);
        }
    }
    let contents = &checked.contents;
    bad.extend(bytecode::compile(envs, image, staged.path(), &distributions, contents, log).await?);
    Ok((staged, bad))
}

/// A new environment with everything in the lock.
async fn installed(
    envs: &UvEnvs,
    lock: &Lock,
    image: &ResolvedImage,
    log: &LogSink,
) -> Result<Staged> {
    let staged = Staged::new(&envs.layout().staging(), "env")?;
    make_venv(envs, image, &staged).await?;
    install(envs, lock, image, &staged, log).await?;
    Ok(staged)
}

async fn check(staged: &Staged, notes: &Path) -> Result<(Vec<Distribution>, Checked)> {
    let (tree, notes) = (staged.path().to_owned(), notes.to_owned());
    blocking("checking what was installed", move || {
        let distributions = installed::distributions(&tree)?;
        let checked = verify::check(&tree, &distributions, &notes)?;
        Ok((distributions, checked))
    })
    .await
}

/// Removes distributions from the installer's cache.
async fn forget(envs: &UvEnvs, names: &[&str]) -> Result<()> {
    let ended = envs
        .uv()?
        .args(["cache", "clean", "--quiet"])
        .args(names)
        .limit(envs.options.build_limit)
        .run(&LogSink::none())
        .await?;
    if ended.success() {
        return Ok(());
    }
    let output = ended.output.clone();
    Err(
        Error::internal("removing damaged packages from the cache", output)
            .evidence(ended.evidence()),
    )
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

/// Most rounds in which a package turns out to need building.
const ROUNDS: usize = 10;

/// Installs the lock: from the cache alone if it holds everything, else from the index. What has no
/// wheel and is not built yet is built in a container.
async fn install(
    envs: &UvEnvs,
    lock: &Lock,
    image: &ResolvedImage,
    staged: &Staged,
    log: &LogSink,
) -> Result<()> {
    let scratch = staged.scratch();
    let asked = Asked {
        uri: &image.info.uri,
        addresses: envs.options.sources.addresses(),
        offline: envs.options.sources.offline,
        ..Asked::default()
    };
    let mut tried = BTreeSet::new();
    for _ in 0..ROUNDS {
        let inputs = source::inputs(envs, lock, image, log).await?;
        fs_err::write(scratch.join("lock.txt"), &inputs.text)
            .map_err(|e| Error::internal("writing the lock", e))?;
        let sync = envs
            .uv()?
            .args(["pip", "sync", "--require-hashes", "--no-build"])
            .args(["--link-mode", "hardlink", "--python"])
            .arg(staged.path().join("bin/python"))
            .arg("lock.txt")
            .args(inputs.args())
            .args(base::platform(image))
            .cwd(scratch)
            .limit(envs.options.build_limit);
        let sync = envs.options.sources.apply(sync, &lock.origins);
        let cached = sync.clone().arg("--offline").run(&LogSink::none()).await?;
        if cached.success() {
            return Ok(());
        }
        log.line("fetching what is not in the cache");
        let ended = sync.run(log).await?;
        if ended.success() {
            return Ok(());
        }
        if source::discard_damaged(envs, &inputs, Read::All, log).await? {
            continue;
        }
        let names = failure::needs_build(&ended);
        let new = names.difference(&tried).cloned().collect();
        if !source::build_missing(envs, lock, image, &new, log).await? {
            return Err(failure::error(&ended, "installing the packages", &asked));
        }
        tried.extend(names);
    }
    Err(Error::internal(
        "installing the packages",
        "wheels that were built are not found",
    ))
}

/// Points the environment at the interpreter's place in a container and removes what is not
/// needed there.
fn finish(tree: &Path, lock: &str, image: &ResolvedImage) -> io::Result<()> {
    let home = match &image.base {
        Some(base) => base.home.clone(),
        None => Path::new(container::PYTHON).join("bin"),
    };
    let settings = tree.join("pyvenv.cfg");
    let rewritten: String = fs_err::read_to_string(&settings)?
        .lines()
        .flat_map(|line| match line.split_once(" = ") {
            Some(("home", _)) => [format!("home = {}", home.display()), "\n".to_owned()],
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
    if let Some(base) = &image.base {
        let file = tree.join(installed::packages(tree)?).join(base::PATHS_FILE);
        fs_err::write(file, base::paths(base))?;
    }
    fs_err::write(tree.join(store::LOCK), lock)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
