//! Interpreter layers: a whole CPython that works wherever it is mounted.
//!
//! uv's managed CPython where it can be downloaded; else an installed CPython of the same minor
//! version. Either is copied without its test suites and without anybody's installed packages, made
//! independent of where it came from, and precompiled.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use luthier_host::{FileLock, Program, Staged, find_uv, uv};
use luthier_ports::LogSink;
use luthier_types::{
    Code, Digest, Error, Result,
    layout::{CacheLayout, container},
};

use crate::{copy, installed};

/// Goes up when what is copied or how it is changed does.
const RECIPE: &str = "2";
/// How long uv may take to download an interpreter.
const DOWNLOAD: Duration = Duration::from_secs(300);
const SELF_CHECK: &str = "import sys, ssl, ctypes, sqlite3, zlib, bz2, lzma, hashlib, readline\n\
    assert sys.prefix == sys.base_prefix == sys.argv[1], (sys.prefix, sys.argv[1])\n";
const COMPILE: &str = "import compileall, sys, py_compile\n\
    compileall.compile_dir(sys.argv[1] + '/lib', quiet=2, workers=0, stripdir=sys.argv[1],\n\
        prependdir=sys.argv[2],\n\
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)\n";

/// The interpreter layer of the minor version `python` (for example `3.9`): the one on record, or
/// a new one.
///
/// # Errors
/// `ImageUnavailable` when there is no such CPython to be had, with what was tried.
pub(crate) async fn ensure(layout: &CacheLayout, python: &str, log: &LogSink) -> Result<Digest> {
    let record = record(layout, python);
    if let Some(digest) = on_record(layout, &record) {
        return Ok(digest);
    }
    let lock = layout.root().join(format!("locks/python-{python}.lock"));
    let _lock = FileLock::acquire(&lock).await?;
    if let Some(digest) = on_record(layout, &record) {
        return Ok(digest);
    }
    let digest = make(layout, python, log).await?;
    // Renamed into place: a reader sees the old record, none or the new one.
    let new = record.with_file_name(format!("python-{python}.new"));
    let parent = record.parent().unwrap_or(layout.root());
    fs_err::create_dir_all(parent)
        .and_then(|()| fs_err::write(&new, digest.as_str()))
        .and_then(|()| fs_err::rename(&new, &record))
        .map_err(|e| Error::internal(format!("writing {}", record.display()), e))?;
    Ok(digest)
}

/// The layer of the minor version `python`, if there is one already.
pub(crate) fn made(layout: &CacheLayout, python: &str) -> Option<Digest> {
    on_record(layout, &record(layout, python))
}

fn record(layout: &CacheLayout, python: &str) -> PathBuf {
    let name = format!("records/python-{python}-{RECIPE}");
    layout.root().join(name)
}

fn on_record(layout: &CacheLayout, record: &Path) -> Option<Digest> {
    let digest = fs_err::read_to_string(record).ok()?.trim().parse().ok()?;
    layout.interpreter(&digest).is_dir().then_some(digest)
}

async fn make(layout: &CacheLayout, python: &str, log: &LogSink) -> Result<Digest> {
    let staged = Staged::new(&layout.staging(), "python")?;
    let (prefix, version) = match download(&staged, python, log).await? {
        Some(found) => found,
        None => installed::find(python, log).await?.ok_or_else(|| {
            Error::new(
                Code::ImageUnavailable,
                format!("there is no CPython {python} for the image"),
            )
            .hint(format!(
                "uv could not download one, and none is installed by pyenv, by uv or under \
                 /usr/local. Let this machine reach GitHub's releases, or run \
                 `pyenv install {python}`."
            ))
        })?,
    };
    log.line(format!("making the interpreter layer of CPython {version}"));
    let tree = staged.path().to_owned();
    let copied = {
        let (prefix, tree, python) = (prefix.clone(), tree.clone(), python.to_owned());
        blocking("copying CPython", move || {
            copy::copy(&prefix, &tree, &python)?;
            copy::digest(&tree)
        })
        .await?
    };
    let digest = Digest::of_fields([RECIPE, &version, std::env::consts::ARCH, copied.as_str()]);
    let place = layout.interpreter(&digest);
    if place.is_dir() {
        return Ok(digest);
    }
    let interpreter = tree.join("bin/python3");
    let checked = Program::new(&interpreter)
        .args(["-I", "-B", "-c", SELF_CHECK])
        .arg(&tree)
        .limit(Duration::from_secs(60))
        .run(&LogSink::none())
        .await?;
    if !checked.success() {
        return Err(Error::new(
            Code::ImageUnavailable,
            format!("the copy of CPython {version} does not work"),
        )
        .hint(format!(
            "The output tells why; usually it was built without a library it needs. Install \
             another CPython {python}, for example with `pyenv install {python}`."
        ))
        .evidence(checked.evidence()));
    }
    let compiled = Program::new(&interpreter)
        .args(["-I", "-c", COMPILE])
        .arg(&tree)
        .arg(container::PYTHON)
        .limit(Duration::from_secs(300))
        .run(&LogSink::none())
        .await?;
    if !compiled.success() {
        // Files that do not compile are part of some distributions; only the speed suffers.
        tracing::warn!(output = %compiled.output, "precompiling the standard library");
    }
    staged.publish(&place)?;
    log.line(format!(
        "the interpreter layer of CPython {version} is ready"
    ));
    Ok(digest)
}

/// Asks uv for a managed CPython; `None` when uv is missing or cannot get it.
async fn download(
    staged: &Staged,
    python: &str,
    log: &LogSink,
) -> Result<Option<(PathBuf, String)>> {
    let Some(path) = find_uv() else {
        log.line("uv is not installed; looking for an installed CPython");
        return Ok(None);
    };
    let directory = staged.scratch().join("managed");
    let ended = uv(&path)
        .args(["python", "install", "--no-bin", "--install-dir"])
        .arg(&directory)
        .arg(python)
        // A blocked network is noticed quickly; there is another way.
        .env("UV_HTTP_RETRIES", "0")
        .env("UV_CACHE_DIR", staged.scratch().join("uv"))
        .cwd(staged.scratch())
        .limit(DOWNLOAD)
        .run(&LogSink::none())
        .await;
    match ended {
        Ok(ended) if ended.success() => {}
        ended => {
            let why = match &ended {
                Ok(ended) => ended.output.clone(),
                Err(e) => e.chain(),
            };
            tracing::info!(%why, python, "uv could not download an interpreter");
            log.line(format!(
                "uv could not download CPython {python}; looking for an installed one"
            ));
            return Ok(None);
        }
    }
    installed::newest_below(&directory, python, log).await
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal(what, e))?
        .map_err(|e| {
            Error::new(Code::ImageUnavailable, format!("{what} failed: {e}"))
                .hint("Check the free space under the data directory, then try again.")
                .source(e)
        })
}
