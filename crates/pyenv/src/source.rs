//! Packages that the index has as source only: built into wheels inside a container.
//!
//! The container has the image's interpreter, the network, a cache of its own and nothing else: what
//! a build leaves in a shared cache would be installed for others. Credentials of the server's
//! indexes stay outside, so a private index serves wheels only. What comes out is a wheel file
//! whose digest goes into the lock; the host installs it without running anything of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use luthier_host::{Outcome, Staged, find_uv, mask_credentials, uv_settings};
use luthier_ports::{
    ContainerId, ContainerRuntime, ContainerSpec, ContainerState, LogSink, Mount, Network,
    ResolvedImage, normalised,
};
use luthier_types::{Code, Digest, Error, Mebibytes, Millicpu, Result, layout::container};

use crate::{
    UvEnvs,
    failure::{self, Asked, Kind},
    lockfile,
    resolve::COMPILE,
};

/// Where the container sees `uv` and the files it starts from.
const INPUT: &str = "/opt/luthier/build";
/// Where it may write.
const WORK: &str = "/opt/luthier/work";
/// The label of build containers: the process id of the server that waits for it.
pub const LABEL: &str = "luthier.build";
const POLL: Duration = Duration::from_millis(100);
/// Most rounds in which one more package turns out to need building.
const ROUNDS: usize = 10;
/// Largest wheel that is taken over, in bytes.
const WHEEL_BYTES: u64 = 2 << 30;
/// Resolves, then installs the packages named in `$NAMES`, so that their wheels are in the cache.
const SCRIPT: &str = r#"
set -eu
cd "$WORK"
mkdir -p tmp
cp "$INPUT"/*.txt .
"$INPUT/uv" "$@" --only-binary :all: $FROM_SOURCE --python "$PYTHON"
awk -v names=" $NAMES " '/^[A-Za-z0-9]/ { split($1, pin, "=="); keep = index(names, " " pin[1] " ") } keep' lock.txt > source.txt
"$INPUT/uv" pip install --no-deps --require-hashes --only-binary :all: $FROM_SOURCE --quiet --target target --python "$PYTHON" -r source.txt
"#;

/// Builds for one image.
pub(crate) struct Builder<'a> {
    pub(crate) envs: &'a UvEnvs,
    pub(crate) image: &'a ResolvedImage,
    pub(crate) runtime: &'a Arc<dyn ContainerRuntime>,
}

impl Builder<'_> {
    /// Resolves the files in `inputs`, building the packages `names`, and others that turn out to
    /// need it; keeps their wheels. Returns the lock, in which the wheels' digests are.
    pub(crate) async fn lock(
        &self,
        inputs: &Path,
        mut names: BTreeSet<String>,
        asked: &Asked<'_>,
        log: &LogSink,
    ) -> Result<String> {
        for _ in 0..ROUNDS {
            let list: Vec<&str> = names.iter().map(String::as_str).collect();
            log.line(format!(
                "no wheel for {}; building from source in a container",
                list.join(", ")
            ));
            let staged = Staged::new(&self.envs.layout().staging(), "source")?;
            let (ended, out_of_memory) = self.run(&staged, inputs, &names, log).await?;
            if ended.success() {
                return self.collect(&staged.scratch().join("work"), &names).await;
            }
            let before = names.len();
            names.extend(failure::needs_build(&ended));
            if failure::classify(&ended) != Kind::NeedsBuild || names.len() == before {
                let error = failure::error(&ended, "building packages from source", asked);
                let mut evidence = error.observed().clone();
                evidence.out_of_memory = out_of_memory.then_some(true);
                return Err(error.evidence(evidence));
            }
        }
        Err(Error::new(
            Code::RequirementsError,
            "too many requirements have no ready-made wheel",
        )
        .hint("Pin versions that have wheels, in requirements.txt."))
    }

    /// Runs the build container to its end.
    async fn run(
        &self,
        staged: &Staged,
        inputs: &Path,
        names: &BTreeSet<String>,
        log: &LogSink,
    ) -> Result<(Outcome, bool)> {
        self.remove_abandoned().await?;
        let spec = self.spec(staged, inputs, names)?;
        let mut running = Running {
            runtime: Arc::clone(self.runtime),
            id: Some(spec.id.clone()),
        };
        self.runtime.start(&spec).await?;
        let deadline = Instant::now() + self.envs.options.build_limit;
        let mut timed_out = false;
        let exit = loop {
            if let Some(status) = self.runtime.status(&spec.id).await?
                && let ContainerState::Exited(exit) = status.state
            {
                break exit;
            }
            if Instant::now() > deadline {
                timed_out = true;
                self.runtime.stop(&spec.id, Duration::ZERO).await?;
            }
            tokio::time::sleep(POLL).await;
        };
        let mut output = String::new();
        for line in self.runtime.logs(&spec.id, 2000).await? {
            let line = mask_credentials(&line);
            log.line(&line);
            output.push_str(&line);
            output.push('\n');
        }
        running.id = None;
        self.runtime.remove(&spec.id).await?;
        if let Some(cause) = exit.error {
            return Err(Error::new(
                Code::ContainerFailed,
                format!("the build container failed: {cause}"),
            )
            .hint("Run `luthier doctor` on the server; then deploy again."));
        }
        let outcome = Outcome {
            exit_code: exit.code,
            signal: exit.signal,
            timed_out,
            output,
        };
        Ok((outcome, exit.out_of_memory))
    }

    /// Removes build containers whose server is gone.
    async fn remove_abandoned(&self) -> Result<()> {
        for status in self.runtime.list().await? {
            let Some(pid) = status.labels.get(LABEL) else {
                continue;
            };
            if !Path::new("/proc").join(pid).exists() {
                self.runtime.remove(&status.id).await?;
            }
        }
        Ok(())
    }

    fn spec(
        &self,
        staged: &Staged,
        inputs: &Path,
        names: &BTreeSet<String>,
    ) -> Result<ContainerSpec> {
        let (input, work) = (
            staged.scratch().join("input"),
            staged.scratch().join("work"),
        );
        let certificates = self
            .fill(inputs, &input, &work)
            .map_err(|e| Error::internal("preparing a build container", e))?;
        let mut env = self.settings();
        if certificates {
            env.insert(
                "SSL_CERT_FILE".to_owned(),
                format!("{INPUT}/certificates.pem"),
            );
        }
        let list: Vec<&str> = names.iter().map(String::as_str).collect();
        let from_source: Vec<String> = list.iter().map(|n| format!("--no-binary {n}")).collect();
        for (name, value) in [
            ("INPUT", INPUT.to_owned()),
            ("WORK", WORK.to_owned()),
            ("PYTHON", format!("{}/bin/python3", container::PYTHON)),
            ("NAMES", list.join(" ")),
            ("FROM_SOURCE", from_source.join(" ")),
            ("HOME", format!("{WORK}/tmp")),
            ("TMPDIR", format!("{WORK}/tmp")),
            ("UV_CACHE_DIR", format!("{WORK}/cache")),
            // The same source gives the same wheel.
            ("SOURCE_DATE_EPOCH", "315532800".to_owned()),
        ] {
            env.insert(name.to_owned(), value);
        }
        let mut args: Vec<String> = ["/bin/sh", "-c", SCRIPT, "sh"].map(str::to_owned).to_vec();
        args.extend(COMPILE.map(str::to_owned));
        let layout = self.envs.layout();
        let mount = |source: PathBuf, target: &str, read_only| Mount {
            source,
            target: target.into(),
            read_only,
        };
        let unique = Digest::of(staged.scratch().as_os_str().as_encoded_bytes());
        Ok(ContainerSpec {
            id: ContainerId(format!("build-{}", unique.short())),
            rootfs: layout.rootfs(&self.image.rootfs),
            mounts: vec![
                mount(
                    layout.interpreter(&self.image.interpreter),
                    container::PYTHON,
                    true,
                ),
                mount(input, INPUT, true),
                mount(work, WORK, false),
            ],
            args,
            env,
            cwd: "/".into(),
            memory: Mebibytes(2048),
            cpu: Millicpu(1000),
            cpu_cap: false,
            pids: 512,
            scratch: Mebibytes(256),
            network: Network::Host,
            labels: BTreeMap::from([(LABEL.to_owned(), std::process::id().to_string())]),
        })
    }

    /// Fills the directories of the container; returns whether there are certificates.
    fn fill(&self, inputs: &Path, input: &Path, work: &Path) -> io::Result<bool> {
        fs_err::create_dir(input)?;
        fs_err::create_dir(work)?;
        for entry in fs_err::read_dir(inputs)? {
            let path = entry?.path();
            if let (Some("txt"), Some(name)) =
                (path.extension().and_then(|e| e.to_str()), path.file_name())
            {
                fs_err::copy(&path, input.join(name))?;
            }
        }
        let uv = self.envs.options.uv.clone().or_else(find_uv);
        let uv = uv.ok_or_else(|| io::Error::other("uv is not installed"))?;
        fs_err::copy(uv, input.join("uv"))?;
        match uv_settings().get("SSL_CERT_FILE") {
            Some(path) => {
                fs_err::copy(path, input.join("certificates.pem"))?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// The settings of `uv` that a stranger's build may see: no credentials, no paths of the host.
    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings: BTreeMap<String, String> = uv_settings()
            .into_iter()
            .filter(|(name, value)| {
                let hidden = ["PATH", "HOME", "NETRC", "UV_CONFIG_FILE", "UV_FIND_LINKS"]
                    .contains(&name.as_str())
                    || name.starts_with("SSL_")
                    || name.ends_with("_PASSWORD")
                    || name.ends_with("_USERNAME");
                !hidden && mask_credentials(value) == *value
            })
            .collect();
        if let Some(index) = &self.envs.options.index
            && mask_credentials(index) == *index
        {
            settings.insert("UV_DEFAULT_INDEX".to_owned(), index.clone());
        }
        settings
    }

    /// Keeps the wheels of `names` and puts their digests into the lock.
    async fn collect(&self, work: &Path, names: &BTreeSet<String>) -> Result<String> {
        let (work, names) = (work.to_owned(), names.clone());
        let layout = self.envs.layout().clone();
        tokio::task::spawn_blocking(move || {
            let failed = |e: io::Error| Error::internal("keeping built wheels", e);
            let lock = fs_err::read_to_string(work.join("lock.txt")).map_err(failed)?;
            let mut lock = lockfile::canonical(&lock);
            let mut found = vec![];
            wheels(&work.join("cache"), 0, &mut found).map_err(failed)?;
            found.sort();
            for path in found {
                let Some(file) = path.file_name().and_then(|f| f.to_str()) else {
                    continue;
                };
                let Some(name) = wheel_name(file).filter(|name| names.contains(name)) else {
                    continue;
                };
                let digest = Digest::of(fs_err::read(&path).map_err(failed)?);
                let place = layout.root().join("wheels").join(digest.as_str());
                if !place.is_dir() {
                    let staged = Staged::new(&layout.staging(), "wheel")?;
                    fs_err::create_dir(staged.path()).map_err(failed)?;
                    fs_err::copy(&path, staged.path().join(file)).map_err(failed)?;
                    staged.publish(&place)?;
                }
                lock = lockfile::with_hash(&lock, &name, &digest);
            }
            Ok(lock)
        })
        .await
        .map_err(|e| Error::internal("keeping built wheels", e))?
    }
}

/// A container that is removed when its waiter goes away.
struct Running {
    runtime: Arc<dyn ContainerRuntime>,
    id: Option<ContainerId>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let (Some(id), Ok(handle)) = (self.id.take(), tokio::runtime::Handle::try_current()) else {
            return;
        };
        let runtime = Arc::clone(&self.runtime);
        handle.spawn(async move {
            if let Err(e) = runtime.remove(&id).await {
                tracing::warn!(error = ?e, %id, "could not remove a build container");
            }
        });
    }
}

/// Where the wheels that `lock` was made with lie, as arguments of `uv`.
pub(crate) fn find_links(envs: &UvEnvs, lock: &str) -> Vec<String> {
    let wheels = envs.layout().root().join("wheels");
    if !wheels.is_dir() {
        return vec![];
    }
    lockfile::hashes(lock)
        .into_iter()
        .map(|digest| wheels.join(digest.as_str()))
        .filter(|place| place.is_dir())
        .flat_map(|place| ["--find-links".to_owned(), place.display().to_string()])
        .collect()
}

/// Wheel files below a directory that a stranger's code wrote: links are not followed.
fn wheels(directory: &Path, depth: usize, into: &mut Vec<PathBuf>) -> io::Result<()> {
    if depth > 12 {
        return Ok(());
    }
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() {
            wheels(&path, depth + 1, into)?;
        } else if kind.is_file()
            && path.extension().is_some_and(|e| e == "whl")
            && entry.metadata()?.len() <= WHEEL_BYTES
        {
            into.push(path);
        }
    }
    Ok(())
}

/// The normalised name of the package in a wheel's file name, if that is one.
fn wheel_name(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".whl")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+!-".contains(c);
    let parts = stem.split('-').count();
    let name = stem.split('-').next()?;
    ((5..=6).contains(&parts) && stem.chars().all(plain)).then(|| normalised(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_wheels_only() {
        assert_eq!(
            wheel_name("zope.event-5.0-py3-none-any.whl").as_deref(),
            Some("zope-event")
        );
        for wrong in [
            "docopt-0.6.2.tar.gz",
            "x.whl",
            "../a-1-py3-none-any.whl",
            "a b-1-py3-none-any.whl",
        ] {
            assert_eq!(wheel_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn links_to_files_of_the_host_are_not_taken_for_wheels() {
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().join("host");
        fs_err::create_dir(&host).unwrap();
        fs_err::write(host.join("a-1-py3-none-any.whl"), "x").unwrap();
        let cache = dir.path().join("cache");
        fs_err::create_dir_all(cache.join("deep")).unwrap();
        fs_err::write(cache.join("deep/b-1-py3-none-any.whl"), "x").unwrap();
        fs_err::os::unix::fs::symlink(&host, cache.join("link")).unwrap();
        fs_err::os::unix::fs::symlink(
            host.join("a-1-py3-none-any.whl"),
            cache.join("c-1-py3-none-any.whl"),
        )
        .unwrap();
        let mut found = vec![];
        wheels(&cache, 0, &mut found).unwrap();
        assert_eq!(found, [cache.join("deep/b-1-py3-none-any.whl")]);
    }
}
