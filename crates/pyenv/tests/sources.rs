//! Where packages come from: a private index, a flaky one, and a wheelhouse with no network at all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod index;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use index::Index;
use luthier_images::LocalImages;
use luthier_ports::{EnvBuilder, Images, Lock, LockRequest, LogSink, ResolvedImage};
use luthier_pyenv::{Options, Sources, UvEnvs};
use luthier_types::{Code, Digest, Error, RequirementFiles, Result, layout::CacheLayout};

const SECRET: &str = "s3cretpassw0rd";

/// A cache of its own, on an image that has an interpreter and no library.
struct World {
    dir: tempfile::TempDir,
    layout: CacheLayout,
    image: ResolvedImage,
    python: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
}

impl World {
    async fn new() -> Self {
        let shared = CacheLayout::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
        let images = LocalImages::new(luthier_images::Options::new(shared.clone())).unwrap();
        let mut image = images
            .ensure("md-base/python/python-311:1.0.0", &LogSink::none())
            .await
            .unwrap();
        image.info.libraries.clear();
        image.lock.clear();
        image.digest = Digest::of("an image without libraries");
        let dir = tempfile::tempdir().unwrap();
        let layout = CacheLayout::new(dir.path().join("cache"));
        let interpreter = layout.interpreter(&image.interpreter);
        fs_err::create_dir_all(interpreter.parent().unwrap()).unwrap();
        fs_err::os::unix::fs::symlink(shared.interpreter(&image.interpreter), &interpreter)
            .unwrap();
        fs_err::create_dir(dir.path().join("files")).unwrap();
        Self {
            python: interpreter.join("bin/python3"),
            layout,
            image,
            dir,
            lines: Arc::default(),
        }
    }

    /// A directory of files, with a wheel of `name`.
    fn files(&self, name: &str, version: &str) -> PathBuf {
        let directory = self.dir.path().join("files");
        index::wheel(&self.python, &directory, name, version);
        directory
    }

    fn envs(&self, sources: Sources) -> UvEnvs {
        UvEnvs::new(Options {
            sources: sources.checked().unwrap(),
            ..Options::new(self.layout.clone())
        })
    }

    fn log(&self) -> LogSink {
        let lines = Arc::clone(&self.lines);
        LogSink::new(move |line| lines.lock().unwrap().push(line.to_owned()))
    }

    async fn lock(&self, sources: Sources, requirements: &str) -> Result<Lock> {
        let request = LockRequest {
            image: self.image.clone(),
            requirements: RequirementFiles::of(requirements),
            wheels_only: false,
        };
        self.envs(sources).lock(&request, &self.log()).await
    }

    async fn build(&self, sources: Sources, lock: &Lock) -> Result<PathBuf> {
        self.envs(sources)
            .build(lock, &self.image, &self.log())
            .await
    }

    /// The files below the cache in which `text` stands.
    fn files_with(&self, text: &str) -> Vec<PathBuf> {
        fn search(dir: &Path, text: &[u8], found: &mut Vec<PathBuf>) {
            for entry in fs_err::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    search(&path, text, found);
                } else if kind.is_file() {
                    let content = fs_err::read(&path).unwrap();
                    if content.windows(text.len()).any(|w| w == text) {
                        found.push(path);
                    }
                }
            }
        }
        let mut found = vec![];
        search(self.layout.root(), text.as_bytes(), &mut found);
        found
    }
}

fn index_only(index: String) -> Sources {
    Sources {
        index: Some(index),
        ..Sources::default()
    }
}

