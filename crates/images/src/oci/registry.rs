//! Talking to a registry: credentials, and what its refusals mean.

use std::{
    collections::BTreeMap,
    env, fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use luthier_types::{Code, Error, Evidence, Result};
use oci_client::{
    Client, Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    secrets::RegistryAuth,
};
use serde::Deserialize;

const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence of a registry in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(60);

/// How a registry is reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// By HTTP without TLS.
    pub plain_http: bool,
    /// Who to be.
    pub credentials: Credentials,
}

/// Passwords by registry, from a file as `docker login` and `podman login` write it.
#[derive(Clone, Default)]
pub struct Credentials {
    auths: BTreeMap<String, Login>,
    /// Registries whose passwords another program keeps.
    helpers: Vec<String>,
}

#[derive(Clone, Default, Deserialize)]
struct Login {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "registrytoken")]
    token: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.auths.keys()).finish()
    }
}

impl Credentials {
    /// Reads a file.
    ///
    /// # Errors
    /// `BadRequest` when it cannot be read or is not such a file.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |cause: String| {
            Error::new(Code::BadRequest, cause)
                .hint("Name a file that `docker login` or `podman login --authfile` wrote.")
        };
        let text = fs_err::read(path)
            .map_err(|e| wrong(format!("cannot read {}", path.display())).source(e))?;
        // The parser's own words may quote what is in the file.
        let file: File = serde_json::from_slice(&text).map_err(|e| {
            let (line, column) = (e.line(), e.column());
            let place = path.display();
            wrong(format!(
                "{place} is no file of registry logins (line {line}, column {column})"
            ))
        })?;
        let auths = file
            .auths
            .into_iter()
            .map(|(name, login)| (host(&name).to_owned(), login))
            .collect();
        Ok(Self {
            auths,
            helpers: file.helpers.into_keys().collect(),
        })
    }

    /// The current user's, if there are any: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`
    /// or `~/.docker/config.json`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of_user() -> Result<Self> {
        let variable = |name: &str| env::var_os(name).map(PathBuf::from);
        if let Some(path) = variable("REGISTRY_AUTH_FILE") {
            return Self::read(&path);
        }
        let path = match variable("DOCKER_CONFIG") {
            Some(directory) => directory.join("config.json"),
            None => match variable("HOME") {
                Some(home) => home.join(".docker/config.json"),
                None => return Ok(Self::default()),
            },
        };
        match fs_err::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            _ => Self::read(&path),
        }
    }

    fn of(&self, registry: &str) -> RegistryAuth {
        // Docker Hub's logins are kept under an address of its own.
        let names = match registry {
            "docker.io" | "index.docker.io" => &["index.docker.io", "docker.io"][..],
            other => &[other][..],
        };
        names
            .iter()
            .find_map(|name| self.auths.get(*name)?.auth())
            .unwrap_or(RegistryAuth::Anonymous)
    }
}

impl Login {
    fn auth(&self) -> Option<RegistryAuth> {
        if let Some(token) = &self.token {
            return Some(RegistryAuth::Bearer(token.clone()));
        }
        if let (Some(user), Some(password)) = (&self.username, &self.password) {
            return Some(RegistryAuth::Basic(user.clone(), password.clone()));
        }
        let decoded = BASE64_STANDARD.decode(self.auth.as_ref()?.trim()).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.trim_end_matches('\0').split_once(':')?;
        Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
    }
}

/// The registry in a key of such a file, which may be a whole address.
fn host(name: &str) -> &str {
    let name = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"))
        .unwrap_or(name);
    name.split('/').next().unwrap_or(name)
}

/// A registry as one command uses it.
pub(crate) struct Registry {
    pub(crate) client: Client,
    pub(crate) auth: RegistryAuth,
    reference: Reference,
    kept_elsewhere: bool,
}

