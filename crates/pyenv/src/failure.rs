//! What a failed run of `uv` means.

mod said;

use std::collections::BTreeSet;

use luthier_host::Outcome;
use luthier_ports::normalised;
use luthier_types::{Code, Error};

use crate::requirements::{Line, pin_name};
use said::{addresses, build_cause, last_lines, mismatched, reason, unbuilt, words};

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The index does not answer.
    Unreachable,
    /// The index does not let the server in.
    Unauthorised,
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
    "407 proxy authentication",
    "429 too many requests",
    "network connectivity is disabled",
];
const UNAUTHORISED: &[&str] = &["401 unauthorized", "403 forbidden"];
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
    if any(UNAUTHORISED) {
        Kind::Unauthorised
    } else if outcome.timed_out || any(UNREACHABLE) {
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

/// Who asked for what, to name in the message and the hint.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    /// The lines of the package's requirements.
    pub(crate) lines: Vec<&'a Line>,
    /// The image's pins that the package did not replace, `name==version`.
    pub(crate) image: Vec<&'a str>,
    /// Constraints of the image, and the library of the image each is kept for.
    pub(crate) keeps: Vec<(&'a str, &'a str)>,
    /// The image's URI.
    pub(crate) uri: &'a str,
    /// The server's indexes, without credentials.
    pub(crate) addresses: Vec<String>,
    /// Whether the server fetches nothing.
    pub(crate) offline: bool,
}

impl Asked<'_> {
    /// What asks for `name`, for people: ``line 3 of requirements.txt (`numpy==99`)``, or the name
    /// when nothing of the package does.
    pub(crate) fn place(&self, name: &str) -> String {
        match self.lines.iter().find(|line| line.name == name) {
            Some(line) => format!("{} (`{}`)", line.place(), line.text),
            None => name.to_owned(),
        }
    }
}

/// The error for a failed resolution or installation.
pub(crate) fn error(outcome: &Outcome, doing: &str, asked: &Asked<'_>) -> Error {
    let output = &outcome.output;
    let kind = classify(outcome);
    let (code, message, hint) = match kind {
        Kind::Unreachable if asked.offline => (
            Code::RequirementsError,
            format!("the server is offline and has not all that is needed, found while {doing}"),
            "Put the wheels that the output names into the server's wheelhouse \
             (LUTHIER_WHEELHOUSE), or let it reach an index (LUTHIER_OFFLINE=0)."
                .to_owned(),
        ),
        Kind::Unreachable => (
            Code::IndexUnreachable,
            format!("{} did not answer while {doing}", indexes(output, asked)),
            "Try again. If it keeps failing, check the server's network and its settings \
             LUTHIER_INDEX_URL, HTTPS_PROXY and SSL_CERT_FILE; the output names the address."
                .to_owned(),
        ),
        Kind::Unauthorised => (
            Code::IndexUnreachable,
            format!(
                "{} did not let the server in (401 or 403) while {doing}",
                indexes(output, asked)
            ),
            "Set the server's credentials for it: in a file in the form of .netrc that \
             LUTHIER_INDEX_CREDENTIALS names, or in LUTHIER_INDEX_URL (https://USER:PASSWORD@HOST/…)."
                .to_owned(),
        ),
        Kind::HashMismatch => (
            Code::RequirementsError,
            format!(
                "a downloaded file{} is not the one that was locked, found while {doing}",
                mismatched(output).map(|p| format!(" of {p}")).unwrap_or_default()
            ),
            "The index holds another file under the same version. Change the pin in \
             requirements.txt to a version that is untouched, and deploy again."
                .to_owned(),
        ),
        Kind::NeedsBuild => {
            let names = needs_build(outcome);
            let places: Vec<String> = names.iter().map(|name| asked.place(name)).collect();
            let what = match places.as_slice() {
                [] => "a requirement".to_owned(),
                places => places.join(", "),
            };
            (
                Code::RequirementsError,
                format!(
                    "{what} has no ready-made wheel for the image {}, found while {doing}",
                    asked.uri
                ),
                format!(
                    "Pin a version that has one{}: newer versions have wheels for newer Pythons, \
                     older ones for older; or choose an image with another Python.",
                    named(&names)
                ),
            )
        }
        Kind::BuildFailed => {
            let what = unbuilt(output);
            let place = what.as_deref().map(|what| {
                let name = pin_name(what);
                match asked.lines.iter().find(|line| line.name == name) {
                    Some(line) => format!("{what} ({})", line.place()),
                    None => what.to_owned(),
                }
            });
            let cause = build_cause(output).map(|c| format!(": {c}")).unwrap_or_default();
            (
                Code::RequirementsError,
                format!(
                    "{} could not be built from its source{cause}, found while {doing}",
                    place.unwrap_or("a requirement".to_owned())
                ),
                format!(
                    "Pin a version that has a ready-made wheel{}, in requirements.txt, or choose an \
                     image with another Python. The output ends with what the compiler said.",
                    what.map(|what| format!(" of {}", pin_name(&what))).unwrap_or_default()
                ),
            )
        }
        Kind::Unsatisfiable => (
            Code::RequirementsError,
            format!(
                "{} cannot be met on the image {}{}, found while {doing}",
                culprits(output, asked),
                asked.uri,
                reason(output).map(|r| format!(": {r}")).unwrap_or_default()
            ),
            hint(output, asked),
        ),
    };
    let mut evidence = outcome.evidence();
    if kind == Kind::BuildFailed {
        evidence.log = last_lines(output);
    }
    Error::new(code, message).hint(hint).evidence(evidence)
}

