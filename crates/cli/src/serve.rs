//! `luthier serve`: flags over environment over file over defaults.

use std::path::{Path, PathBuf};

use luthier_server::{
    machine::{Registries, Sources, mask_credentials},
    serve::{self, Config},
};
use luthier_types::{Code, Error, Result};
use serde::Deserialize;

/// Start the server.
#[derive(clap::Args)]
pub(crate) struct Serve {
    /// Address to listen on.
    #[arg(long, env = "LUTHIER_LISTEN")]
    listen: Option<String>,
    /// Directory of all state; deleting it removes everything.
    #[arg(long, env = "LUTHIER_DATA")]
    data: Option<PathBuf>,
    /// Directory of layers; below the data directory when left out.
    #[arg(long, env = "LUTHIER_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Settings file (TOML); luthier.toml is read when it is there.
    #[arg(long, env = "LUTHIER_CONFIG")]
    config: Option<PathBuf>,
    /// Admin token; made and kept in DATA/admin-token when left out.
    #[arg(long, env = "LUTHIER_ADMIN_TOKEN", hide_env_values = true, hide = true)]
    admin_token: Option<String>,
    /// Seconds a model may take to load.
    #[arg(long, env = "LUTHIER_LOAD_TIMEOUT")]
    load_timeout: Option<u64>,
    /// Seconds a predict may take, waiting included.
    #[arg(long, env = "LUTHIER_PREDICT_TIMEOUT")]
    predict_timeout: Option<u64>,
    /// Seconds a call of a model may go on past its time, before its replica is replaced.
    #[arg(long, env = "LUTHIER_HANG_TIMEOUT")]
    hang_timeout: Option<u64>,
    /// Most MiB that a package may unpack to.
    #[arg(long, env = "LUTHIER_MAX_PACKAGE_MIB")]
    max_package_mib: Option<u64>,
    /// Make the CPU reservation of a replica a hard cap as well.
    #[arg(long, env = "LUTHIER_CPU_CAP")]
    cpu_cap: bool,
    /// Rows of recent requests of each model to remember, in memory only, for trying out new
    /// revisions; 0 for none.
    #[arg(long, env = "LUTHIER_RECENT_ROWS")]
    recent_rows: Option<usize>,
    /// Most connections at a time; past it clients are told to come again.
    #[arg(long, env = "LUTHIER_MAX_CONNECTIONS")]
    max_connections: Option<usize>,
    /// Seconds a client may be silent when it is its turn to send or to read.
    #[arg(long, env = "LUTHIER_CLIENT_TIMEOUT")]
    client_timeout: Option<u64>,
    /// Package index to use instead of PyPI; may be https://USER:PASSWORD@HOST/simple.
    #[arg(long, env = "LUTHIER_INDEX_URL", hide_env_values = true)]
    index_url: Option<String>,
    /// Package index to ask before it; may be given several times.
    #[arg(
        long,
        env = "LUTHIER_EXTRA_INDEX_URLS",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    extra_index_url: Vec<String>,
    /// File of credentials of package indexes, in the form of .netrc.
    #[arg(long, env = "LUTHIER_INDEX_CREDENTIALS")]
    index_credentials: Option<PathBuf>,
    /// Directory of wheels to use beside the indexes.
    #[arg(long, env = "LUTHIER_WHEELHOUSE")]
    wheelhouse: Option<PathBuf>,
    /// Fetch no package from any network: the wheelhouse and the cache are all there is.
    #[arg(long, env = "LUTHIER_OFFLINE")]
    offline: bool,
    /// Host that builds from source may reach beside those of the indexes; may be given several
    /// times.
    #[arg(long, env = "LUTHIER_BUILD_HOSTS", value_delimiter = ' ')]
    build_host: Vec<String>,
    /// Registry, HOST[:PORT][/PREFIX], whose images may be named as a base; http:// before it goes
    /// without TLS; may be given several times.
    #[arg(long, env = "LUTHIER_ALLOWED_REGISTRIES", value_delimiter = ' ')]
    allow_registry: Vec<String>,
    /// File of registry logins, as `docker login` writes it; that of the user when left out.
    #[arg(long, env = "LUTHIER_REGISTRY_AUTH")]
    registry_auth: Option<PathBuf>,
    /// Token that reads /metrics and nothing else.
    #[arg(
        long,
        env = "LUTHIER_METRICS_TOKEN",
        hide_env_values = true,
        hide = true
    )]
    metrics_token: Option<String>,
    /// Days that entries of the audit log are kept.
    #[arg(long, env = "LUTHIER_AUDIT_DAYS")]
    audit_days: Option<u32>,
    /// For tests: stop for good after the effect of this job step and before it is recorded.
    #[arg(long, hide = true)]
    pause_after: Option<String>,
}

