//! The admin token.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// A secret that a caller proves to know. `Debug` does not show it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// Whether `presented` is the secret, in a time that depends on neither.
    pub fn matches(&self, presented: &str) -> bool {
        !self.0.is_empty() && self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
