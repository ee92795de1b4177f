//! Where a runner listens that an operator keeps, outside the server's own containers.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Code, Error};

/// Longest path of a Unix socket, without the terminating zero.
const LONGEST_SOCKET: usize = 107;

/// `http://host:port` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RunnerAddress {
    /// A Unix socket on the server's machine.
    Unix(PathBuf),
    /// `host:port`, to be spoken to in HTTP without encryption.
    Tcp(String),
}

impl FromStr for RunnerAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::new(
                Code::BadRequest,
                format!("`{text}` is no address of a runner: {why}"),
            )
            .hint("Give http://HOST:PORT or unix:/PATH.")
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.len() {
                _ if !path.starts_with('/') => Err(wrong("the path of its socket is not absolute")),
                length if length > LONGEST_SOCKET => {
                    Err(wrong("the path of its socket is too long"))
                }
                _ => Ok(Self::Unix(path.into())),
            };
        }
        if text.starts_with("https:") {
            return Err(wrong("runners are spoken to without encryption"));
        }
        let Some(address) = text.strip_prefix("http://") else {
            return Err(wrong("it begins with neither http:// nor unix:"));
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| wrong("it names no port"))?;
        if !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(wrong("it names no port"));
        }
        let (within, allowed) = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(within) => (within, ":.%"),
            None => (host, ".-_"),
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || allowed.contains(c);
        if within.is_empty() || !within.chars().all(fits) {
            return Err(wrong("it has more than a host and a port"));
        }
        Ok(Self::Tcp(format!("{host}:{port}")))
    }
}

impl fmt::Display for RunnerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "http://{address}"),
        }
    }
}

impl TryFrom<String> for RunnerAddress {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<RunnerAddress> for String {
    fn from(address: RunnerAddress) -> Self {
        address.to_string()
    }
}

impl From<PathBuf> for RunnerAddress {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_as_they_are() {
        for text in [
            "http://127.0.0.1:9000",
            "http://runner-1.models_x:80",
            "http://[::1]:9000",
            "unix:/run/model.sock",
        ] {
            let address: RunnerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let address: RunnerAddress = "http://localhost:1/".parse().unwrap();
        assert_eq!(address, RunnerAddress::Tcp("localhost:1".to_owned()));
    }

    #[test]
    fn what_is_none_is_refused_with_the_reason() {
        let long = format!("unix:/{}", "x".repeat(120));
        for (text, why) in [
            ("", "neither"),
            ("ftp://h:1", "neither"),
            ("https://h:1", "encryption"),
            ("http://h", "no port"),
            ("http://h:0", "no port"),
            ("http://h:65536", "no port"),
            ("http://:1", "a host and a port"),
            ("http://u:p@h:1", "a host and a port"),
            ("http://h:1/predict", "no port"),
            ("http://h/x:1", "a host and a port"),
            ("http://h h:1", "a host and a port"),
            ("http://h\r\nx:1", "a host and a port"),
            ("unix:relative", "absolute"),
            (long.as_str(), "too long"),
        ] {
            let error = text.parse::<RunnerAddress>().unwrap_err();
            assert!(error.message().contains(why), "{text}: {error}");
        }
    }
}