/// The indexes that a failed run speaks of, or all there are.
fn indexes(output: &str, asked: &Asked<'_>) -> String {
    let host = |address: &str| {
        let place = address.split("://").nth(1).unwrap_or(address);
        place.split('/').next().unwrap_or(place).to_owned()
    };
    let mut spoken_of: Vec<String> = asked
        .addresses
        .iter()
        .filter(|address| output.contains(host(address).as_str()))
        .cloned()
        .collect();
    if spoken_of.is_empty() {
        spoken_of = addresses(output);
    }
    match spoken_of.as_slice() {
        [] => "the package index".to_owned(),
        [one] => format!("the package index {one}"),
        more => format!("one of the package indexes {}", more.join(", ")),
    }
}

/// The lines of the package that the explanation speaks of, or the whole file.
fn culprits(output: &str, asked: &Asked<'_>) -> String {
    let words = words(output);
    let lines: Vec<String> = asked
        .lines
        .iter()
        .filter(|line| words.contains(&line.name))
        .map(|line| format!("{} (`{}`)", line.place(), line.text))
        .collect();
    match lines.as_slice() {
        [] => "requirements.txt".to_owned(),
        lines if lines.len() <= 4 => lines.join(" and "),
        lines => format!("{} and {} more", lines[..3].join(", "), lines.len() - 3),
    }
}

/// ` of a, b`, or nothing.
fn named(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return String::new();
    }
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    format!(" of {}", list.join(", "))
}

/// Names the pins that the explanation speaks of.
fn hint(output: &str, asked: &Asked<'_>) -> String {
    if asked.offline && reason(output).is_some() {
        return "The server is offline: put the wheels that are missing, for the image's Python and with \
                what they need, into its wheelhouse (LUTHIER_WHEELHOUSE), and deploy again."
            .to_owned();
    }
    let words = words(output);
    let package: Vec<String> = asked
        .lines
        .iter()
        .filter(|line| words.contains(&line.name))
        .map(|line| format!("{} ({})", line.name, line.place()))
        .collect();
    let image: Vec<&str> = asked
        .image
        .iter()
        .copied()
        .filter(|pin| words.contains(&pin_name(pin)))
        .collect();
    let mut text = match package.as_slice() {
        [] => "Change the pins in requirements.txt; the output tells which do not fit.".to_owned(),
        [one] => format!("Change the pin of {one}."),
        names => format!("Change the pins of {}.", names.join(", ")),
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
        let (comes, it) = if image.len() == 1 {
            ("comes", "it")
        } else {
            ("come", "them")
        };
        text.push_str(&format!(
            " {} {comes} with the image; name {it} in requirements.txt with another version to \
             replace {it}.",
            image.join(", "),
        ));
    }
    text
}

#[cfg(test)]
mod tests;
