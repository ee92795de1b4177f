//! From requirements to a lock.

use std::{collections::BTreeSet, path::Path};

use luthier_host::{FileLock, Staged, sweep};
use luthier_ports::{Lock, LockRequest, LogSink, Provided, ResolvedImage};
use luthier_types::{Code, Digest, EnvId, Error, Result};

use crate::{
    UvEnvs, base,
    failure::{self, Asked, Kind},
    lockfile, platform,
    requirements::{Requirements, pin_name},
    source,
};

/// Goes up when the same question would be answered differently.
const RECIPE: &str = "2";

pub(crate) async fn lock(envs: &UvEnvs, request: &LockRequest, log: &LogSink) -> Result<Lock> {
    let image = &request.image;
    let requirements = Requirements::parse(&request.requirements)?;
    let complete = match &image.base {
        Some(base) => base::missing(base, &requirements.names()).is_empty(),
        None => true,
    };
    if requirements.asked.is_empty() && requirements.bounds.is_empty() && complete {
        log.line("no requirements; the environment is the image's own");
        return Ok(finish(image, &lockfile::canonical(&image.lock), &[]));
    }
    let origins = &requirements.options.origins;
    let root = envs.layout().root();
    let record = |wheels_only: bool| {
        let asked = Digest::of_fields([
            RECIPE,
            image.digest.as_str(),
            &requirements.question(),
            &envs.options.sources.question(),
            if wheels_only { "wheels" } else { "" },
        ]);
        root.join("requirements").join(format!("{asked}.lock"))
    };
    let mine = record(request.wheels_only);
    let known = || {
        let text = fs_err::read_to_string(&mine).ok()?;
        log.line("the requirements are resolved already");
        Some(finish(image, &text, origins))
    };
    if let Some(lock) = known() {
        return Ok(lock);
    }
    // The same question asked twice at once is answered once.
    let guard = format!(
        "locks/requirements-{}.lock",
        Digest::of(mine.as_os_str().as_encoded_bytes())
    );
    let _lock = FileLock::acquire(&root.join(guard)).await?;
    if let Some(lock) = known() {
        return Ok(lock);
    }
    let resolved = Question::new(envs, request, &requirements)
        .resolve(log)
        .await?;
    for change in lockfile::changes(&image.lock, &resolved.text) {
        log.line(format!("  {change}"));
    }
    write(envs, &mine, &resolved.text)?;
    if !resolved.built {
        // With wheels alone or not, the answer is this one.
        write(envs, &record(!request.wheels_only), &resolved.text)?;
    }
    Ok(finish(image, &resolved.text, origins))
}

fn finish(image: &ResolvedImage, text: &str, origins: &[String]) -> Lock {
    Lock {
        id: EnvId::new(&image.digest, text, &platform()),
        text: text.to_owned(),
        image: image.digest.clone(),
        origins: origins.to_vec(),
    }
}

/// One resolution of a package's requirements over an image's libraries.
struct Question<'a> {
    envs: &'a UvEnvs,
    request: &'a LockRequest,
    image: &'a ResolvedImage,
    requirements: &'a Requirements,
    /// The image's pins that the package does not replace. Of an image of a registry, what it lacks.
    kept: Vec<&'a str>,
    /// Pins that hold if they are needed: what an image of a registry has and nobody replaces.
    bounds: Vec<String>,
    /// Names of the image's libraries that the package names itself: in some version they stay.
    replaced: Vec<String>,
    keeps: Vec<lockfile::Keep>,
}

/// An answer.
struct Resolved {
    text: String,
    /// Whether something in it was built from its source.
    built: bool,
}

impl<'a> Question<'a> {
    fn new(envs: &'a UvEnvs, request: &'a LockRequest, requirements: &'a Requirements) -> Self {
        let image = &request.image;
        let names = requirements.names();
        let (replaced, kept): (Vec<&str>, Vec<&str>) = match &image.base {
            Some(base) => (vec![], base::missing(base, &names)),
            None => {
                let pins = image.info.libraries.iter().map(String::as_str);
                pins.partition(|pin| names.contains(&pin_name(pin)))
            }
        };
        let base = image.base.as_ref();
        let bounds = base.map_or(vec![], |b| b.kept(&names).map(Provided::pin).collect());
        let keeps = lockfile::keeps(&image.lock)
            .into_iter()
            .filter(|keep| lockfile::holds(keep, &names))
            .collect();
        Self {
            envs,
            request,
            image,
            requirements,
            kept,
            bounds,
            replaced: replaced.into_iter().map(pin_name).collect(),
            keeps,
        }
    }

