//! Where packages come from: the server's settings, and what a package's requirements add.
//!
//! Credentials go to the installer through its environment and a file of the operator's, never
//! through its arguments, a lock, a record or a log.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use luthier_host::{Program, mask_credentials, uv_settings};
use luthier_types::{Code, Digest, Error, Result};

/// Settings of `uv` that this module answers for; it does not see them as they are.
const OURS: &[&str] = &[
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_OFFLINE",
];
/// The index when none is set.
const PYPI: &str = "https://pypi.org/simple";

/// Where packages come from, as the operator sets it.
#[derive(Clone, Default)]
pub struct Sources {
    /// The package index; `None` is that of `uv`'s own settings, or PyPI. May hold credentials.
    pub index: Option<String>,
    /// Indexes that are asked before it. May hold credentials.
    pub extra: Vec<String>,
    /// A file of credentials in the form of `.netrc`.
    pub credentials: Option<PathBuf>,
    /// A directory of wheels (and source distributions) to use beside the indexes.
    pub wheelhouse: Option<PathBuf>,
    /// Whether nothing is fetched from any network: the wheelhouse and the cache are all there is.
    pub offline: bool,
    /// Hosts (`name` or `name:port`) that builds from source may reach beside those of the indexes.
    pub build_hosts: Vec<String>,
}

/// An index as the installer is told of it.
struct Index {
    name: String,
    url: String,
    user: Option<(String, String)>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extra: Vec<String> = self.extra.iter().map(|text| masked(text)).collect();
        f.debug_struct("Sources")
            .field("index", &self.index.as_deref().map(masked))
            .field("extra", &extra)
            .field("credentials", &self.credentials)
            .field("wheelhouse", &self.wheelhouse)
            .field("offline", &self.offline)
            .field("build_hosts", &self.build_hosts)
            .finish()
    }
}

