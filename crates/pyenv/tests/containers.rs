//! Environments in containers: every preinstalled library imports there, and a package that has
//! no wheel is built there. Needs root. The cache is shared with the other tests.
//!
//! Called as `<program> shim <dir>` this program is a container's shim; called as `<program> build`
//! it builds an environment, to be killed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod index;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use index::Index;
use luthier_host::container::LABEL;
use luthier_images::LocalImages;
use luthier_ports::{
    ContainerId, ContainerRuntime, ContainerSpec, ContainerState, EnvBuilder, Images, LockRequest,
    LogSink, Mount, Network, ResolvedImage,
};
use luthier_pyenv::{Options, Sources, UvEnvs};
use luthier_runtime_oci::OciRuntime;
use luthier_types::{
    Code, Digest, Mebibytes, Millicpu, RequirementFiles,
    layout::{CacheLayout, container},
};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, shim, dir] = args.as_slice()
        && shim == "shim"
    {
        return luthier_runtime_oci::shim_main(Path::new(dir));
    }
    if args.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let executor = tokio::runtime::Runtime::new().unwrap();
    if args.get(1).is_some_and(|a| a == "build") {
        executor.block_on(async {
            let world = World::new();
            let image = world.image(KILLED_IMAGE).await;
            world.env(&image, Some(KILLED)).await;
        });
        return ExitCode::SUCCESS;
    }
    // `cargo test --test containers -- NAME` runs those whose name holds it.
    let wanted = |name: &str| {
        let filters: Vec<_> = args[1..].iter().filter(|a| !a.starts_with('-')).collect();
        filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()))
    };
    macro_rules! run {
        ($world:ident: $($test:ident),+ $(,)?) => {
            $(if wanted(stringify!($test)) {
                $test(&$world).await;
                println!("test {} ... ok", stringify!($test));
            })+
        };
    }
    executor.block_on(async {
        let world = World::new();
        run!(world:
            every_preinstalled_library_imports_in_a_container,
            a_build_reaches_the_index_alone_and_is_heard_as_it_speaks,
            a_package_without_a_wheel_is_built_in_a_container,
            a_damaged_wheel_that_was_built_here_is_built_again,
            a_build_that_fails_is_explained,
            an_abandoned_build_container_is_removed,
            killed_in_the_middle_an_environment_is_absent,
        );
        world.finish().await;
    });
    ExitCode::SUCCESS
}

const KILLED_IMAGE: &str = "md-base/python/python-310:1.0.0";
const KILLED: &str = "cowsay==6.1\n";