    /// Asks `uv`: first for wheels alone, then, if it must be, with what has none built.
    async fn resolve(&self, log: &LogSink) -> Result<Resolved> {
        let staging = self.envs.layout().staging();
        sweep(&staging)?;
        let staged = Staged::new(&staging, "lock")?;
        let scratch = staged.scratch();
        self.write(scratch)?;
        if let Some(base) = &self.image.base {
            base::write_wheels(base, &scratch.join(base::WHEELS))
                .map_err(|e| Error::internal("writing what the image has", e))?;
            for name in &self.kept {
                log.line(format!(
                    "the image lacks {name}, which serving needs; adding it"
                ));
            }
        }
        let count = self.requirements.asked.len();
        log.line(format!(
            "resolving {count} requirement{} over {}",
            if count == 1 { "" } else { "s" },
            self.image.info.uri
        ));
        let asked = self.asked();
        let options = &self.requirements.options;
        if options.from_source.is_empty() || self.request.wheels_only {
            let compile = self
                .envs
                .uv()?
                .args(self.arguments())
                .arg("--no-build")
                .arg("--python")
                .arg(self.envs.interpreter(self.image));
            let ended = self
                .envs
                .options
                .sources
                .apply(compile, &options.origins)
                .cwd(scratch)
                .limit(self.envs.options.lock_limit)
                .run(&shown(log))
                .await?;
            if ended.success() {
                let text = fs_err::read_to_string(scratch.join("lock.txt"))
                    .map_err(|e| Error::internal("reading the lock", e))?;
                let text = self.settled(&lockfile::canonical(&text))?;
                return Ok(Resolved { text, built: false });
            }
            let names = failure::needs_build(&ended);
            let builds = failure::classify(&ended) == Kind::NeedsBuild && !names.is_empty();
            if !builds || self.request.wheels_only {
                return Err(failure::error(&ended, "resolving the requirements", &asked));
            }
            return self.build(scratch, names, &ended, &asked, log).await;
        }
        let nothing = luthier_host::Outcome {
            exit_code: None,
            signal: None,
            timed_out: false,
            output: String::new(),
        };
        self.build(scratch, BTreeSet::new(), &nothing, &asked, log)
            .await
    }

    /// Resolves with `names`, and what the package wants built, built from source.
    async fn build(
        &self,
        scratch: &Path,
        mut names: BTreeSet<String>,
        ended: &luthier_host::Outcome,
        asked: &Asked<'_>,
        log: &LogSink,
    ) -> Result<Resolved> {
        let options = &self.requirements.options;
        names.extend(options.from_source.iter().cloned());
        let Some(builder) = source::builder(self.envs, self.image, &options.origins) else {
            return Err(failure::error(ended, "resolving the requirements", asked));
        };
        let may =
            |names: &BTreeSet<String>| {
                match names.iter().find(|n| options.only_wheels.has(n)) {
            None => Ok(()),
            Some(name) => Err(Error::new(
                Code::RequirementsError,
                format!(
                    "{} has no ready-made wheel for the image {}, and the requirements allow \
                     nothing else (`--only-binary {}`)",
                    asked.place(name),
                    self.image.info.uri,
                    if options.only_wheels.is_all() { ":all:" } else { name }
                ),
            )
            .hint(format!(
                "Pin a version of {name} that has a wheel, or remove `--only-binary`: then it is \
                 built from its source in a container."
            ))
            .evidence(ended.evidence())),
        }
            };
        let text = builder
            .lock(scratch, &self.arguments(), names, may, asked, log)
            .await?;
        let text = self.settled(&text)?;
        Ok(Resolved { text, built: true })
    }

