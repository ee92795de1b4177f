//! Images made for real, in a cache shared by the runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, process::Command, sync::Arc};

use luthier_images::{LocalImages, Options};
use luthier_ports::{Images, LogSink};
use luthier_types::{Code, layout::CacheLayout};

fn layout() -> CacheLayout {
    CacheLayout::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("images"))
}

fn images() -> LocalImages {
    LocalImages::new(Options::new(layout())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_image_is_made_and_its_interpreter_runs_from_the_layer() {
    let images = images();
    let layout = layout();
    for info in images.list() {
        let log = LogSink::new(|line| {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains("/staging/"), "{line}: {mounts}");
        });
        let image = images.ensure(&info.uri, &log).await.unwrap();
        assert_eq!(image.info, info);
        let rootfs = layout.rootfs(&image.rootfs);
        assert!(rootfs.join("usr/lib").is_dir() && rootfs.join("opt/luthier/python").is_dir());
        let prefix = layout.interpreter(&image.interpreter);
        let script = "import sys, ssl, sqlite3; print(sys.prefix, '%d.%d' % sys.version_info[:2])";
        let run = Command::new(prefix.join("bin/python3"))
            .args(["-I", "-c", script])
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(run.stdout).unwrap().trim(),
            format!("{} {}", prefix.display(), info.python)
        );
        assert!(no_trace_of_the_origin(&prefix), "{}", prefix.display());
    }
}

/// No program or library of the layer looks for libraries outside of it.
fn no_trace_of_the_origin(prefix: &Path) -> bool {
    let maps = Command::new(prefix.join("bin/python3"))
        .args(["-I", "-c", "print(open('/proc/self/maps').read())"])
        .output()
        .unwrap();
    let maps = String::from_utf8(maps.stdout).unwrap();
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains("python"))
        .all(|path| Path::new(path).starts_with(prefix))
}

#[tokio::test(flavor = "multi_thread")]
async fn java_and_r_are_in_the_images_that_promise_them() {
    let images = images();
    let layout = layout();
    for (uri, package, file) in [
        (
            "java:2.1.0",
            "default-jre-headless",
            "usr/lib/jvm/java-17-openjdk-amd64/bin/java",
        ),
        ("rpy2:2.0.2", "r-base-core", "usr/lib/R/lib/libR.so"),
    ] {
        let uri = format!("md-base/python/{uri}");
        let image = images.ensure(&uri, &LogSink::none()).await.unwrap();
        assert_eq!(image.info.debian, [package]);
        let rootfs = layout.rootfs(&image.rootfs);
        assert!(rootfs.join(file).is_file(), "{file}");
        let installed = fs_err::read_to_string(rootfs.join("var/lib/dpkg/status")).unwrap();
        assert!(installed.contains(&format!("Package: {package}\nStatus: install ok installed")));
        let (all, alone) = images.disk(&uri).await.unwrap().unwrap();
        // The interpreter is shared with other images, the file system with none but old tags.
        assert!(alone < all && all > 100 << 20, "{all} {alone}");
    }
    assert!(images.disk("no").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_built_where_compilers_are() {
    let images = images();
    let layout = layout();
    for (uri, more) in [
        ("md-base/python/python-311:1.0.0", "usr/bin/pkg-config"),
        ("md-base/python/rpy2:2.0.2", "usr/include/lzma.h"),
    ] {
        let image = images.ensure(uri, &LogSink::none()).await.unwrap();
        let toolchain = images.toolchain(&image, &LogSink::none()).await.unwrap();
        assert_ne!(toolchain, image.rootfs);
        assert_eq!(
            images.toolchain(&image, &LogSink::none()).await.unwrap(),
            toolchain
        );
        let (with, without) = (layout.rootfs(&toolchain), layout.rootfs(&image.rootfs));
        for program in ["usr/bin/gcc", "usr/bin/g++", "usr/bin/make", more] {
            assert!(with.join(program).exists(), "{program} of {uri}");
            assert!(!without.join(program).exists(), "{program} of {uri}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_tag_is_newer_than_the_old_one_and_an_image_of_the_directory() {
    let uri = "md-base/python/java:2.1.0";
    let own = tempfile::tempdir().unwrap();
    let images = images().with_own(own.path().to_owned());
    images.ensure(uri, &LogSink::none()).await.unwrap();
    let today = "2026-11-25";
    let outdated = images.outdated(uri, today, &LogSink::none()).await.unwrap();
    assert!(outdated.debian.is_some(), "its file system is there");
    let change = |name: &str| outdated.libraries.iter().find(|c| c.name == name);
    let certifi = change("certifi").unwrap();
    assert_eq!(certifi.from, "2024.8.30");
    assert_ne!(certifi.to, "2024.8.30");
    // Bounds hold: neither a library of its own nor what a rule keeps goes past them.
    assert_eq!(change("h2o"), None);
    assert_eq!(change("numpy"), None);
    let (made, changes) = images
        .lock(uri, "2.2.0", own.path(), today, &LogSink::none())
        .await
        .unwrap();
    assert_eq!(made, "md-base/python/java:2.2.0");
    assert_eq!(changes, outdated.libraries);
    let listed = images.list();
    let new = listed.iter().find(|i| i.uri == made).unwrap();
    assert_eq!((new.released.as_str(), new.python.as_str()), (today, "3.9"));
    assert_eq!(images.problems().unwrap(), []);
    let again = images
        .lock(uri, "2.2.0", own.path(), today, &LogSink::none())
        .await;
    assert_eq!(again.unwrap_err().code(), Code::Conflict);
    // Nothing is newer than the new one on the day it was made.
    let outdated = images
        .outdated(&made, today, &LogSink::none())
        .await
        .unwrap();
    assert_eq!(outdated.libraries, []);
    assert_eq!(outdated.debian, None, "its file system is not made yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_at_once_by_many_an_image_is_made_once_and_is_the_same() {
    let uri = "md-base/python/python-311:1.0.0";
    let one = Arc::new(images());
    let tasks: Vec<_> = (0..4)
        .map(|i| {
            let images = if i % 2 == 0 {
                Arc::clone(&one)
            } else {
                Arc::new(images())
            };
            tokio::spawn(async move { images.ensure(uri, &LogSink::none()).await.unwrap() })
        })
        .collect();
    let mut digests = vec![];
    for task in tasks {
        digests.push(task.await.unwrap().digest);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}