async fn killed_in_the_middle_an_environment_is_absent(world: &World) {
    let image = world.image(KILLED_IMAGE).await;
    let place = world.env(&image, Some(KILLED)).await;
    let staging = world.layout.staging();
    let boxes = || -> Vec<PathBuf> {
        let entries = fs_err::read_dir(&staging).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let mut caught = 0;
    // The first moment, when the empty environment is there, and when packages are installed.
    for sign in ["lock", "tree/pyvenv.cfg", "lock.txt"] {
        fs_err::remove_dir_all(&place).unwrap();
        let mut builder = std::process::Command::new(std::env::current_exe().unwrap())
            .arg("build")
            .spawn()
            .unwrap();
        let seen = || boxes().iter().any(|outer| outer.join(sign).exists());
        while !seen() && builder.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        builder.kill().unwrap();
        builder.wait().unwrap();
        if !place.exists() {
            caught += 1;
        }
        assert_eq!(world.env(&image, Some(KILLED)).await, place);
        assert!(place.join("requirements.lock").is_file());
        assert_eq!(boxes(), Vec::<PathBuf>::new(), "killed at `{sign}`");
        let output = world.run(&image, &place, "import cowsay, flask").await;
        assert_eq!(output, "");
    }
    assert!(caught > 0, "no build was killed in the middle");
}

struct World {
    layout: CacheLayout,
    runtime: Arc<dyn ContainerRuntime>,
    images: LocalImages,
    envs: UvEnvs,
    _state: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut options = luthier_runtime_oci::Options::new(
            state.path().join("state"),
            std::env::current_exe().unwrap(),
        );
        options.cgroup_parent = format!("luthier-pyenv-test-{}", std::process::id());
        let runtime: Arc<dyn ContainerRuntime> = Arc::new(OciRuntime::new(options).unwrap());
        let layout = CacheLayout::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
        let images = LocalImages::new(luthier_images::Options::new(layout.clone())).unwrap();
        let envs = UvEnvs::new(Options {
            runtime: Some(Arc::clone(&runtime)),
            ..Options::new(layout.clone())
        });
        Self {
            layout,
            runtime,
            images,
            envs,
            _state: state,
        }
    }

    async fn image(&self, uri: &str) -> ResolvedImage {
        self.images.ensure(uri, &LogSink::none()).await.unwrap()
    }

    async fn env(&self, image: &ResolvedImage, requirements: Option<&str>) -> PathBuf {
        let request = LockRequest {
            image: image.clone(),
            requirements: requirements.map(RequirementFiles::of).unwrap_or_default(),
            wheels_only: false,
        };
        let lock = self.envs.lock(&request, &LogSink::none()).await.unwrap();
        self.envs
            .build(&lock, image, &LogSink::none())
            .await
            .unwrap()
    }

    fn spec(&self, id: &str, image: &ResolvedImage, env: &Path, script: &str) -> ContainerSpec {
        let mount = |source: PathBuf, target: &str| Mount {
            source,
            target: target.into(),
            read_only: true,
        };
        ContainerSpec {
            id: ContainerId(id.to_owned()),
            rootfs: self.layout.rootfs(&image.rootfs),
            mounts: vec![
                mount(
                    self.layout.interpreter(&image.interpreter),
                    container::PYTHON,
                ),
                mount(env.to_owned(), container::ENV),
            ],
            socket: None,
            args: [container::ENV_PYTHON, "-I", "-c", script]
                .map(str::to_owned)
                .to_vec(),
            env: BTreeMap::new(),
            cwd: "/".into(),
            memory: Mebibytes(1024),
            cpu: Millicpu(1000),
            cpu_cap: false,
            pids: 128,
            scratch: Mebibytes(64),
            network: Network::Loopback,
            labels: BTreeMap::new(),
        }
    }

    /// Runs a script with the environment's interpreter in a container; its output.
    async fn run(&self, image: &ResolvedImage, env: &Path, script: &str) -> String {
        let spec = self.spec("once", image, env, script);
        self.runtime.start(&spec).await.unwrap();
        let exit = self.exit(&spec.id).await;
        let output = self.runtime.logs(&spec.id, 200).await.unwrap().join("\n");
        self.runtime.remove(&spec.id).await.unwrap();
        assert_eq!(exit, Some(0), "{output}");
        output
    }

    async fn exit(&self, id: &ContainerId) -> Option<i32> {
        for _ in 0..600 {
            let status = self.runtime.status(id).await.unwrap().unwrap();
            if let ContainerState::Exited(exit) = status.state {
                assert_eq!(exit.error, None);
                return exit.code;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("container {id} does not end");
    }

    async fn finish(self) {
        assert_eq!(self.runtime.list().await.unwrap(), []);
        // The parent of the containers' cgroups, in each hierarchy; empty now.
        let name = format!("luthier-pyenv-test-{}", std::process::id());
        let top = Path::new("/sys/fs/cgroup");
        for entry in fs_err::read_dir(top).unwrap() {
            let group = entry.unwrap().path().join(&name);
            if group.is_dir() {
                fs_err::remove_dir(group).unwrap();
            }
        }
        if top.join(&name).is_dir() {
            fs_err::remove_dir(top.join(&name)).unwrap();
        }
    }
}

async fn every_preinstalled_library_imports_in_a_container(world: &World) {
    let script = "import sys, fiddler, flask, gevent, gunicorn.app.base, \
         prometheus_flask_exporter, pyarrow, pandas, pydantic\n\
         from importlib.metadata import version\n\
         print(sys.prefix, sys.base_prefix)\n\
         print(*(n + '==' + version(n) for n in ['fiddler-client', 'flask', 'gevent', \
         'gunicorn', 'prometheus-flask-exporter', 'pyarrow', 'pydantic']), sep=';')\n\
         print(flask.__cached__, flask.__spec__.loader.get_code('flask').co_filename)";
    for info in world.images.list() {
        if !info.uri.contains("/python-") {
            continue;
        }
        let image = world.image(&info.uri).await;
        let env = world.env(&image, None).await;
        let output = world.run(&image, &env, script).await;
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(
            lines[lines.len() - 3],
            format!("{} {}", container::ENV, container::PYTHON),
            "{output}"
        );
        assert_eq!(lines[lines.len() - 2], info.libraries.join(";"));
        let packages = format!("{}/lib/python{}/site-packages", container::ENV, info.python);
        let tag = info.python.replace('.', "");
        assert_eq!(
            lines[lines.len() - 1],
            format!(
                "{packages}/flask/__pycache__/__init__.cpython-{tag}.pyc \
                 {packages}/flask/__init__.py"
            )
        );
    }
}

async fn a_package_without_a_wheel_is_built_in_a_container(world: &World) {
    let image = world.image("md-base/python/python-311:1.0.0").await;
    // The comment makes no difference to the question; without its record it is asked anew.
    let _ = fs_err::remove_dir_all(world.layout.root().join("requirements"));
    let lines = Arc::new(Mutex::new(vec![]));
    let sink = Arc::clone(&lines);
    let log = LogSink::new(move |line| sink.lock().unwrap().push(line.to_owned()));
    let request = LockRequest {
        image: image.clone(),
        requirements: RequirementFiles::of("docopt==0.6.2\n"),
        wheels_only: false,
    };
    let lock = world.envs.lock(&request, &log).await.unwrap();
    assert!(
        lines
            .lock()
            .unwrap()
            .iter()
            .any(|l| l.contains("no wheel for docopt")),
        "{lines:?}"
    );
    assert!(lock.text.contains("docopt==0.6.2 \\\n"));
    assert!(!lock.text.contains("://"));
    let env = world
        .envs
        .build(&lock, &image, &LogSink::none())
        .await
        .unwrap();
    let output = world
        .run(
            &image,
            &env,
            "import docopt, flask; print(docopt.__version__)",
        )
        .await;
    assert_eq!(output.lines().last(), Some("0.6.2"), "{output}");
    // Resolved once: the answer is on record.
    let again = world.envs.lock(&request, &LogSink::none()).await.unwrap();
    assert_eq!(again, lock);
}

async fn a_build_that_fails_is_explained(world: &World) {
    let image = world.image("md-base/python/python-311:1.0.0").await;
    let request = LockRequest {
        image,
        // Needs a compiler, and this version has no wheel for Python 3.11.
        requirements: RequirementFiles::of("ujson==1.35\n"),
        wheels_only: false,
    };
    let error = world
        .envs
        .lock(&request, &LogSink::none())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::RequirementsError, "{error:?}");
    assert!(
        error.message().contains("built from its source"),
        "{error:?}"
    );
    assert!(error.message().contains("ujson==1.35"), "{error:?}");
    let output = error.observed().output.as_deref().unwrap_or_default();
    assert!(output.contains("ujson"), "{output}");
    assert_eq!(world.runtime.list().await.unwrap(), []);
    let left = fs_err::read_dir(world.layout.staging()).unwrap().count();
    assert_eq!(left, 0, "staged directories are left");
}

/// What a stranger's build does: it tries to get out, then waits for a word of the index.
const CURIOUS: &str = r#"
import os, socket, sys, time, urllib.error, urllib.request
INDEX, OTHER = "http://INDEX", "http://OTHER"
print("luthier-test: step one", flush=True)
for address in [("OTHER_HOST", OTHER_PORT), ("INDEX_HOST", INDEX_PORT), ("1.1.1.1", 443)]:
    try:
        socket.create_connection(address, timeout=5)
    except OSError:
        continue
    sys.exit(f"luthier-test: {address} is reachable")
try:
    urllib.request.urlopen(OTHER + "/go", timeout=5)
    sys.exit("luthier-test: the other address is reachable")
except urllib.error.HTTPError as error:
    assert error.code == 403, error
secrets = [name for name, value in os.environ.items() if "s3cret" in value]
assert not secrets, secrets
for _ in range(600):
    try:
        urllib.request.urlopen(INDEX + "/go", timeout=5)
        break
    except urllib.error.HTTPError as error:
        assert error.code == 404, error
    time.sleep(0.1)
else:
    sys.exit("luthier-test: nobody heard")
print("luthier-test: step two", flush=True)
"#;

async fn a_build_reaches_the_index_alone_and_is_heard_as_it_speaks(world: &World) {
    let mut image = world.image("md-base/python/python-311:1.0.0").await;
    let python = world
        .layout
        .interpreter(&image.interpreter)
        .join("bin/python3");
    image.info.libraries.clear();
    image.lock.clear();
    let files = tempfile::tempdir().unwrap();
    let other = Index::start(files.path(), None);
    other.go();
    let place = |index: &Index| {
        let url = index.url("");
        url.trim_start_matches("http://")
            .trim_end_matches("/simple/")
            .to_owned()
    };
    // The build is to name the index, which starts with the build among its files.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = CURIOUS
        .replace("INDEX_HOST", "127.0.0.1")
        .replace("INDEX_PORT", &address.port().to_string())
        .replace("OTHER_HOST", "127.0.0.1")
        .replace("OTHER_PORT", place(&other).rsplit(':').next().unwrap())
        .replace("http://INDEX", &format!("http://{address}"))
        .replace("http://OTHER", &format!("http://{}", place(&other)));
    index::source(&python, files.path(), "curious", "1.0", &script);
    let index = Arc::new(Index::on(listener, files.path(), None));
    let envs = UvEnvs::new(Options {
        sources: Sources {
            index: Some(index.url("bob:s3cret@")),
            ..Sources::default()
        },
        ..world.envs.options().clone()
    });
    let lines = Arc::new(Mutex::new(vec![]));
    let (sink, heard) = (Arc::clone(&lines), Arc::clone(&index));
    let log = LogSink::new(move |line| {
        sink.lock().unwrap().push(line.to_owned());
        // The build goes on only when its first line has arrived here.
        if line.contains("luthier-test: step one") {
            heard.go();
        }
    });
    let request = |wheels_only| LockRequest {
        image: image.clone(),
        requirements: RequirementFiles::of("curious==1.0\n"),
        wheels_only,
    };
    let refused = envs.lock(&request(true), &log).await.unwrap_err();
    assert!(
        refused.message().contains("no ready-made wheel"),
        "{refused}"
    );
    let lock = envs
        .lock(&request(false), &log)
        .await
        .unwrap_or_else(|e| panic!("{e:?} {lines:?}"));
    let lines = lines.lock().unwrap().clone();
    assert!(lines.iter().any(|l| l.contains("luthier-test: step two")));
    assert!(lines.iter().any(|l| l.contains("a build may not reach")));
    assert_eq!(lock.text.matches("--hash").count(), 1, "{}", lock.text);

    // The lock says nothing of the wheel: another machine, which has none, builds its own.
    let env = envs.build(&lock, &image, &LogSink::none()).await.unwrap();
    fs_err::remove_dir_all(&env).unwrap();
    fs_err::remove_dir_all(world.layout.root().join("wheels")).unwrap();
    let env = envs.build(&lock, &image, &log).await.unwrap();
    assert!(
        env.join("lib/python3.11/site-packages/curious.py")
            .is_file()
    );
    assert_eq!(world.runtime.list().await.unwrap(), []);
}

async fn a_damaged_wheel_that_was_built_here_is_built_again(world: &World) {
    let mut image = world.image("md-base/python/python-311:1.0.0").await;
    image.info.libraries.clear();
    image.lock.clear();
    let files = tempfile::tempdir().unwrap();
    let interpreter = world.layout.interpreter(&image.interpreter);
    index::source(
        &interpreter.join("bin/python3"),
        files.path(),
        "plain",
        "1.0",
        "",
    );
    let index = Index::start(files.path(), None);
    // A cache of its own, so that no other test's wheels are in it.
    let own = tempfile::tempdir_in(world.layout.root()).unwrap();
    let layout = CacheLayout::new(own.path());
    for (from, to) in [
        (&interpreter, layout.interpreter(&image.interpreter)),
        (
            &world.layout.rootfs(&image.rootfs),
            layout.rootfs(&image.rootfs),
        ),
    ] {
        fs_err::create_dir_all(to.parent().unwrap()).unwrap();
        fs_err::os::unix::fs::symlink(from, to).unwrap();
    }
    let envs = UvEnvs::new(Options {
        layout: layout.clone(),
        sources: Sources {
            index: Some(index.url("")),
            ..Sources::default()
        },
        ..world.envs.options().clone()
    });
    let request = LockRequest {
        image: image.clone(),
        requirements: RequirementFiles::of("plain==1.0\n"),
        wheels_only: false,
    };
    let lock = envs.lock(&request, &LogSink::none()).await.unwrap();
    let build = async || {
        let _ = fs_err::remove_dir_all(layout.env(&lock.id));
        let lines = Arc::new(Mutex::new(vec![]));
        let sink = Arc::clone(&lines);
        let log = LogSink::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        let env = envs
            .build(&lock, &image, &log)
            .await
            .unwrap_or_else(|e| panic!("{e:?} {lines:?}"));
        let module = env.join("lib/python3.11/site-packages/plain.py");
        let module = fs_err::read_to_string(module).unwrap();
        assert_eq!(module, "VERSION = '1.0'\n");
        lines.lock().unwrap().join("\n")
    };
    build().await;
    let wheel = || {
        let mut place = layout.root().join("wheels");
        while !place.join("plain-1.0-py3-none-any.whl").exists() {
            let mut entries = fs_err::read_dir(&place).unwrap();
            place = entries.next().unwrap().unwrap().path();
            assert!(entries.next().is_none(), "one wheel is kept");
        }
        place.join("plain-1.0-py3-none-any.whl")
    };
    let digest = || Digest::of(fs_err::read(wheel()).unwrap());
    let built = digest();
    type Ruin = fn(&Path);
    let ruin: [(&str, Ruin); 3] = [
        ("a bit changed", change),
        ("cut", |file| {
            let bytes = fs_err::read(file).unwrap();
            fs_err::write(file, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("gone", |file| fs_err::remove_file(file).unwrap()),
    ];
    for (what, ruin) in ruin {
        ruin(&wheel());
        let said = build().await;
        assert!(
            said.contains("damaged in the cache: the wheel of plain")
                && said.contains("no wheel for plain; building from source in a container"),
            "{what}: {said}"
        );
        assert_eq!(digest(), built, "{what}");
        let said = build().await;
        assert!(
            !said.contains("damaged")
                && !said.contains("fetching")
                && !said.contains("from source"),
            "{what}: it is mended once: {said}"
        );
        assert_eq!(fs_err::read_dir(layout.staging()).unwrap().count(), 0);
    }
    // Changed so that the file system does not tell, and the installer has to read it.
    let before = fs_err::metadata(wheel()).unwrap().modified().unwrap();
    change(&wheel());
    let changed = fs_err::File::options().write(true).open(wheel()).unwrap();
    changed.file().set_modified(before).unwrap();
    fs_err::remove_dir_all(layout.installer_cache()).unwrap();
    let said = build().await;
    assert!(
        said.contains("damaged in the cache: the wheel of plain"),
        "{said}"
    );
    assert_eq!(digest(), built);
    assert_eq!(world.runtime.list().await.unwrap(), []);
}

/// Changes a bit in the middle of a file.
fn change(file: &Path) {
    let mut bytes = fs_err::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(file, bytes).unwrap();
}

async fn an_abandoned_build_container_is_removed(world: &World) {
    let image = world.image("md-base/python/python-311:1.0.0").await;
    let env = world.env(&image, None).await;
    let mut spec = world.spec(
        "build-abandoned",
        &image,
        &env,
        "import time; time.sleep(1e6)",
    );
    // No process has this id: it is above the kernel's greatest.
    spec.labels.insert(LABEL.to_owned(), "999999999".to_owned());
    world.runtime.start(&spec).await.unwrap();
    let _ = fs_err::remove_dir_all(world.layout.root().join("requirements"));
    let request = LockRequest {
        image,
        requirements: RequirementFiles::of("docopt==0.6.2\n"),
        wheels_only: false,
    };
    world.envs.lock(&request, &LogSink::none()).await.unwrap();
    assert_eq!(world.runtime.status(&spec.id).await.unwrap(), None);
}
