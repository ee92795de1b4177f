//! Content addresses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// SHA-256 of some content, written as 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// The text is not 64 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("a digest is 64 lower-case hexadecimal digits")]
pub struct ParseDigestError;

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self::from_sha256(Sha256::digest(bytes.as_ref()).into())
    }

    /// The digest of several fields. Each is hashed with its length, so that moving a boundary
    /// between fields changes the digest.
    pub fn of_fields<T: AsRef<[u8]>>(fields: impl IntoIterator<Item = T>) -> Self {
        let mut hasher = Sha256::new();
        for field in fields {
            let field = field.as_ref();
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        Self::from_sha256(hasher.finalize().into())
    }

    /// Wraps an already computed SHA-256.
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text))
        } else {
            Err(ParseDigestError)
        }
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.short())
    }
}

/// Names an environment: the digest of (image, lock, platform). Revisions with the same id share
/// one environment on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvId(pub Digest);

impl EnvId {
    /// The id of the environment that `lock` describes on the image with digest `image`, for
    /// `platform` (for example `x86_64-linux-gnu`).
    pub fn new(image: &Digest, lock: &str, platform: &str) -> Self {
        Self(Digest::of_fields([image.as_str(), lock, platform]))
    }
}

impl fmt::Display for EnvId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_a_field_boundary_changes_the_digest() {
        assert_ne!(
            Digest::of_fields(["ab", "c"]),
            Digest::of_fields(["a", "bc"])
        );
    }

    #[test]
    fn only_hexadecimal_of_full_length_parses() {
        let digest = Digest::of("x");
        assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        assert!("../../etc/passwd".parse::<Digest>().is_err());
        assert!(digest.as_str().to_uppercase().parse::<Digest>().is_err());
        assert!(digest.as_str()[1..].parse::<Digest>().is_err());
    }
}
