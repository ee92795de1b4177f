//! What a failed run of `uv` means.

use std::collections::BTreeSet;

use luthier_host::Outcome;
use luthier_ports::normalised;
use luthier_types::{Code, Error};

use crate::requirements::pin_name;

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The index does not answer, or does not let the server in.
    Unreachable,
    /// A distribution has no wheel for the image; it would have to be built.
    NeedsBuild,
    /// A distribution was built and that failed.
    BuildFailed,
    /// A downloaded file is not the one that was locked.
    HashMismatch,
    /// Anything else: the requirements cannot be met.
    Unsatisfiable,
}

const UNREACHABLE: &[&str] = &[
    "error sending request",
    "dns error",
    "tcp connect error",
    "connection refused",
    "connection reset",
    "connection closed before",
    "network is unreachable",
    "operation timed out",
    "timed out",
    "failed to connect",
    "invalid peer certificate",
    "http status server error",
    "401 unauthorized",
    "403 forbidden",
    "407 proxy authentication",
    "429 too many requests",
    "network connectivity is disabled",
];
const NEEDS_BUILD: &[&str] = &[
    "building from source is disabled",
    "building source distributions is disabled",
    "no usable wheels",
    "has no wheels",
    "`--no-build`",
];

const BUILD_FAILED: &[&str] = &["failed to build", "build backend", "build_wheel"];

/// The packages that a failed run says it would have to build, normalised.
pub(crate) fn needs_build(outcome: &Outcome) -> BTreeSet<String> {
    outcome
        .output
        .split("Wheels are required for `")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('`')?.0))
        .filter(|name| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
        })
        .map(normalised)
        .collect()
}

/// Tells the kind from what `uv` wrote.
pub(crate) fn classify(outcome: &Outcome) -> Kind {
    let text = outcome.output.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if outcome.timed_out || any(UNREACHABLE) {
        Kind::Unreachable
    } else if text.contains("hash mismatch") {
        Kind::HashMismatch
    } else if any(NEEDS_BUILD) {
        Kind::NeedsBuild
    } else if any(BUILD_FAILED) {
        Kind::BuildFailed
    } else {
        Kind::Unsatisfiable
    }
}

/// Who asked for what, to name in the hint.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    /// Names in the package's requirements.
    pub(crate) package: Vec<&'a str>,
    /// The image's pins that the package did not replace, `name==version`.
    pub(crate) image: Vec<&'a str>,
    /// Constraints of the image, and the library of the image each is kept for.
    pub(crate) keeps: Vec<(&'a str, &'a str)>,
    /// The image's URI.
    pub(crate) uri: &'a str,
}

/// The error for a failed resolution or installation.
pub(crate) fn error(outcome: &Outcome, doing: &str, asked: &Asked<'_>) -> Error {
    match classify(outcome) {
        Kind::Unreachable => Error::new(
            Code::IndexUnreachable,
            format!("the package index did not answer while {doing}"),
        )
        .hint(
            "Try again. If it keeps failing, check the server's network and its settings \
             UV_DEFAULT_INDEX, HTTPS_PROXY and SSL_CERT_FILE; the output names the address.",
        ),
        Kind::HashMismatch => Error::new(
            Code::RequirementsError,
            format!("a downloaded file is not the one that was locked, found while {doing}"),
        )
        .hint(
            "The index holds another file under the same version. Change the pin in \
             requirements.txt to a version that is untouched, and deploy again.",
        ),
        Kind::NeedsBuild => Error::new(
            Code::RequirementsError,
            format!("a requirement has no ready-made wheel for this image, found while {doing}"),
        )
        .hint("Pin a version that has a wheel, in requirements.txt; the output names the package."),
        Kind::BuildFailed => Error::new(
            Code::RequirementsError,
            format!("a requirement could not be built from its source, found while {doing}"),
        )
        .hint(
            "Pin a version that has a ready-made wheel, in requirements.txt. Only packages without \
             compiled parts can be built here: the image has no compiler.",
        ),
        Kind::Unsatisfiable => Error::new(
            Code::RequirementsError,
            format!(
                "requirements.txt cannot be met on the image {}, found while {doing}",
                asked.uri
            ),
        )
        .hint(hint(&outcome.output, asked)),
    }
    .evidence(outcome.evidence())
}

/// Names the pins that the explanation speaks of.
fn hint(output: &str, asked: &Asked<'_>) -> String {
    let words: Vec<String> = output
        .split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
        .filter(|word| !word.is_empty())
        .map(pin_name)
        .collect();
    let spoken_of = |name: &str| words.iter().any(|word| word == name);
    let package: Vec<&str> = asked
        .package
        .iter()
        .copied()
        .filter(|name| spoken_of(name))
        .collect();
    let image: Vec<&str> = asked
        .image
        .iter()
        .copied()
        .filter(|pin| spoken_of(&pin_name(pin)))
        .collect();
    let mut text = match package.as_slice() {
        [] => "Change the pins in requirements.txt; the output tells which do not fit.".to_owned(),
        names => format!(
            "Change the pins of {} in requirements.txt.",
            names.join(", ")
        ),
    };
    for (constraint, library) in &asked.keeps {
        if output.contains(constraint) {
            text.push_str(&format!(
                " {constraint} is kept because the image's {library} needs it; name {} in \
                 requirements.txt with another version to lift it.",
                pin_name(library)
            ));
        }
    }
    if !image.is_empty() {
        text.push_str(&format!(
            " {} come{} with the image; name {} in requirements.txt with another version to \
             replace {}.",
            image.join(", "),
            if image.len() == 1 { "s" } else { "" },
            if image.len() == 1 { "it" } else { "them" },
            if image.len() == 1 { "it" } else { "them" },
        ));
    }
    text
}

#[cfg(test)]
mod tests;