/// The settings file. Every key is optional.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    listen: Option<String>,
    data: Option<PathBuf>,
    cache_dir: Option<PathBuf>,
    load_timeout: Option<u64>,
    predict_timeout: Option<u64>,
    hang_timeout: Option<u64>,
    max_package_mib: Option<u64>,
    cpu_cap: Option<bool>,
    recent_rows: Option<usize>,
    max_connections: Option<usize>,
    client_timeout: Option<u64>,
    index_url: Option<String>,
    extra_index_urls: Vec<String>,
    index_credentials: Option<PathBuf>,
    wheelhouse: Option<PathBuf>,
    offline: Option<bool>,
    build_hosts: Vec<String>,
    allowed_registries: Vec<String>,
    registry_auth: Option<PathBuf>,
    audit_days: Option<u32>,
}

/// Runs `luthier serve`.
pub(crate) async fn run(args: Serve) -> Result<()> {
    let file = read_file(args.config.as_deref())?;
    let defaults = Config::default();
    let either = |given: Vec<String>, filed| if given.is_empty() { filed } else { given };
    let sources = Sources {
        index: args.index_url.or(file.index_url),
        extra: either(args.extra_index_url, file.extra_index_urls),
        credentials: args.index_credentials.or(file.index_credentials),
        wheelhouse: args.wheelhouse.or(file.wheelhouse),
        offline: args.offline || file.offline.unwrap_or(false),
        build_hosts: either(args.build_host, file.build_hosts),
    };
    let registries = Registries::new(
        &either(args.allow_registry, file.allowed_registries),
        args.registry_auth.or(file.registry_auth).as_deref(),
    )?;
    serve::run(Config {
        listen: args.listen.or(file.listen).unwrap_or(defaults.listen),
        data: args.data.or(file.data).unwrap_or(defaults.data),
        cache: args.cache_dir.or(file.cache_dir),
        admin_token: args.admin_token,
        load_timeout_seconds: args
            .load_timeout
            .or(file.load_timeout)
            .unwrap_or(defaults.load_timeout_seconds),
        predict_timeout_seconds: args
            .predict_timeout
            .or(file.predict_timeout)
            .unwrap_or(defaults.predict_timeout_seconds),
        hang_timeout_seconds: args
            .hang_timeout
            .or(file.hang_timeout)
            .unwrap_or(defaults.hang_timeout_seconds),
        max_package_mib: args
            .max_package_mib
            .or(file.max_package_mib)
            .unwrap_or(defaults.max_package_mib),
        metrics_token: args.metrics_token.filter(|token| !token.is_empty()),
        audit_days: args
            .audit_days
            .or(file.audit_days)
            .unwrap_or(defaults.audit_days),
        cpu_cap: args.cpu_cap || file.cpu_cap.unwrap_or(false),
        recent_rows: args
            .recent_rows
            .or(file.recent_rows)
            .unwrap_or(defaults.recent_rows),
        max_connections: args
            .max_connections
            .or(file.max_connections)
            .unwrap_or(defaults.max_connections),
        client_timeout_seconds: args
            .client_timeout
            .or(file.client_timeout)
            .unwrap_or(defaults.client_timeout_seconds),
        sources,
        registries,
        pause_after: args.pause_after,
    })
    .await
}

fn read_file(path: Option<&Path>) -> Result<File> {
    let (path, needed) = match path {
        Some(path) => (path, true),
        None => (Path::new("luthier.toml"), false),
    };
    match fs_err::read_to_string(path) {
        Ok(text) => toml::from_str(&text).map_err(|e| {
            // The line itself may hold a password.
            let before = e.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
            Error::new(
                Code::BadRequest,
                format!(
                    "line {line} of {} is not understood: {}",
                    path.display(),
                    mask_credentials(e.message())
                ),
            )
            .hint(
                "Keys: listen, data, cache_dir, load_timeout, predict_timeout, hang_timeout, \
                 max_package_mib, cpu_cap, recent_rows, max_connections, client_timeout, \
                 index_url, extra_index_urls, index_credentials, wheelhouse, offline, build_hosts, \
                 allowed_registries, registry_auth, audit_days.",
            )
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !needed => Ok(File::default()),
        Err(e) => {
            Err(Error::new(Code::BadRequest, format!("cannot read {}", path.display())).source(e))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settings_file_that_is_not_understood_is_told_by_its_line_without_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("luthier.toml");
        for wrong in [
            "extra_index_urls = 'https://bob:s3cret@h/simple'",
            "index_url = 'https://bob:s3cret@h/simple",
            "index_urls = 'https://bob:s3cret@h/simple'",
        ] {
            fs_err::write(&path, format!("offline = true\n{wrong}\n")).unwrap();
            let error = read_file(Some(&path)).err().unwrap();
            assert!(error.message().contains("line 2 of "), "{error}");
            assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        }
    }
}
