//! The package installer `uv`: where it is and which of the server's settings it sees.
//!
//! It sees the settings of where packages come from (indexes, certificates, proxies) and none that
//! would change what is resolved, such as a default Python or a resolution strategy, so that the
//! same requirements give the same environment on any server. Configuration files are not read.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use crate::{Program, program::find_program};

/// Names that `uv` may see.
const NAMES: &[&str] = &[
    "PATH",
    "HOME",
    "NETRC",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "SSL_CLIENT_CERT",
    "UV_CONCURRENT_BUILDS",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_CONCURRENT_INSTALLS",
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_NATIVE_TLS",
    "UV_OFFLINE",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_REQUEST_TIMEOUT",
    "UV_SYSTEM_CERTS",
];

/// Settings of pip and others that are honoured when uv's own is not set.
const COURTESY: &[(&str, &str)] = &[
    ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
    ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"),
    ("PIP_CERT", "SSL_CERT_FILE"),
    ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"),
    ("CURL_CA_BUNDLE", "SSL_CERT_FILE"),
];

/// Whether `uv` may see the environment variable.
pub fn uv_may_see(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    NAMES.contains(&name)
        || matches!(
            lower.as_str(),
            "http_proxy" | "https_proxy" | "all_proxy" | "no_proxy"
        )
        || (name.starts_with("UV_INDEX_")
            && (name.ends_with("_USERNAME") || name.ends_with("_PASSWORD")))
}

/// The settings `uv` may see, from this process's environment.
pub fn uv_settings() -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, value)| uv_may_see(name) && !value.is_empty())
        .collect();
    let index = ["UV_DEFAULT_INDEX", "UV_INDEX_URL"];
    for (theirs, ours) in COURTESY {
        let taken = if index.contains(ours) {
            index.iter().any(|name| settings.contains_key(*name))
        } else {
            settings.contains_key(*ours)
        };
        if let (Ok(value), false) = (env::var(theirs), taken)
            && !value.is_empty()
        {
            settings.insert((*ours).to_owned(), value);
        }
    }
    if !settings.contains_key("UV_CONFIG_FILE") {
        settings.insert("UV_NO_CONFIG".to_owned(), "1".to_owned());
    }
    for (name, value) in [
        ("LANG", "C.UTF-8"),
        ("NO_COLOR", "1"),
        ("UV_NO_PROGRESS", "1"),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    settings
}

/// A run of the `uv` at `path` with the settings it may see; the arguments are the caller's.
pub fn uv(path: &Path) -> Program {
    uv_settings()
        .into_iter()
        .fold(Program::new(path), |program, (name, value)| {
            program.env(name, value)
        })
}

/// Finds `uv`: `LUTHIER_UV`, on `PATH`, beside this program, in `~/.local/bin` and `~/.cargo/bin`,
/// and in a `.venv` of the working directory or beside this program's directory.
pub fn find_uv() -> Option<PathBuf> {
    if let Some(path) = env::var_os("LUTHIER_UV").map(PathBuf::from) {
        return path.is_file().then_some(path);
    }
    let mut places = vec![];
    let beside = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    if let Some(dir) = &beside {
        places.push(dir.clone());
    }
    if let Some(home) = env::var_os("HOME").map(PathBuf::from) {
        places.push(home.join(".local/bin"));
        places.push(home.join(".cargo/bin"));
    }
    if let Ok(cwd) = env::current_dir() {
        places.push(cwd.join(".venv/bin"));
    }
    // `target/release/luthier` finds the `.venv` of its repository.
    for dir in beside.iter().flat_map(|dir| dir.ancestors().take(4)) {
        places.push(dir.join(".venv/bin"));
    }
    find_program("uv", &places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_index_are_seen_and_those_of_the_resolution_and_secrets_are_not() {
        for name in ["UV_DEFAULT_INDEX", "https_proxy", "UV_INDEX_OURS_PASSWORD"] {
            assert!(uv_may_see(name), "{name}");
        }
        for name in [
            "UV_PYTHON",
            "UV_PRERELEASE",
            "UV_EXCLUDE_NEWER",
            "VIRTUAL_ENV",
            "LUTHIER_ADMIN_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            assert!(!uv_may_see(name), "{name}");
        }
    }
}
