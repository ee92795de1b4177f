//! The environments of a machine as a store, made for real in caches of their own: what is listed,
//! collected, checked and rebuilt, with builds and collections that are killed and disks that are
//! full. The disks are mounted, which needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use luthier_host::FileLock;
use luthier_images::LocalImages;
use luthier_ports::{EnvBuilder, Images, Lock, LogSink, ResolvedImage};
use luthier_pyenv::{Options, UvEnvs};
use luthier_types::{Code, Digest, EnvId, layout::CacheLayout};

const PACKAGES: &str = "lib/python3.11/site-packages";

/// A cache of this test's own, with the interpreter of the cache that the tests share.
struct World {
    layout: CacheLayout,
    image: ResolvedImage,
    lines: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let root = dir.path().join("cache");
        fs_err::create_dir(&root).unwrap();
        Self::at(root, dir).await
    }

    async fn at(root: PathBuf, dir: tempfile::TempDir) -> Self {
        let layout = CacheLayout::new(root);
        let image = image().await;
        adopt(&layout, &image);
        Self {
            layout,
            image,
            lines: Arc::default(),
            _dir: dir,
        }
    }

    fn envs(&self) -> UvEnvs {
        UvEnvs::new(Options::new(self.layout.clone()))
    }

    fn log(&self) -> LogSink {
        let lines = Arc::clone(&self.lines);
        LogSink::new(move |line| lines.lock().unwrap().push(line.to_owned()))
    }

    fn told(&self, words: &str) -> bool {
        self.lines.lock().unwrap().iter().any(|l| l.contains(words))
    }

    fn lock(&self, names: &[&str]) -> Lock {
        lock(&self.image, names)
    }

    async fn build(&self, names: &[&str]) -> PathBuf {
        let lock = self.lock(names);
        let built = self.envs().build(&lock, &self.image, &self.log()).await;
        built.unwrap_or_else(|e| panic!("{} {:?}", e.public_text(), self.lines))
    }

    /// As if nobody had asked for any environment lately.
    fn let_time_pass(&self) {
        let before = SystemTime::now() - Duration::from_secs(2 * 3600);
        for directory in ["envs", "requirements", "wheels"] {
            let Ok(entries) = fs_err::read_dir(self.layout.root().join(directory)) else {
                continue;
            };
            for entry in entries {
                let file = fs_err::File::open(entry.unwrap().path()).unwrap();
                file.file().set_modified(before).unwrap();
            }
        }
    }

    fn staged(&self) -> usize {
        fs_err::read_dir(self.layout.staging()).map_or(0, Iterator::count)
    }

    /// The file of the installer's cache that is `path` in an environment.
    fn cached(&self, env: &Path, path: &str) -> PathBuf {
        let wanted = inode(&env.join(PACKAGES).join(path));
        let all = files(&self.layout.installer_cache());
        let found = all.into_iter().find(|file| inode(file) == wanted);
        found.unwrap_or_else(|| panic!("{path} is not in the installer's cache"))
    }

    fn child(&self, what: &str, names: &[&str]) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env("LUTHIER_TEST_CHILD", what)
            .env("LUTHIER_TEST_CACHE_ROOT", self.layout.root())
            .env("LUTHIER_TEST_NAMES", names.join(" "))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

async fn image() -> ResolvedImage {
    let shared = CacheLayout::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    let images = LocalImages::new(luthier_images::Options::new(shared)).unwrap();
    let uri = "md-base/python/python-311:1.0.0";
    images.ensure(uri, &LogSink::none()).await.unwrap()
}

/// Gives a cache the interpreter of the shared one.
fn adopt(layout: &CacheLayout, image: &ResolvedImage) {
    let shared = CacheLayout::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    let interpreter = layout.interpreter(&image.interpreter);
    fs_err::create_dir_all(interpreter.parent().unwrap()).unwrap();
    let shared = shared.interpreter(&image.interpreter);
    fs_err::os::unix::fs::symlink(shared, interpreter).unwrap();
}

/// A lock of some libraries of the image, as the image's own lock has them.
fn lock(image: &ResolvedImage, names: &[&str]) -> Lock {
    let mut text = String::new();
    let mut wanted = false;
    for line in image
        .lock
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        if let Some((name, _)) = line.split_once("==") {
            wanted = names.contains(&name);
        }
        if wanted {
            text.push_str(&format!("{line}\n"));
        }
    }
    for name in names {
        assert!(
            text.contains(&format!("{name}==")),
            "{name} is in the image"
        );
    }
    Lock {
        id: EnvId::new(&image.digest, &text, "test"),
        text,
        image: image.digest.clone(),
        origins: vec![],
    }
}

