//! Finds CPythons installed on this machine that can be copied: whole installations under a prefix
//! of their own. The system's Python is none, for it is spread over `/usr`.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use luthier_host::Program;
use luthier_ports::LogSink;
use luthier_types::Result;

const ASK: &str = "import sys, platform\n\
    print('%d.%d' % sys.version_info[:2], platform.python_version(), sys.implementation.name, \
    sys.base_prefix, sep='\\t')\n";

/// A CPython of the minor version `python`: its prefix and full version. The newest of pyenv's,
/// then uv's, then `/usr/local`.
pub(crate) async fn find(python: &str, log: &LogSink) -> Result<Option<(PathBuf, String)>> {
    for directory in directories() {
        if let Some(found) = newest_below(&directory, python, log).await? {
            return Ok(Some(found));
        }
    }
    ask(Path::new("/usr/local"), python, log).await
}

/// Directories whose entries are installations.
fn directories() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from);
    let home = variable("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    [
        variable("PYENV_ROOT")
            .or_else(|| below_home(".pyenv"))
            .map(|root| root.join("versions")),
        variable("UV_PYTHON_INSTALL_DIR").or_else(|| below_home(".local/share/uv/python")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The newest patch of `python` among the installations in `directory`.
pub(crate) async fn newest_below(
    directory: &Path,
    python: &str,
    log: &LogSink,
) -> Result<Option<(PathBuf, String)>> {
    let mut found: Vec<(u32, PathBuf)> = fs_err::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            Some((patch(name.to_str()?, python)?, entry.path()))
        })
        .collect();
    found.sort();
    for (_, prefix) in found.into_iter().rev() {
        if let Some(found) = ask(&prefix, python, log).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The patch number in the name of an installation of `python`: `3.9.18` of pyenv,
/// `cpython-3.9.25-linux-x86_64-gnu` of uv.
fn patch(name: &str, python: &str) -> Option<u32> {
    let version = match name.strip_prefix("cpython-") {
        Some(rest) => rest.split_once("-linux-")?.0,
        None => name,
    };
    version
        .strip_prefix(python)?
        .strip_prefix('.')?
        .parse()
        .ok()
}

/// Asks the interpreter of an installation what it is.
async fn ask(prefix: &Path, python: &str, log: &LogSink) -> Result<Option<(PathBuf, String)>> {
    let program = prefix.join(format!("bin/python{python}"));
    if !program.is_file() {
        return Ok(None);
    }
    let answer = Program::new(&program)
        .args(["-I", "-B", "-c", ASK])
        .limit(Duration::from_secs(30))
        .run(&LogSink::none())
        .await;
    let Ok(answer) = answer else { return Ok(None) };
    let fields: Vec<&str> = answer.output.trim_end().split('\t').collect();
    let &[minor, version, "cpython", base] = fields.as_slice() else {
        return Ok(None);
    };
    if !answer.success() || minor != python || base == "/usr" {
        return Ok(None);
    }
    let Ok(base) = fs_err::canonicalize(base) else {
        return Ok(None);
    };
    log.line(format!("found CPython {version} in {}", base.display()));
    Ok(Some((base, version.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_number_is_read_from_names_of_pyenv_and_uv() {
        assert_eq!(patch("3.9.18", "3.9"), Some(18));
        assert_eq!(patch("cpython-3.9.25-linux-x86_64-gnu", "3.9"), Some(25));
        for other in [
            "3.19.1",
            "3.9",
            "3.9.1rc1",
            "pypy3.9-7.3",
            "cpython-3.9.1-macos-x",
        ] {
            assert_eq!(patch(other, "3.9"), None, "{other}");
        }
        assert_eq!(patch("3.11.7", "3.1"), None);
    }
}
