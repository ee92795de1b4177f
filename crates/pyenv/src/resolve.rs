//! From requirements to a lock.

use luthier_host::{FileLock, Staged, sweep};
use luthier_ports::{Lock, LockRequest, LogSink, ResolvedImage};
use luthier_types::{Digest, EnvId, Error, Result};

use crate::{
    UvEnvs,
    failure::{self, Asked, Kind},
    lockfile, platform,
    requirements::{Requirements, pin_name},
    source::Builder,
};

/// Goes up when the same question would be answered differently.
const RECIPE: &str = "1";

pub(crate) async fn lock(envs: &UvEnvs, request: &LockRequest, log: &LogSink) -> Result<Lock> {
    let image = &request.image;
    let text = request.requirements.main().unwrap_or_default();
    let requirements = Requirements::parse(text)?;
    if requirements.lines.is_empty() {
        log.line("no requirements; the environment is the image's own");
        return Ok(finish(image, &lockfile::canonical(&image.lock)));
    }
    let asked = Digest::of_fields([
        RECIPE,
        image.digest.as_str(),
        &requirements.lines.join("\n"),
    ]);
    let root = envs.layout().root();
    let record = root.join("requirements").join(format!("{asked}.lock"));
    if let Ok(text) = fs_err::read_to_string(&record) {
        log.line("the requirements are resolved already");
        return Ok(finish(image, &text));
    }
    // The same question asked twice at once is answered once.
    let _lock = FileLock::acquire(&root.join(format!("locks/requirements-{asked}.lock"))).await?;
    if let Ok(text) = fs_err::read_to_string(&record) {
        log.line("the requirements are resolved already");
        return Ok(finish(image, &text));
    }
    let text = resolve(envs, image, &requirements, log).await?;
    for change in lockfile::changes(&image.lock, &text) {
        log.line(format!("  {change}"));
    }
    write(envs, &record, &text)?;
    Ok(finish(image, &text))
}

fn finish(image: &ResolvedImage, text: &str) -> Lock {
    Lock {
        id: EnvId::new(&image.digest, text, &platform()),
        text: text.to_owned(),
        image: image.digest.clone(),
    }
}

/// Asks `uv` for one resolution of the package's requirements and the image's remaining pins.
async fn resolve(
    envs: &UvEnvs,
    image: &ResolvedImage,
    requirements: &Requirements,
    log: &LogSink,
) -> Result<String> {
    let staging = envs.layout().staging();
    sweep(&staging)?;
    let staged = Staged::new(&staging, "lock")?;
    let scratch = staged.scratch();
    let kept: Vec<&str> = image
        .info
        .libraries
        .iter()
        .map(String::as_str)
        .filter(|pin| !requirements.names.contains(&pin_name(pin)))
        .collect();
    let keeps: Vec<_> = lockfile::keeps(&image.lock)
        .into_iter()
        .filter(|keep| lockfile::holds(keep, &requirements.names))
        .collect();
    let lines = |lines: &[&str]| lines.iter().flat_map(|l| [*l, "\n"]).collect::<String>();
    let package: Vec<&str> = requirements.lines.iter().map(String::as_str).collect();
    let constraints: Vec<&str> = keeps.iter().map(|k| k.constraint.as_str()).collect();
    let files = [
        ("requirements.txt", lines(&package)),
        ("image.txt", lines(&kept)),
        ("constraints.txt", lines(&constraints)),
        // The versions already in the output file are preferred.
        ("lock.txt", lockfile::canonical(&image.lock)),
    ];
    for (name, text) in files {
        fs_err::write(scratch.join(name), text)
            .map_err(|e| Error::internal("writing the requirements", e))?;
    }
    log.line(format!(
        "resolving {} requirement{} over {}",
        package.len(),
        if package.len() == 1 { "" } else { "s" },
        image.info.uri
    ));
    let ended = envs
        .uv()?
        .args(COMPILE)
        .arg("--no-build")
        .arg("--python")
        .arg(envs.interpreter(image))
        .cwd(scratch)
        .limit(envs.options.lock_limit)
        .run(log)
        .await?;
    let asked = Asked {
        package: requirements.names.iter().map(String::as_str).collect(),
        image: kept,
        keeps: keeps
            .iter()
            .map(|k| (k.constraint.as_str(), k.library.as_str()))
            .collect(),
        uri: &image.info.uri,
    };
    if ended.success() {
        let text = fs_err::read_to_string(scratch.join("lock.txt"))
            .map_err(|e| Error::internal("reading the lock", e))?;
        return Ok(lockfile::canonical(&text));
    }
    let doing = "resolving the requirements";
    let names = failure::needs_build(&ended);
    match &envs.options.runtime {
        Some(runtime) if failure::classify(&ended) == Kind::NeedsBuild && !names.is_empty() => {
            let builder = Builder {
                envs,
                image,
                runtime,
            };
            builder.lock(scratch, names, &asked, log).await
        }
        _ => Err(failure::error(&ended, doing, &asked)),
    }
}

/// The arguments of `uv` that resolve the files written by [`resolve`]; what may be built and for
/// which interpreter is the caller's.
pub(crate) const COMPILE: [&str; 12] = [
    "pip",
    "compile",
    "requirements.txt",
    "image.txt",
    "--constraint",
    "constraints.txt",
    "--output-file",
    "lock.txt",
    "--generate-hashes",
    "--no-header",
    "--no-annotate",
    "--quiet",
];

/// Writes a record whole or not at all.
fn write(envs: &UvEnvs, record: &std::path::Path, text: &str) -> Result<()> {
    let staged = Staged::new(&envs.layout().staging(), "record")?;
    let new = staged.scratch().join("record");
    let parent = record.parent().unwrap_or(envs.layout().root());
    fs_err::create_dir_all(parent)
        .and_then(|()| fs_err::write(&new, text))
        .and_then(|()| fs_err::rename(&new, record))
        .map_err(|e| Error::internal(format!("writing {}", record.display()), e))
}