fn has(env: &Path, file: &str) -> bool {
    env.join("lib/python3.11/site-packages")
        .join(file)
        .is_file()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_index_is_used_and_its_password_is_nowhere() {
    let world = World::new().await;
    let files = world.files("ourlib", "1.2");
    let index = Index::start(&files, Some(("bob", SECRET)));

    let told = |error: &Error| {
        assert_eq!(error.code(), Code::IndexUnreachable, "{error:?}");
        assert!(error.message().contains(&index.url("")), "{error}");
        assert!(error.message().contains("401"), "{error}");
        let hint = error.next_step().unwrap();
        assert!(hint.contains("LUTHIER_INDEX_CREDENTIALS"), "{hint}");
        assert!(!format!("{error:?}").contains("wrongpass"), "{error:?}");
    };
    for user in ["", "bob:wrongpass@"] {
        let refused = world
            .lock(index_only(index.url(user)), "ourlib==1.2\n")
            .await;
        told(&refused.unwrap_err());
    }

    // The password in the address.
    let sources = index_only(index.url(&format!("bob:{SECRET}@")));
    let lock = world.lock(sources.clone(), "ourlib\n").await.unwrap();
    assert!(lock.text.starts_with("ourlib==1.2 \\\n"), "{}", lock.text);
    let env = world.build(sources, &lock).await.unwrap();
    assert!(has(&env, "ourlib.py"));
    // In a file of credentials, beside another index; asked anew, fetched anew.
    fs_err::remove_dir_all(&env).unwrap();
    fs_err::remove_dir_all(world.layout.root().join("requirements")).unwrap();
    fs_err::remove_dir_all(world.layout.installer_cache()).unwrap();
    let netrc = world.dir.path().join("netrc");
    fs_err::write(
        &netrc,
        format!("machine 127.0.0.1 login bob password {SECRET}\n"),
    )
    .unwrap();
    let sources = Sources {
        extra: vec![index.url("")],
        credentials: Some(netrc),
        ..Sources::default()
    };
    let again = world.lock(sources.clone(), "ourlib\n").await.unwrap();
    assert_eq!(again.text, lock.text, "the lock does not depend on the way");
    let env = world.build(sources, &again).await.unwrap();
    assert!(has(&env, "ourlib.py"));

    let lines = world.lines.lock().unwrap().join("\n");
    assert!(!lines.contains(SECRET), "{lines}");
    assert_eq!(world.files_with(SECRET), Vec::<PathBuf>::new());
    assert_ne!(world.files_with("VERSION = '1.2'"), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_fails_at_first_is_asked_again() {
    let world = World::new().await;
    let index = Index::start(&world.files("ourlib", "1.2"), None);
    index.fail(2);
    let sources = index_only(index.url(""));
    let lock = world.lock(sources.clone(), "ourlib==1.2\n").await.unwrap();
    assert!(index.requests() > 2);
    index.fail(1);
    let env = world.build(sources.clone(), &lock).await.unwrap();
    assert!(has(&env, "ourlib.py"));

    // The same question is not asked again; another source is another question.
    let before = index.requests();
    world.lock(sources, "ourlib==1.2\n").await.unwrap();
    assert_eq!(index.requests(), before);
    let other = Index::start(&world.files("ourlib", "1.2"), None);
    world
        .lock(index_only(other.url("")), "ourlib==1.2\n")
        .await
        .unwrap();
    assert!(other.requests() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_a_package_names_is_used_beside_the_servers() {
    let world = World::new().await;
    let (mine, theirs) = (
        world.dir.path().join("mine"),
        world.dir.path().join("theirs"),
    );
    for (directory, name, version) in [
        (&mine, "ourlib", "1.0"),
        (&theirs, "ourlib", "2.0"),
        (&theirs, "theirlib", "3.0"),
    ] {
        fs_err::create_dir_all(directory).unwrap();
        index::wheel(&world.python, directory, name, version);
    }
    let (mine, theirs) = (Index::start(&mine, None), Index::start(&theirs, None));
    let requirements = format!(
        "--extra-index-url {}\nourlib==1.0\ntheirlib==3.0\n",
        theirs.url("")
    );
    let sources = index_only(mine.url(""));
    let lock = world.lock(sources.clone(), &requirements).await.unwrap();
    assert!(!lock.text.contains("://") && !lock.text.contains("index"));
    let env = world.build(sources, &lock).await.unwrap();
    assert!(has(&env, "ourlib.py") && has(&env, "theirlib.py"));
}

#[tokio::test(flavor = "multi_thread")]
async fn hashes_of_the_requirements_are_heeded() {
    let world = World::new().await;
    let files = world.files("ourlib", "1.2");
    let right = Digest::of(fs_err::read(files.join("ourlib-1.2-py3-none-any.whl")).unwrap());
    let wrong = Digest::of("another file");
    let index = Index::start(&files, None);
    let ask = |hash: &Digest| format!("\nourlib==1.2 --hash=sha256:{hash}\n");
    let sources = index_only(index.url(""));
    let lock = world.lock(sources.clone(), &ask(&right)).await.unwrap();
    assert!(lock.text.contains(right.as_str()));
    let error = world.lock(sources.clone(), &ask(&wrong)).await.unwrap_err();
    assert_eq!(error.code(), Code::RequirementsError);
    assert!(
        error.message().contains("line 2 of requirements.txt"),
        "{error}"
    );
    assert!(error.public_text().contains(right.as_str()), "{error:?}");

    // A lock whose file has changed since.
    let swapped = Lock {
        text: lock.text.replace(right.as_str(), wrong.as_str()),
        ..lock
    };
    let error = world.build(sources, &swapped).await.unwrap_err();
    assert_eq!(error.code(), Code::RequirementsError, "{error:?}");
    assert!(
        error.message().contains("ourlib==1.2 is not the one"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_network_a_wheelhouse_is_enough() {
    let world = World::new().await;
    let wheelhouse = world.files("ourlib", "1.2");
    // The installer in a network of its own that reaches nothing, not even loopback.
    let uv = luthier_host::find_uv().unwrap();
    let wrapper = world.dir.path().join("uv");
    let script = format!("#!/bin/sh\nexec unshare --net {} \"$@\"\n", uv.display());
    fs_err::write(&wrapper, script).unwrap();
    fs_err::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let sources = Sources {
        index: Some("http://127.0.0.1:9/simple/".to_owned()),
        wheelhouse: Some(wheelhouse.clone()),
        offline: true,
        ..Sources::default()
    };
    let envs = UvEnvs::new(Options {
        uv: Some(wrapper),
        ..world.envs(sources.clone()).options().clone()
    });
    let ask = |requirements: &str| LockRequest {
        image: world.image.clone(),
        requirements: RequirementFiles::of(requirements),
        wheels_only: false,
    };
    let lock = envs.lock(&ask("ourlib\n"), &world.log()).await.unwrap();
    let env = envs.build(&lock, &world.image, &world.log()).await.unwrap();
    assert!(has(&env, "ourlib.py"));

    let error = envs
        .lock(&ask("ourlib\nnothere==1\n"), &world.log())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::RequirementsError, "{error:?}");
    assert!(
        error.message().contains("line 2 of requirements.txt"),
        "{error}"
    );
    assert!(error.public_text().contains("nothere"), "{error:?}");

    // What is added to the wheelhouse is found at once.
    world.files("nothere", "1");
    envs.lock(&ask("ourlib\nnothere==1\n"), &world.log())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_withdrawn_or_missing_are_named() {
    let world = World::new().await;
    world.files("ourlib", "1.2");
    let files = world.files("ourlib", "1.3");
    let index = Index::start(&files, None);
    index.yank("ourlib-1.3-py3-none-any.whl");
    let sources = || index_only(index.url(""));

    let lock = world.lock(sources(), "ourlib>=1.2\n").await.unwrap();
    assert!(lock.text.starts_with("ourlib==1.2 "), "{}", lock.text);

    for (line, words) in [
        ("ourlib>=1.3\n", "withdrawn by its authors (yanked)"),
        ("# first\nourlib==7.0\n", "ourlib==7.0"),
    ] {
        let refused = world.lock(sources(), line).await.unwrap_err();
        assert_eq!(refused.code(), Code::RequirementsError);
        let told = format!("{refused} {:?}", refused.next_step());
        assert!(told.contains(words), "{told}");
        let place = format!("line {} of requirements.txt", line.lines().count());
        assert!(told.contains(&place), "{told}");
    }
}