/// Done by this program when another test starts it as a process of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the other tests"]
async fn child() {
    let Ok(what) = std::env::var("LUTHIER_TEST_CHILD") else {
        return;
    };
    let layout = CacheLayout::new(std::env::var("LUTHIER_TEST_CACHE_ROOT").unwrap());
    let names = std::env::var("LUTHIER_TEST_NAMES").unwrap();
    let names: Vec<&str> = names.split_whitespace().collect();
    let envs = UvEnvs::new(Options::new(layout));
    let log = LogSink::new(|line| println!("{line}"));
    if what == "collect" {
        envs.collect(&BTreeSet::new(), &log).await.unwrap();
        return;
    }
    let image = image().await;
    let lock = lock(&image, &names);
    let builds = (0..4).map(|_| {
        let (envs, lock, image, log) = (envs.clone(), lock.clone(), image.clone(), log.clone());
        tokio::spawn(async move { envs.build(&lock, &image, &log).await.unwrap() })
    });
    for build in builds.collect::<Vec<_>>() {
        build.await.unwrap();
    }
}

/// Kills a child when `is_time` says so; whether it was still running.
async fn kill_when(mut child: Child, is_time: impl Fn() -> bool) -> bool {
    while !is_time() && child.try_wait().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

fn inode(path: &Path) -> u64 {
    fs_err::symlink_metadata(path).unwrap().ino()
}

/// Every file below a directory, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        if fs_err::symlink_metadata(&path).unwrap().is_dir() {
            let entries = fs_err::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What an environment holds, by path: contents, or where a link leads.
fn contents(env: &Path) -> BTreeMap<PathBuf, Digest> {
    let digest = |path: &Path| match fs_err::read_link(path) {
        Ok(target) => Digest::of(target.as_os_str().as_encoded_bytes()),
        Err(_) => Digest::of(fs_err::read(path).unwrap()),
    };
    files(env)
        .into_iter()
        .map(|path| (path.strip_prefix(env).unwrap().to_owned(), digest(&path)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_are_listed_with_what_each_takes_alone() {
    let world = World::new().await;
    assert_eq!(world.envs().list().await.unwrap(), []);
    let one = world.build(&["six", "idna"]).await;
    world.build(&["six", "idna", "click"]).await;
    let list = world.envs().list().await.unwrap();
    let figures: Vec<_> = list
        .iter()
        .map(|e| (e.python.as_str(), e.packages))
        .collect();
    assert_eq!(figures, [("3.11", 2), ("3.11", 3)]);
    assert_eq!(world.layout.env(&list[0].id), one);
    // Without the caches and the other environment the first has all its files alone.
    assert!(list[0].alone < list[0].bytes / 2, "{list:?}");
    for directory in ["uv", "bytecode"] {
        fs_err::remove_dir_all(world.layout.root().join(directory)).unwrap();
    }
    fs_err::remove_dir_all(world.layout.env(&list[1].id)).unwrap();
    let alone = world.envs().list().await.unwrap();
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0].alone, alone[0].bytes);
    assert_eq!(alone[0].bytes, list[0].bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bill_of_materials_names_what_is_installed() {
    let world = World::new().await;
    let env = world.build(&["flask", "werkzeug", "markupsafe"]).await;
    let id = world.lock(&["flask", "werkzeug", "markupsafe"]).id;
    assert_eq!(world.layout.env(&id), env);
    let document = world.envs().sbom(&id).await.unwrap().unwrap();
    let again = world.envs().sbom(&id).await.unwrap().unwrap();
    assert_eq!(document, again, "the document is of the environment alone");
    let components = document["components"].as_array().unwrap();
    let purls: Vec<_> = components
        .iter()
        .map(|c| c["purl"].as_str().unwrap())
        .collect();
    let pins = world.lock(&["flask", "werkzeug", "markupsafe"]).versions();
    let expected: Vec<_> = pins
        .iter()
        .map(|(n, v)| format!("pkg:pypi/{n}@{v}"))
        .collect();
    let same = |purl: &&str| expected.iter().any(|e| e == purl);
    assert!(
        purls.len() == 3 && purls.iter().all(same),
        "{purls:?} {expected:?}"
    );
    for component in components {
        assert!(component["licenses"][0].is_object(), "{component:#}");
    }
    let unknown = EnvId(Digest::of("unknown"));
    assert_eq!(world.envs().sbom(&unknown).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_removes_what_nobody_uses_and_nothing_else() {
    let world = World::new().await;
    let kept = world.build(&["six", "idna"]).await;
    let gone = world.build(&["six", "click"]).await;
    let before = contents(&kept);
    let record = world.layout.root().join("requirements");
    fs_err::create_dir_all(&record).unwrap();
    let of_kept = world.lock(&["six", "idna"]);
    fs_err::write(record.join("kept.lock"), &of_kept.text).unwrap();
    fs_err::write(record.join("gone.lock"), "x==1\n").unwrap();
    // As it would be had `six` been built from its source.
    let of_six = built_for(&of_kept.text, "six");
    for wheel in [of_six.as_str(), "b"] {
        let directory = world.layout.root().join("wheels").join(wheel).join("base");
        fs_err::create_dir_all(&directory).unwrap();
        fs_err::write(directory.join("x-1-py3-none-any.whl"), "").unwrap();
    }
    let keep = BTreeSet::from([of_kept.id.clone()]);

    // Just asked for: somebody may be about to use it.
    let none = world.envs().collect(&keep, &world.log()).await.unwrap();
    assert_eq!(none.environments, []);
    world.let_time_pass();
    let id = world.lock(&["six", "click"]).id;
    // Being built, or asked for right now.
    let lock = world.layout.root().join(format!("locks/env-{id}.lock"));
    let held = FileLock::acquire(&lock).await.unwrap();
    let none = world.envs().collect(&keep, &world.log()).await.unwrap();
    assert_eq!(none.environments, []);
    assert!(world.told("is being built; it stays"));
    drop(held);

    let click = world.cached(&gone, "click/__init__.py");
    let six = world.cached(&kept, "six.py");
    let alone = world
        .envs()
        .list()
        .await
        .unwrap()
        .into_iter()
        .find(|e| e.id == id)
        .unwrap()
        .alone;
    let collected = world.envs().collect(&keep, &world.log()).await.unwrap();
    assert_eq!(collected.environments, [id]);
    assert!(
        collected.bytes > alone,
        "{collected:?}: the caches shrink too"
    );
    assert!(!gone.exists() && !click.exists() && six.exists());
    assert_eq!(contents(&kept), before);
    assert!(record.join("kept.lock").exists() && !record.join("gone.lock").exists());
    let wheels = world.layout.root().join("wheels");
    assert!(wheels.join(&of_six).exists() && !wheels.join("b").exists());
    // What is kept is still at hand without the index.
    fs_err::remove_dir_all(&kept).unwrap();
    world.lines.lock().unwrap().clear();
    world.build(&["six", "idna"]).await;
    assert!(!world.told("downloading"), "{:?}", world.lines);
    assert_eq!(contents(&kept), before);

    world.let_time_pass();
    world
        .envs()
        .collect(&BTreeSet::new(), &world.log())
        .await
        .unwrap();
    assert_eq!(world.envs().list().await.unwrap(), []);
    let left: Vec<PathBuf> = ["bytecode", "checked", "uv"]
        .iter()
        .flat_map(|cache| files(&world.layout.root().join(cache)))
        .filter(|path| {
            let text = path.to_string_lossy();
            // Pages of the index, wheels and what points at them; not the cache's own furniture.
            !text.contains("/uv/")
                || ["/archive-", "/wheels-", "/simple-"]
                    .iter()
                    .any(|b| text.contains(b))
        })
        .filter(|path| !path.to_string_lossy().ends_with(".lock"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert_eq!(world.staged(), 0);
    assert_eq!(contents(&world.build(&["six", "idna"]).await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caches_stay_while_an_environment_is_built() {
    let world = World::new().await;
    let env = world.build(&["six"]).await;
    world.let_time_pass();
    let six = world.cached(&env, "six.py");
    let building = FileLock::share(&world.layout.root().join("locks/caches.lock"))
        .await
        .unwrap();
    let collected = world
        .envs()
        .collect(&BTreeSet::new(), &world.log())
        .await
        .unwrap();
    assert_eq!(collected.environments.len(), 1);
    assert!(six.exists() && world.told("caches are left for the next time"));
    drop(building);
    world
        .envs()
        .collect(&BTreeSet::new(), &world.log())
        .await
        .unwrap();
    assert!(!six.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_killed_at_any_moment_leaves_environments_whole_or_absent() {
    let world = World::new().await;
    let sets: [&[&str]; 3] = [&["six", "click"], &["idna", "pytz"], &["six", "pytz"]];
    let mut whole = BTreeMap::new();
    for names in sets {
        let env = world.build(names).await;
        whole.insert(env.clone(), contents(&env));
    }
    let mut caught = 0;
    for left in [3, 2, 1, 0] {
        for names in sets {
            world.build(names).await;
        }
        world.let_time_pass();
        let there = || whole.keys().filter(|env| env.exists()).count();
        let collector = world.child("collect", &[]);
        caught += usize::from(kill_when(collector, || there() <= left).await);
        for (env, before) in &whole {
            if env.exists() {
                assert_eq!(&contents(env), before, "killed with {left} left");
            }
        }
    }
    assert!(caught > 0, "no collection was killed in the middle");
    world.let_time_pass();
    world
        .envs()
        .collect(&BTreeSet::new(), &world.log())
        .await
        .unwrap();
    assert_eq!(world.staged(), 0);
    for (env, before) in &whole {
        assert!(!env.exists());
        let names = sets
            .into_iter()
            .find(|names| world.layout.env(&world.lock(names).id) == *env);
        assert_eq!(&contents(&world.build(names.unwrap()).await), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_installers_cache_is_found_and_mended_everywhere() {
    let world = World::new().await;
    let one = world.build(&["six", "idna"]).await;
    let good = contents(&one);
    type Ruin = fn(&Path);
    let ruin: [(&str, Ruin); 4] = [
        ("a byte changed", |file| {
            let mut bytes = fs_err::read(file).unwrap();
            bytes[100] ^= 1;
            fs_err::write(file, bytes).unwrap();
        }),
        ("cut", |file| fs_err::write(file, "").unwrap()),
        ("gone", |file| fs_err::remove_file(file).unwrap()),
        ("without a record", |file| {
            let info = fs_err::read_dir(file.parent().unwrap())
                .unwrap()
                .map(|e| e.unwrap().path());
            let mut info = info.filter(|path| path.extension().is_some_and(|e| e == "dist-info"));
            fs_err::write(info.next().unwrap().join("RECORD"), "").unwrap();
        }),
    ];
    for ((what, ruin), third) in
        ruin.into_iter()
            .zip(["click", "pytz", "itsdangerous", "markupsafe"])
    {
        ruin(&world.cached(&one, "six.py"));
        world.lines.lock().unwrap().clear();
        let other = world.build(&["six", third]).await;
        assert!(
            world.told("damaged in the cache: six; fetching again"),
            "{what} {:?}",
            world.lines
        );
        let six = Path::new(PACKAGES).join("six.py");
        assert_eq!(contents(&other)[&six], good[&six], "{what}");
        // The environment that was there shared the file.
        assert_eq!(contents(&one), good, "{what}");
        assert_eq!(world.staged(), 0);
        // `gone` and `without a record` left the first environment's file a name of its own.
        fs_err::remove_dir_all(&one).unwrap();
        world.lines.lock().unwrap().clear();
        assert_eq!(
            contents(&world.build(&["six", "idna"]).await),
            good,
            "{what}"
        );
        assert!(!world.told("damaged"), "{what}: it is mended once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytecode_is_found_and_mended_everywhere() {
    let world = World::new().await;
    let one = world.build(&["six", "idna"]).await;
    let good = contents(&one);
    let compiled = Path::new(PACKAGES).join("__pycache__/six.cpython-311.pyc");
    let mut bytes = fs_err::read(one.join(&compiled)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(one.join(&compiled), bytes).unwrap();
    let other = world.build(&["six", "click"]).await;
    assert!(world.told("compiled modules in the cache are damaged"));
    for env in [&one, &other] {
        assert_eq!(contents(env)[&compiled], good[&compiled]);
    }
    assert_eq!(inode(&one.join(&compiled)), inode(&other.join(&compiled)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = Disk::mount(dir.path().join("disk"));
    // Dropped before the disk is, and that before the directory it is mounted in.
    let own = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let world = World::at(disk.place.clone(), own).await;
    let names = ["six", "idna", "pytz", "click", "werkzeug"];
    let lock = world.lock(&names);
    let mut failures = 0;
    for kibibytes in [
        64, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 65536,
    ] {
        disk.resize(kibibytes);
        let built = world.envs().build(&lock, &world.image, &world.log()).await;
        assert_eq!(world.staged(), 0, "with {kibibytes} KiB");
        let Err(error) = built else { break };
        failures += 1;
        assert_eq!(
            error.code(),
            Code::CapacityExceeded,
            "{kibibytes}: {error:?}"
        );
        assert!(error.message().contains("the disk is full"), "{error:?}");
        assert!(!world.layout.env(&lock.id).exists());
    }
    assert!(failures > 2, "the disk was full at several moments");
    let env = world.build(&names).await;
    let elsewhere = World::new().await;
    assert_eq!(contents(&env), contents(&elsewhere.build(&names).await));
}

/// A small file system of its own.
struct Disk {
    place: PathBuf,
}

impl Disk {
    fn mount(place: PathBuf) -> Self {
        fs_err::create_dir(&place).unwrap();
        let disk = Self { place };
        disk.run(&["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs"]);
        disk
    }

    fn resize(&self, kibibytes: u32) {
        let size = format!("remount,size={kibibytes}k");
        self.run(&["mount", "-o", &size]);
    }

    fn run(&self, command: &[&str]) {
        let mut program = Command::new(command[0]);
        let ended = program
            .args(&command[1..])
            .arg(&self.place)
            .status()
            .unwrap();
        assert!(ended.success(), "{command:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .args(["-l"])
            .arg(&self.place)
            .status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_killed_at_any_moment_is_done_by_the_next() {
    let world = World::new().await;
    let names = ["six", "click", "werkzeug"];
    let env = world.build(&names).await;
    let good = contents(&env);
    let mut caught = 0;
    let signs = [
        "lock",
        "tree/pyvenv.cfg",
        "lock.txt",
        "tree/lib/python3.11/site-packages/click",
        "modules.txt",
    ];
    for sign in signs {
        fs_err::remove_dir_all(&env).unwrap();
        let _ = fs_err::remove_dir_all(world.layout.root().join("bytecode"));
        let seen = || {
            let boxes = fs_err::read_dir(world.layout.staging()).unwrap();
            boxes
                .flatten()
                .any(|outer| outer.path().join(sign).exists())
        };
        let builder = world.child("build", &names);
        caught += usize::from(kill_when(builder, seen).await);
        if env.exists() {
            assert_eq!(contents(&env), good, "killed at `{sign}`");
        }
        assert_eq!(
            contents(&world.build(&names).await),
            good,
            "killed at `{sign}`"
        );
        // What the killed left is swept by whoever builds next.
        fs_err::remove_dir_all(&env).unwrap();
        world.build(&names).await;
        assert_eq!(world.staged(), 0, "killed at `{sign}`");
    }
    assert!(caught > 2, "{caught} builds were killed in the middle");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_one_builds() {
    let world = World::new().await;
    let names = ["six", "click"];
    // Each process asks with four tasks at once.
    let children: Vec<Child> = (0..4).map(|_| world.child("build", &names)).collect();
    let mut lines = String::new();
    for mut child in children {
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut lines)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{lines}");
    }
    let count = |words: &str| lines.lines().filter(|line| line.contains(words)).count();
    assert_eq!(count("building environment"), 1, "{lines}");
    assert_eq!(count("is there already"), 15, "{lines}");
    assert_eq!(world.staged(), 0);
}

/// The directory of what was built for the pin of `name`: the digest of the pin and its hashes.
fn built_for(lock: &str, name: &str) -> String {
    let mut lines = lock
        .lines()
        .skip_while(|line| !line.starts_with(&format!("{name}==")))
        .map(|line| line.trim().trim_end_matches('\\').trim_end());
    let pin = lines.next().unwrap().to_owned();
    let mut hashes: Vec<String> = lines
        .map_while(|line| line.strip_prefix("--hash=sha256:"))
        .map(str::to_owned)
        .collect();
    hashes.sort();
    Digest::of_fields(["1".to_owned(), pin].into_iter().chain(hashes)).to_string()
}
