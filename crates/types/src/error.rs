//! The one error type: a stable code, the cause in plain words, the evidence and the next step.
//!
//! `message` and `hint` are public. The source chain is internal: it is logged once, where the
//! error is handled, and never sent to a client; [`Error::chain`] is the only way to read it.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    evidence::{Evidence, last_bytes},
    lack::Lack,
};

/// Shorthand for results with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync>;
type SharedSource = Arc<dyn StdError + Send + Sync>;

/// What went wrong, as a name that never changes. Each has a page `docs/errors/<code>.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Code {
    /// A value in the request is wrong.
    BadRequest,
    /// No token or a wrong one.
    Unauthorized,
    /// The thing asked for does not exist.
    NotFound,
    /// The name or state clashes with what exists.
    Conflict,
    /// The request body or archive is larger than the limit.
    TooLarge,
    /// Known, but not served.
    NotSupported,
    /// More CPU, memory or disk was asked for than the machine has.
    CapacityExceeded,
    /// The package is not one: no `package.py`, no `get_model`, an unsafe archive.
    InvalidPackage,
    /// The requirements cannot be resolved or installed.
    RequirementsError,
    /// The package index does not answer.
    IndexUnreachable,
    /// The image is not in the catalogue.
    UnknownImage,
    /// The image's file system or interpreter could not be made on this machine.
    ImageUnavailable,
    /// The model failed: out of memory, crashed, or its code raised.
    ModelServeError,
    /// The model's answer does not fit its spec.
    InvalidPrediction,
    /// The model did not become ready in time.
    DeploymentTimeout,
    /// No replica of the model is serving, and none will by itself.
    ModelUnavailable,
    /// No replica of the model is serving yet, or again.
    ModelStarting,
    /// The model did not answer before the deadline.
    PredictTimeout,
    /// The model has more waiting requests than it can take.
    Overloaded,
    /// A new revision answers otherwise than the one that serves, and waits to be let through.
    RolloutHeld,
    /// A container could not be started for a reason of this machine.
    ContainerFailed,
    /// The server cannot write what it has to keep: read-only, or locked by another process.
    StorageUnavailable,
    /// The job was cancelled.
    Cancelled,
    /// A fault of the server.
    Internal,
}