    /// Writes the files that [`COMPILE`] names.
    fn write(&self, scratch: &Path) -> Result<()> {
        fn lines<T: AsRef<str>>(lines: Vec<T>) -> String {
            lines.iter().flat_map(|l| [l.as_ref(), "\n"]).collect()
        }
        let texts = |lines: &'a [crate::requirements::Line]| lines.iter().map(|l| l.text.as_str());
        let replaced = self.replaced.iter().map(String::as_str);
        let keeps = self.keeps.iter().map(|k| k.constraint.as_str());
        let bounds = self.bounds.iter().map(String::as_str);
        let preferred = match &self.image.base {
            Some(base) => lines(base.provided.iter().map(Provided::pin).collect()),
            None => lockfile::canonical(&self.image.lock),
        };
        let files = [
            (
                "requirements.txt",
                lines(texts(&self.requirements.asked).collect()),
            ),
            (
                "image.txt",
                lines(self.kept.iter().copied().chain(replaced).collect()),
            ),
            (
                "constraints.txt",
                lines(
                    keeps
                        .chain(bounds)
                        .chain(texts(&self.requirements.bounds))
                        .collect(),
                ),
            ),
            // The versions already in the output file are preferred.
            ("lock.txt", preferred),
        ];
        for (name, text) in files {
            fs_err::write(scratch.join(name), text)
                .map_err(|e| Error::internal("writing the requirements", e))?;
        }
        Ok(())
    }

    fn arguments(&self) -> Vec<String> {
        let mut args = COMPILE.map(str::to_owned).to_vec();
        args.extend(base::platform(self.image));
        if self.image.base.is_some() {
            args.extend(["--find-links", base::WHEELS].map(str::to_owned));
        }
        if self.requirements.options.pre {
            args.extend(["--prerelease", "allow"].map(str::to_owned));
        }
        args
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            lines: self.requirements.lines().collect(),
            image: self
                .kept
                .iter()
                .copied()
                .chain(self.bounds.iter().map(String::as_str))
                .collect(),
            keeps: self
                .keeps
                .iter()
                .map(|k| (k.constraint.as_str(), k.library.as_str()))
                .collect(),
            uri: &self.image.info.uri,
            addresses: self.envs.options.sources.addresses(),
            offline: self.envs.options.sources.offline,
        }
    }

    /// The lock of an answer: without what the image has, each file by a hash that is allowed.
    fn settled(&self, text: &str) -> Result<String> {
        match &self.image.base {
            Some(base) => self.hashed(&base::without_provided(base, text)),
            None => self.hashed(text),
        }
    }

    /// Leaves of each pin only the files whose digests the requirements allow.
    fn hashed(&self, text: &str) -> Result<String> {
        let allowed = self.requirements.hashes();
        if allowed.is_empty() {
            return Ok(text.to_owned());
        }
        let mut pins = lockfile::pinned(text);
        for pin in &mut pins {
            let Some(hashes) = allowed.get(pin.name.as_str()) else {
                continue;
            };
            let found = pin.hashes.clone();
            pin.hashes.retain(|hash| hashes.contains(hash));
            if pin.hashes.is_empty() {
                let line = self.requirements.lines().find(|l| l.name == pin.name);
                let list: String = found.iter().map(|h| format!("  sha256:{h}\n")).collect();
                return Err(Error::new(
                    Code::RequirementsError,
                    format!(
                        "no file of {} has a hash that {} allows",
                        pin.text,
                        line.map_or("the requirements".to_owned(), |l| l.place())
                    ),
                )
                .hint(
                    "The index may hold other files than where the hashes were made. Correct the \
                     hashes, or remove them: what is resolved is locked with hashes in any case.",
                )
                .evidence(luthier_types::Evidence::output(&format!(
                    "{} has files with these hashes:\n{list}",
                    pin.text
                ))));
            }
        }
        Ok(lockfile::text(&pins))
    }
}

/// The arguments of `uv` that resolve the files written by [`Question::write`]; what may be built,
/// from where, and for which interpreter is the caller's.
const COMPILE: [&str; 11] = [
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
];

/// The log without the lines of the lock, which `uv` says as well as writes.
pub(crate) fn shown(log: &LogSink) -> LogSink {
    let log = log.clone();
    LogSink::new(move |line| {
        if let Some(line) = source::shown(line) {
            log.line(line);
        }
    })
}

/// Writes a record whole or not at all.
fn write(envs: &UvEnvs, record: &Path, text: &str) -> Result<()> {
    let staged = Staged::new(&envs.layout().staging(), "record")?;
    let new = staged.scratch().join("record");
    let parent = record.parent().unwrap_or(envs.layout().root());
    fs_err::create_dir_all(parent)
        .and_then(|()| fs_err::write(&new, text))
        .and_then(|()| fs_err::rename(&new, record))
        .map_err(|e| Error::internal(format!("writing {}", record.display()), e))
}
