//! Which registries images may come from. Pure.

use luthier_types::{Code, Error, Result};

/// The registries, and parts of them, whose images may be named as a base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedRegistries(Vec<Allowed>);

/// A registry or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Allowed {
    /// Name, with a port if there is one.
    host: String,
    /// What the repository's name starts with, up to a `/`; empty for all.
    prefix: String,
    plain_http: bool,
}

impl AllowedRegistries {
    /// Reads entries of the form `[http://]HOST[:PORT][/PREFIX]`. `http://` reaches the registry
    /// without TLS, which is also how one on this machine's loopback is reached.
    ///
    /// # Errors
    /// `BadRequest` naming the entry that is none.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self> {
        let allowed = entries.into_iter().map(|entry| {
            let entry = entry.as_ref().trim();
            Allowed::parse(entry).ok_or_else(|| {
                Error::new(
                    Code::BadRequest,
                    format!("`{}` names no registry", entry.escape_debug()),
                )
                .hint(
                    "Give --allow-registry a host, with a port and the beginning of repositories' \
                     names where wanted: registry.example.org:5000/team; http:// before it goes \
                     without TLS.",
                )
            })
        });
        Ok(Self(allowed.collect::<Result<_>>()?))
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the image that `uri` names, `HOST/REPOSITORY[:TAG][@DIGEST]`, may be a base.
    ///
    /// # Errors
    /// `BadRequest` when images may not come from there.
    pub fn check(&self, uri: &str) -> Result<()> {
        let (host, rest) = uri.split_once('/').unwrap_or((uri, ""));
        let rest = rest.split('@').next().unwrap_or(rest);
        let repository = match rest.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => repository,
            _ => rest,
        };
        // As Docker's names are written short.
        if host == "docker.io" && !repository.contains('/') {
            return self
                .plain_http(host, &format!("library/{repository}"))
                .map(drop);
        }
        self.plain_http(host, repository).map(drop)
    }

    /// Whether the repository of the registry is reached without TLS.
    ///
    /// # Errors
    /// `BadRequest` when images may not come from there.
    pub fn plain_http(&self, host: &str, repository: &str) -> Result<bool> {
        let found = self.0.iter().find(|a| a.covers(host, repository));
        found.map(|allowed| allowed.plain_http).ok_or_else(|| {
            let error = Error::new(
                Code::BadRequest,
                format!("images may not come from {host}/{repository} on this server"),
            );
            let how = "The server's operator allows it with `luthier serve --allow-registry";
            if self.0.is_empty() {
                return error.hint(format!(
                    "{how} {host}`. Without, the images are those that `luthier images` lists."
                ));
            }
            let names: Vec<String> = self.0.iter().map(Allowed::name).collect();
            error.hint(format!(
                "They may come from {}. {how} {host}`.",
                names.join(", ")
            ))
        })
    }
}

impl Allowed {
    fn parse(entry: &str) -> Option<Self> {
        let (plain_http, rest) = match entry.split_once("://") {
            Some(("http", rest)) => (true, rest),
            Some(("https", rest)) => (false, rest),
            Some(_) => return None,
            None => (is_loopback(entry), entry),
        };
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let of_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let of_name = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let fits = names_registry(&format!("{host}/"))
            && host.chars().all(of_host)
            && prefix.chars().all(of_name);
        fits.then(|| Self {
            host: host.to_owned(),
            prefix: prefix.to_owned(),
            plain_http,
        })
    }

    fn covers(&self, host: &str, repository: &str) -> bool {
        let below = repository
            .strip_prefix(&self.prefix)
            .is_some_and(|rest| rest.is_empty() || self.prefix.is_empty() || rest.starts_with('/'));
        self.host == host && below
    }

    fn name(&self) -> String {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}{}", self.host, self.prefix)
    }
}

/// Whether a name starts with the host of a registry rather than with a name of the catalogue.
pub fn names_registry(uri: &str) -> bool {
    let host = uri.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| host.contains(['.', ':']) || host == "localhost")
}

fn is_loopback(entry: &str) -> bool {
    let host = entry.split('/').next().unwrap_or(entry);
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str]) -> AllowedRegistries {
        AllowedRegistries::parse(entries).unwrap()
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        let registries = allowed(&["registry.example.org/team", "other.example.org:5000"]);
        for (host, repository, may) in [
            ("registry.example.org", "team/base", true),
            ("registry.example.org", "team", true),
            ("registry.example.org", "teams/base", false),
            ("registry.example.org", "base", false),
            ("registry.example.org:443", "team/base", false),
            ("other.example.org:5000", "anything/at/all", true),
            ("other.example.org", "anything", false),
            ("evil.example.org", "registry.example.org/team", false),
        ] {
            let found = registries.plain_http(host, repository);
            assert_eq!(found.is_ok(), may, "{host}/{repository}");
        }
        let refused = registries.plain_http("x.org", "a").unwrap_err();
        assert_eq!(refused.code(), Code::BadRequest);
        let step = refused.next_step().unwrap();
        assert!(step.contains("registry.example.org/team, other.example.org:5000"));
    }

    #[test]
    fn names_are_taken_apart() {
        let registries = allowed(&["h.org:5000/a", "docker.io/library"]);
        for (uri, may) in [
            ("h.org:5000/a:1", true),
            ("h.org:5000/a/b:1@sha256:00", true),
            ("h.org:5000/a@sha256:00", true),
            ("h.org:5000/b:1", false),
            ("h.org/a:1", false),
            ("docker.io/python:3.11", true),
            ("docker.io/other/python:3.11", false),
        ] {
            assert_eq!(registries.check(uri).is_ok(), may, "{uri}");
        }
    }

    #[test]
    fn only_loopback_and_what_says_so_goes_without_tls() {
        let registries = allowed(&[
            "127.0.0.1:5000",
            "localhost:5000",
            "[::1]:5000",
            "10.0.0.1:5000",
            "http://plain.example.org",
            "https://127.0.0.2:5000",
        ]);
        for (host, plain) in [
            ("127.0.0.1:5000", true),
            ("localhost:5000", true),
            ("[::1]:5000", true),
            ("10.0.0.1:5000", false),
            ("plain.example.org", true),
            ("127.0.0.2:5000", false),
        ] {
            assert_eq!(registries.plain_http(host, "a").unwrap(), plain, "{host}");
        }
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for entry in [
            "",
            "team",
            "ftp://a.org",
            "a.org/b c",
            "us er@a.org",
            "a.org?x",
        ] {
            let refused = AllowedRegistries::parse([entry]).unwrap_err();
            assert_eq!(refused.code(), Code::BadRequest, "{entry}");
        }
    }
}