/// Who can mend an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller: change the request.
    Caller,
    /// The package's author: change the package, its requirements or its resources.
    Package,
    /// The machine's operator.
    Operator,
    /// Luthier's developers.
    Server,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 24] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::NotSupported,
        Self::CapacityExceeded,
        Self::InvalidPackage,
        Self::RequirementsError,
        Self::IndexUnreachable,
        Self::UnknownImage,
        Self::ImageUnavailable,
        Self::ModelServeError,
        Self::InvalidPrediction,
        Self::DeploymentTimeout,
        Self::ModelUnavailable,
        Self::ModelStarting,
        Self::PredictTimeout,
        Self::Overloaded,
        Self::RolloutHeld,
        Self::ContainerFailed,
        Self::StorageUnavailable,
        Self::Cancelled,
        Self::Internal,
    ];

    /// Who can mend it.
    pub const fn fault(self) -> Fault {
        match self {
            Self::BadRequest
            | Self::Unauthorized
            | Self::NotFound
            | Self::Conflict
            | Self::TooLarge
            | Self::NotSupported
            | Self::UnknownImage
            | Self::CapacityExceeded
            | Self::ModelUnavailable
            | Self::ModelStarting
            | Self::Overloaded
            | Self::RolloutHeld
            | Self::Cancelled => Fault::Caller,
            Self::InvalidPackage
            | Self::RequirementsError
            | Self::ModelServeError
            | Self::InvalidPrediction
            | Self::DeploymentTimeout
            | Self::PredictTimeout => Fault::Package,
            Self::IndexUnreachable
            | Self::ImageUnavailable
            | Self::ContainerFailed
            | Self::StorageUnavailable => Fault::Operator,
            Self::Internal => Fault::Server,
        }
    }

    /// Whether the same work may succeed when it is simply tried again.
    pub const fn retryable(self) -> bool {
        match self {
            Self::IndexUnreachable
            | Self::ContainerFailed
            | Self::ImageUnavailable
            | Self::StorageUnavailable
            | Self::ModelStarting
            | Self::Overloaded => true,
            Self::BadRequest
            | Self::Unauthorized
            | Self::NotFound
            | Self::Conflict
            | Self::TooLarge
            | Self::NotSupported
            | Self::CapacityExceeded
            | Self::InvalidPackage
            | Self::RequirementsError
            | Self::UnknownImage
            | Self::ModelServeError
            | Self::InvalidPrediction
            | Self::DeploymentTimeout
            | Self::ModelUnavailable
            | Self::PredictTimeout
            | Self::RolloutHeld
            | Self::Cancelled
            | Self::Internal => false,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A failure. `Display` gives the public message and never the source.
#[derive(Clone, Serialize, Deserialize)]
pub struct Error {
    code: Code,
    message: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    evidence: Box<Evidence>,
    #[serde(skip)]
    source: Option<SharedSource>,
}

impl Error {
    /// A failure with a code and its cause in plain words (public).
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            evidence: Box::default(),
            source: None,
        }
    }

    /// A fault of the server: `operation` says what was being done (public), `source` why it
    /// failed (internal). A disk that is full or read-only is no such fault, and is told as what it
    /// is.
    pub fn internal(operation: impl fmt::Display, source: impl Into<Source>) -> Self {
        let source = source.into();
        if let Some(lack) = Lack::of(&*source) {
            return Self::storage(lack, operation, source);
        }
        Self::new(
            Code::Internal,
            format!("the server failed while {operation}"),
        )
        .hint("Look at the server's log for the cause; trying again may help.")
        .source(source)
    }

    /// Something could not be stored: `operation` says what was being done (public), `source` what
    /// was met (internal).
    pub fn storage(lack: Lack, operation: impl fmt::Display, source: impl Into<Source>) -> Self {
        let (code, what, hint) = match lack {
            Lack::Space => (
                Code::CapacityExceeded,
                "the server's disk is full",
                "Free space on it, for example by deleting models and with `luthier envs gc`; then \
                 ask again.",
            ),
            Lack::Writing => (
                Code::StorageUnavailable,
                "the server's disk is read-only or fails",
                "Have the operator look at `dmesg`: after an error of the disk the system lets \
                 nothing more be written.",
            ),
            Lack::Turn => (
                Code::StorageUnavailable,
                "the server's database is locked",
                "Have the operator end what else has it open, such as a backup or a database shell.",
            ),
        };
        Self::new(code, format!("{what}; it failed while {operation}"))
            .hint(hint)
            .source(source)
    }

    /// Adds the next step (public).
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what was observed (public).
    #[must_use]
    pub fn evidence(mut self, evidence: Evidence) -> Self {
        self.evidence = Box::new(evidence);
        self
    }

    /// Adds the internal cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// The code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The cause in plain words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The next step.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What was observed.
    pub const fn observed(&self) -> &Evidence {
        &self.evidence
    }

    /// Message, evidence and next step as one public text, for clients that show only one.
    pub fn public_text(&self) -> String {
        self.public_text_within(usize::MAX)
    }

    /// The same in about `limit` bytes. Of a tool's output and of the log their ends are kept, where
    /// the cause usually stands.
    pub fn public_text_within(&self, limit: usize) -> String {
        let mut text = self.message.clone();
        if let Some(summary) = self.evidence.summary() {
            text.push_str(&format!(" ({summary})"));
        }
        if let Some(hint) = &self.hint {
            let stop = if text.ends_with(['.', '!', '?', ':']) {
                ""
            } else {
                "."
            };
            text.push_str(&format!("{stop} {hint}"));
        }
        let log = self.evidence.log.join("\n");
        if let Some(output) = &self.evidence.output {
            let left = limit.saturating_sub(text.len());
            // The output says more than the log, but is not to displace it.
            let most = left.saturating_sub(log.len().min(left / 3));
            text.push_str(&format!("\n\n{}", end_of(output.trim_end(), most)));
        }
        if !log.is_empty() {
            let left = limit.saturating_sub(text.len());
            text.push_str(&format!(
                "\n\nLast lines of the log:\n{}",
                end_of(&log, left)
            ));
        }
        text
    }

    /// The message and every internal cause below it, for the log only.
    pub fn chain(&self) -> String {
        let mut text = format!("{}: {}", self.code, self.message);
        let mut cause: Option<&(dyn StdError + 'static)> = self
            .source
            .as_deref()
            .map(|s| s as &(dyn StdError + 'static));
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    }

    /// The public parts, without the source; what is stored and sent on.
    #[must_use]
    pub fn to_public(&self) -> Self {
        Self {
            code: self.code,
            message: self.message.clone(),
            hint: self.hint.clone(),
            evidence: self.evidence.clone(),
            source: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|s| s as &(dyn StdError + 'static))
    }
}

/// The end of a text, from the beginning of a line if it has several.
fn end_of(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = last_bytes(text, most);
    let end = end.split_once('\n').map_or(end, |(_, whole)| whole);
    Cow::Owned(format!("…\n{end}"))
}

#[cfg(test)]
mod tests;
