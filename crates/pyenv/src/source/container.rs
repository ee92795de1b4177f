//! The container in which packages are built.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use luthier_host::{
    Outcome, Staged,
    container::{Ended, labels, remove_abandoned, run},
    find_uv, mask_credentials, uv_settings,
};
use luthier_ports::{ContainerId, ContainerSpec, LogSink, Mount, Network};
use luthier_types::{Code, Digest, Error, Mebibytes, Millicpu, Result, layout::container};

use super::{
    Builder,
    gate::{self, Gate},
};
use crate::{
    base,
    failure::{self, Asked},
    sources::shown_settings,
};

/// Where the container sees `uv` and the files it starts from.
const INPUT: &str = "/opt/luthier/build";
/// Where it may write.
const WORK: &str = "/opt/luthier/work";
/// Where it sees the server's wheelhouse.
const WHEELHOUSE: &str = "/opt/luthier/wheelhouse";
/// Where it sees the way to the network.
const GATE: &str = "/opt/luthier/gate";
/// The port of its loopback on which the way to the network begins.
const PORT: &str = "3128";
/// Resolves, if there is something to resolve, then installs the packages named in `$NAMES`, so that
/// their wheels are in the cache. What a build says comes out as it is said.
const SCRIPT: &str = r#"
set -eu
cd "$WORK"
mkdir -p tmp
cp "$INPUT"/*.txt .
if [ -d "$INPUT/provided" ]; then cp -r "$INPUT/provided" .; fi
set -f
"$PYTHON" -I "$INPUT/forward.py" "$GATE" "$PORT" "$WORK/tmp/ready" &
tries=0
while [ ! -e "$WORK/tmp/ready" ] && [ $tries -lt 600 ]; do sleep 0.05; tries=$((tries + 1)); done
export http_proxy="http://127.0.0.1:$PORT" https_proxy="http://127.0.0.1:$PORT"
export HTTP_PROXY="$http_proxy" HTTPS_PROXY="$https_proxy"
export RUST_LOG=uv_build_frontend=debug
if [ "$RESOLVE" = yes ]; then
  "$INPUT/uv" "$@" $SOURCES --only-binary :all: $FROM_SOURCE --python "$PYTHON"
fi
awk -v names=" $NAMES " '/^[A-Za-z0-9]/ { split($1, pin, "=="); keep = index(names, " " pin[1] " ") } keep' lock.txt > source.txt
"$INPUT/uv" pip install --no-deps --require-hashes $SOURCES --only-binary :all: $FROM_SOURCE --target target --python "$PYTHON" -r source.txt
"#;

/// How a build container ended.
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    out_of_memory: bool,
}

impl Ran {
    /// The error it ended with.
    pub(super) fn error(&self, asked: &Asked<'_>) -> Error {
        let error = failure::error(&self.outcome, "building packages from source", asked);
        let mut evidence = error.observed().clone();
        evidence.out_of_memory = self.out_of_memory.then_some(true);
        error.evidence(evidence)
    }
}

/// A line of `uv`'s as it is shown; `None` for the lines of a lock.
pub(crate) fn shown(line: &str) -> Option<&str> {
    let lock = line.contains("--hash=sha256:") || line.ends_with(" \\");
    let line = line.strip_prefix("DEBUG ").unwrap_or(line);
    (!lock && !line.trim().is_empty()).then_some(line)
}

impl Builder<'_> {
    /// Runs the build container to its end.
    pub(super) async fn run(
        &self,
        staged: &Staged,
        inputs: &Path,
        resolve: &[String],
        names: &BTreeSet<String>,
        log: &LogSink,
    ) -> Result<Ran> {
        remove_abandoned(&**self.runtime).await?;
        let rootfs = match &self.envs.options.images {
            Some(images) => images.toolchain(self.image, log).await?,
            None => self.image.rootfs.clone(),
        };
        let gate = Gate::open(self.hosts(inputs), log.clone())
            .map_err(|e| Error::internal("opening a build's way to the index", e))?;
        let spec = self.spec(staged, inputs, resolve, names, &rootfs, &gate)?;
        let mut output = String::new();
        let limit = Some(self.envs.options.build_limit);
        let Ended { exit, timed_out } = run(self.runtime, &spec, limit, |line| {
            let line = mask_credentials(line);
            if let Some(line) = shown(&line) {
                log.line(line);
                output.push_str(line);
                output.push('\n');
            }
        })
        .await?;
        if let Some(cause) = exit.error {
            return Err(Error::new(
                Code::ContainerFailed,
                format!("the build container failed: {cause}"),
            )
            .hint("Run `luthier doctor` on the server; then deploy again."));
        }
        Ok(Ran {
            outcome: Outcome {
                exit_code: exit.code,
                signal: exit.signal,
                timed_out,
                output,
            },
            out_of_memory: exit.out_of_memory,
        })
    }

    fn spec(
        &self,
        staged: &Staged,
        inputs: &Path,
        resolve: &[String],
        names: &BTreeSet<String>,
        rootfs: &Digest,
        gate: &Gate,
    ) -> Result<ContainerSpec> {
        let (input, work) = (
            staged.scratch().join("input"),
            staged.scratch().join("work"),
        );
        let certificates = self
            .fill(inputs, &input, &work)
            .map_err(|e| Error::internal("preparing a build container", e))?;
        let sources = &self.envs.options.sources;
        let house = sources.wheelhouse.as_ref();
        let mut env = self.image.variables();
        env.extend(shown_settings());
        if certificates {
            env.insert(
                "SSL_CERT_FILE".to_owned(),
                format!("{INPUT}/certificates.pem"),
            );
        }
        let list: Vec<&str> = names.iter().map(String::as_str).collect();
        let from_source: Vec<String> = list.iter().map(|n| format!("--no-binary {n}")).collect();
        let arguments = sources.args(self.origins, house.map(|_| Path::new(WHEELHOUSE)));
        let resolves = if resolve.is_empty() { "no" } else { "yes" };
        for (name, value) in [
            ("INPUT", INPUT.to_owned()),
            ("WORK", WORK.to_owned()),
            ("PYTHON", format!("{}/bin/python3", container::PYTHON)),
            ("NAMES", list.join(" ")),
            ("FROM_SOURCE", from_source.join(" ")),
            ("SOURCES", arguments.join(" ")),
            ("GATE", format!("{GATE}/{}", gate::SOCKET)),
            ("PORT", PORT.to_owned()),
            ("RESOLVE", resolves.to_owned()),
            ("HOME", format!("{WORK}/tmp")),
            ("TMPDIR", format!("{WORK}/tmp")),
            ("UV_CACHE_DIR", format!("{WORK}/cache")),
            // The same source gives the same wheel.
            ("SOURCE_DATE_EPOCH", "315532800".to_owned()),
        ] {
            env.insert(name.to_owned(), value);
        }
        let mut args: Vec<String> = ["/bin/sh", "-c", SCRIPT, "sh"].map(str::to_owned).to_vec();
        args.extend_from_slice(resolve);
        let layout = self.envs.layout();
        let mount = |source: PathBuf, target: &str, read_only| Mount {
            source,
            target: target.into(),
            read_only,
        };
        let mut mounts = vec![
            mount(
                layout.interpreter(&self.image.interpreter),
                container::PYTHON,
                true,
            ),
            mount(input, INPUT, true),
            mount(work, WORK, false),
            mount(gate.directory(), GATE, true),
        ];
        mounts.extend(house.map(|house| mount(house.clone(), WHEELHOUSE, true)));
        let unique = Digest::of(staged.scratch().as_os_str().as_encoded_bytes());
        Ok(ContainerSpec {
            id: ContainerId(format!("build-{}", unique.short())),
            rootfs: layout.rootfs(rootfs),
            mounts,
            socket: None,
            args,
            env,
            cwd: "/".into(),
            memory: Mebibytes(2048),
            cpu: Millicpu(1000),
            cpu_cap: false,
            pids: 512,
            scratch: Mebibytes(256),
            network: Network::Loopback,
            labels: labels(),
        })
    }

    /// The hosts that the container may reach: those of the server's indexes, of what the
    /// requirements name, and of the settings.
    fn hosts(&self, inputs: &Path) -> BTreeSet<String> {
        let sources = &self.envs.options.sources;
        if sources.offline {
            return gate::hosts([], &[]);
        }
        let addresses = sources.addresses();
        let origins = self.origins.iter().filter_map(|o| o.split_once(' '));
        let files: Vec<String> = ["requirements.txt", "constraints.txt", "lock.txt"]
            .iter()
            .filter_map(|name| fs_err::read_to_string(inputs.join(name)).ok())
            .collect();
        let wheels = files
            .iter()
            .flat_map(|text| text.split_whitespace())
            .filter(|word| word.starts_with("https://"));
        gate::hosts(
            addresses
                .iter()
                .map(String::as_str)
                .chain(origins.map(|(_, url)| url))
                .chain(wheels),
            &sources.build_hosts,
        )
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
        let provided = inputs.join(base::WHEELS);
        if provided.is_dir() {
            let copies = input.join(base::WHEELS);
            fs_err::create_dir(&copies)?;
            for entry in fs_err::read_dir(provided)? {
                let entry = entry?;
                fs_err::copy(entry.path(), copies.join(entry.file_name()))?;
            }
        }
        fs_err::write(input.join("forward.py"), include_str!("forward.py"))?;
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
}