impl Sources {
    /// The settings in this process's environment: `LUTHIER_INDEX_URL`,
    /// `LUTHIER_EXTRA_INDEX_URLS` (separated by white space or commas), `LUTHIER_INDEX_CREDENTIALS`,
    /// `LUTHIER_WHEELHOUSE`, `LUTHIER_OFFLINE` and `LUTHIER_BUILD_HOSTS`.
    pub fn from_env() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let list = |name: &str| text(name).map(|t| split(&t)).unwrap_or_default();
        Self {
            index: text("LUTHIER_INDEX_URL"),
            extra: list("LUTHIER_EXTRA_INDEX_URLS"),
            credentials: text("LUTHIER_INDEX_CREDENTIALS").map(PathBuf::from),
            wheelhouse: text("LUTHIER_WHEELHOUSE").map(PathBuf::from),
            offline: text("LUTHIER_OFFLINE").is_some_and(|v| v != "0" && v != "false"),
            build_hosts: list("LUTHIER_BUILD_HOSTS"),
        }
    }

    /// Checks that what the settings name is there and in form, and makes its paths absolute.
    ///
    /// # Errors
    /// `BadRequest` naming the setting.
    pub fn checked(mut self) -> Result<Self> {
        for text in self.index.iter().chain(&self.extra) {
            if !Index::new(text, "").is_web() {
                return Err(Error::new(
                    Code::BadRequest,
                    format!("`{}` is no address of a package index", masked(text)),
                )
                .hint(
                    "Give LUTHIER_INDEX_URL and LUTHIER_EXTRA_INDEX_URLS http or https addresses. \
                     In a name or password the characters `/`, `?`, `#`, `@` and `%` are written \
                     %2F, %3F, %23, %40 and %25.",
                ));
            }
        }
        for (setting, path, fits) in [
            (
                "LUTHIER_INDEX_CREDENTIALS",
                &mut self.credentials,
                Path::is_file as fn(&Path) -> bool,
            ),
            ("LUTHIER_WHEELHOUSE", &mut self.wheelhouse, Path::is_dir),
        ] {
            let Some(path) = path else {
                continue;
            };
            match fs_err::canonicalize(&*path) {
                Ok(real) if fits(&real) => *path = real,
                _ => {
                    return Err(Error::new(
                        Code::BadRequest,
                        format!("{}, which {setting} names, is not there", path.display()),
                    )
                    .hint(format!("Make it, or set {setting} to another path.")));
                }
            }
        }
        Ok(self)
    }

    /// Gives a run of `uv`, after its subcommand, these settings and the package's `origins`.
    pub(crate) fn apply(&self, mut program: Program, origins: &[String]) -> Program {
        if let Some(path) = &self.credentials {
            program = program.env("NETRC", path);
        }
        for index in self.indexes() {
            if let Some((user, password)) = index.user {
                let name = index.name.to_ascii_uppercase().replace(['-', '.'], "_");
                program = program
                    .env(format!("UV_INDEX_{name}_USERNAME"), user)
                    .env(format!("UV_INDEX_{name}_PASSWORD"), password);
            }
        }
        program.args(self.args(origins, self.wheelhouse.as_deref()))
    }

    /// The arguments of `uv` that name the places to fetch from, without credentials; `wheelhouse`
    /// is where the wheelhouse is seen.
    pub(crate) fn args(&self, origins: &[String], wheelhouse: Option<&Path>) -> Vec<String> {
        let mut args = vec![];
        let mut add = |name: &str, value: String| args.extend([name.to_owned(), value]);
        if let Some(path) = wheelhouse {
            add("--find-links", path.display().to_string());
        }
        if self.offline && self.wheelhouse.is_some() {
            args.extend(["--no-index", "--offline"].map(str::to_owned));
            return args;
        }
        for link in self.links() {
            add("--find-links", link);
        }
        for origin in origins {
            match origin.split_once(' ') {
                Some(("--find-links", url)) => add("--find-links", url.to_owned()),
                Some((_, url)) => add("--index", url.to_owned()),
                None => {}
            }
        }
        let mut indexes = self.indexes();
        let default = indexes.pop();
        for index in indexes {
            add("--index", format!("{}={}", index.name, index.url));
        }
        if let Some(index) = default {
            add("--default-index", format!("{}={}", index.name, index.url));
        }
        if !origins.is_empty() && !uv_settings().contains_key("UV_INDEX_STRATEGY") {
            // An index that a package names may hold old copies of what is on the server's.
            add("--index-strategy", "unsafe-first-match".to_owned());
        }
        if self.offline {
            args.push("--offline".to_owned());
        }
        args
    }

    /// Everything of the settings that decides what is found, without credentials.
    pub(crate) fn question(&self) -> String {
        let indexes: Vec<String> = self.indexes().into_iter().map(|index| index.url).collect();
        let mut house: Vec<(String, u64)> = self
            .wheelhouse
            .iter()
            .filter_map(|dir| fs_err::read_dir(dir).ok())
            .flatten()
            .flatten()
            .map(|entry| {
                let size = entry.metadata().map_or(0, |m| m.len());
                (entry.file_name().to_string_lossy().into_owned(), size)
            })
            .collect();
        house.sort();
        let only = self.offline && self.wheelhouse.is_some();
        let (indexes, links) = if only {
            (vec![], vec![])
        } else {
            (indexes, self.links())
        };
        Digest::of(format!("{:?}", (indexes, links, house, only))).to_string()
    }

    /// The addresses of the indexes, without credentials, and of other places that are fetched from.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let links = self.links().into_iter().filter(|l| l.contains("://"));
        let indexes = self.indexes().into_iter().map(|index| index.url);
        indexes
            .chain(links)
            .map(|url| mask_credentials(&url))
            .collect()
    }

    /// The indexes in the order they are asked; the last is the default one.
    fn indexes(&self) -> Vec<Index> {
        let settings = uv_settings();
        let setting = |name: &str| settings.get(name).cloned();
        let mut extra = self.extra.clone();
        if extra.is_empty() {
            extra = setting("UV_INDEX").map(|t| split(&t)).unwrap_or_default();
            extra.extend(
                setting("UV_EXTRA_INDEX_URL")
                    .map(|t| split(&t))
                    .unwrap_or_default(),
            );
        }
        let default = self
            .index
            .clone()
            .or_else(|| setting("UV_DEFAULT_INDEX"))
            .or_else(|| setting("UV_INDEX_URL"))
            .unwrap_or_else(|| PYPI.to_owned());
        let extra = extra
            .iter()
            .enumerate()
            .map(|(n, text)| Index::new(text, &format!("luthier-extra-{n}")));
        extra
            .chain([Index::new(&default, "luthier-default")])
            .collect()
    }

    /// Other places of `uv`'s own settings.
    fn links(&self) -> Vec<String> {
        uv_settings()
            .get("UV_FIND_LINKS")
            .map(|t| split(t))
            .unwrap_or_default()
    }
}

