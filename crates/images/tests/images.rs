//! Images made for real, in a cache shared by the runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, process::Command, sync::Arc};

use luthier_images::{LocalImages, Options};
use luthier_ports::{Images, LogSink};
use luthier_types::layout::CacheLayout;

fn layout() -> CacheLayout {
    CacheLayout::new(Path::new(env!("CARGO_TARGET_TMPDIR")).join("images"))
}

fn images() -> LocalImages {
    LocalImages::new(Options {
        layout: layout(),
        mirror: None,
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_image_is_made_and_its_interpreter_runs_from_the_layer() {
    let images = images();
    let layout = layout();
    for info in images.list() {
        let image = images.ensure(&info.uri, &LogSink::none()).await.unwrap();
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