impl Registry {
    /// Connects to the registry of `reference` and logs in for `operation`.
    ///
    /// # Errors
    /// `ImageUnavailable` when it does not answer, `Unauthorized` when it refuses the login.
    pub(crate) async fn open(
        reference: &Reference,
        access: &Access,
        operation: RegistryOperation,
    ) -> Result<Self> {
        let name = reference.resolve_registry();
        let config = ClientConfig {
            protocol: if access.plain_http {
                ClientProtocol::Http
            } else {
                ClientProtocol::Https
            },
            use_monolithic_push: true,
            connect_timeout: Some(CONNECT),
            read_timeout: Some(SILENCE),
            user_agent: concat!("luthier/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config)
            .map_err(|e| Error::internal("setting up the registry client", e))?;
        let registry = Self {
            client,
            auth: access.credentials.of(name),
            reference: reference.clone(),
            kept_elsewhere: access.credentials.helpers.iter().any(|h| host(h) == name),
        };
        registry
            .client
            .auth(reference, &registry.auth, operation)
            .await
            .map_err(|e| registry.failed(e))?;
        Ok(registry)
    }

    /// What went wrong, in words and with the next step.
    pub(crate) fn failed(&self, error: OciDistributionError) -> Error {
        let registry = self.reference.resolve_registry();
        let wanted = self.reference.whole();
        let seen = Evidence {
            output: Some(told(&error)),
            ..Evidence::default()
        };
        let failure = match kind(&error) {
            Kind::Unreachable => Error::new(
                Code::ImageUnavailable,
                format!("the registry {registry} cannot be reached"),
            )
            .hint("Check its name and port, that it runs, and whether it speaks HTTPS; then try again."),
            Kind::Refused => Error::new(
                Code::Unauthorized,
                format!("the registry {registry} did not let us in to {wanted}"),
            )
            .hint(if self.kept_elsewhere {
                "Its password is kept by a credential helper, which is not asked; put it into a \
                 file with `podman login --authfile FILE` and name that."
            } else if self.auth == RegistryAuth::Anonymous {
                "No login for it is known: log in with `docker login`, or name the file of logins."
            } else {
                "Check the login: it may be wrong, or not be allowed this repository."
            }),
            Kind::Unknown => Error::new(
                Code::UnknownImage,
                format!("the registry {registry} has no {wanted}"),
            )
            .hint("Check the repository and the tag or digest; it may have been deleted."),
            Kind::Damaged => Error::new(
                Code::ImageUnavailable,
                format!("what the registry {registry} sent for {wanted} is not what its digest says"),
            )
            .hint("Try again; if it stays so, the registry's storage is damaged."),
            Kind::Other => Error::new(
                Code::ImageUnavailable,
                format!("the registry {registry} failed at {wanted}"),
            )
            .hint("Its own words are in the evidence; then try again."),
        };
        failure.evidence(seen).source(error)
    }
}

enum Kind {
    Unreachable,
    Refused,
    Unknown,
    Damaged,
    Other,
}

fn kind(error: &OciDistributionError) -> Kind {
    use OciDistributionError as E;
    let status = |code: u16| match code {
        401 | 403 => Kind::Refused,
        404 => Kind::Unknown,
        _ => Kind::Other,
    };
    match error {
        E::AuthenticationFailure(_) | E::UnauthorizedError { .. } => Kind::Refused,
        E::ImageManifestNotFoundError(_) => Kind::Unknown,
        E::DigestError(_) => Kind::Damaged,
        E::ServerError { code, .. } => status(*code),
        E::RequestError(e) => match e.status() {
            Some(code) => status(code.as_u16()),
            None => Kind::Unreachable,
        },
        E::RegistryError { envelope, .. } => {
            for error in &envelope.errors {
                match error.code {
                    OciErrorCode::Unauthorized | OciErrorCode::Denied => return Kind::Refused,
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::BlobUnknown
                    | OciErrorCode::NotFound => return Kind::Unknown,
                    _ => {}
                }
            }
            Kind::Other
        }
        _ => Kind::Other,
    }
}

/// The error with its causes: what a user would have to see anyway. Answers of the login service
/// are left out, since they may hold a token.
fn told(error: &OciDistributionError) -> String {
    if matches!(error, OciDistributionError::RegistryTokenDecodeError(_)) {
        return "the login service's answer is not understood".to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Reads `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.
///
/// # Errors
/// `BadRequest` when it is none.
pub(crate) fn reference(text: &str) -> Result<Reference> {
    text.parse::<Reference>().map_err(|e| {
        Error::new(
            Code::BadRequest,
            format!("`{}` names no image in a registry: {e}", text.escape_debug()),
        )
        .hint("Write HOST[:PORT]/REPOSITORY:TAG in lower case, for example registry.example.org/models/churn:v1.")
    })
}

#[cfg(test)]
mod tests;