/// A run of `uv` that does not see the settings of where packages come from as they are.
pub(crate) fn without(program: Program) -> Program {
    OURS.iter().fold(program, Program::without)
}

/// The settings of `uv` that a stranger's build may see: no credentials, no paths of the host, no
/// way to the network.
pub(crate) fn shown_settings() -> BTreeMap<String, String> {
    let hidden = |name: &str| {
        [
            "PATH",
            "HOME",
            "NETRC",
            "UV_CONFIG_FILE",
            "UV_KEYRING_PROVIDER",
        ]
        .contains(&name)
            || OURS.contains(&name)
            || name.starts_with("SSL_")
            || name.to_ascii_lowercase().ends_with("_proxy")
            || name.ends_with("_PASSWORD")
            || name.ends_with("_USERNAME")
    };
    uv_settings()
        .into_iter()
        .filter(|(name, value)| !hidden(name) && mask_credentials(value) == *value)
        .collect()
}

impl Index {
    /// Reads `[name=]URL`.
    fn new(text: &str, name: &str) -> Self {
        let text = text.trim();
        let named = text.split_once('=').filter(|(name, url)| {
            !name.contains([':', '/']) && !name.is_empty() && url.contains("://")
        });
        let (name, url) = named.unwrap_or((name, text));
        let mut index = Self {
            name: name.to_owned(),
            url: url.to_owned(),
            user: None,
        };
        if let Some((scheme, rest)) = url.split_once("://") {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            if let Some(at) = rest[..end].rfind('@') {
                let (user, password) = rest[..at].split_once(':').unwrap_or((&rest[..at], ""));
                index.user = Some((decoded(user), decoded(password)));
                index.url = format!("{scheme}://{}", &rest[at + 1..]);
            }
        }
        index
    }

    /// Whether it is an address of the web. One whose port is no number is what an unquoted `/`, `?` or
    /// `#` in a password makes of it.
    fn is_web(&self) -> bool {
        let rest = ["https://", "http://"]
            .iter()
            .find_map(|scheme| self.url.strip_prefix(scheme));
        let Some(rest) = rest else {
            return false;
        };
        let place = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let after_host = match place.rsplit_once(']') {
            Some((_, after)) => after,
            None => place.find(':').map_or("", |at| &place[at..]),
        };
        let port = after_host.strip_prefix(':').unwrap_or(after_host);
        !place.is_empty() && port.chars().all(|c| c.is_ascii_digit())
    }
}

/// A setting that may hold an address with credentials, or what was meant as one, as it is shown.
fn masked(text: &str) -> String {
    let Some((before, after)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    let scheme = before.find("://").map_or(0, |at| at + 3);
    format!("{}***@{after}", &before[..scheme])
}

/// Words separated by white space or commas.
fn split(text: &str) -> Vec<String> {
    text.split([' ', '\t', '\n', ','])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A part of a URL with its `%XX` read.
fn decoded(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match hex {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
