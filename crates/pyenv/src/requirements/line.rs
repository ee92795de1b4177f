//! One requirement: `name[extras] specifiers; marker --hash=…` or `name @ https://….whl`.

use std::collections::BTreeSet;

use luthier_ports::normalised;
use luthier_types::Digest;

use super::{Refusal, address};

type Read = (String, String, BTreeSet<Digest>);

const FORM: &str = "Write `name==version`, or `name @ https://…` for a wheel by its address.";
const WHEEL: &str =
    "Name a version from a package index, or a wheel (`….whl`) by its https address.";
const REPOSITORY: &str = "What a repository holds changes without notice, and would be built by a \
     stranger's code with its network. Make a wheel of it (`pip wheel --no-deps ADDRESS`) and put \
     that on a package index, into the server's wheelhouse or at an https address; or copy the code \
     into the package, beside package.py.";
const PATH: &str = "Copy the code into the package, beside package.py, and remove the line: it is \
     imported from there. A wheel goes on a package index, into the server's wheelhouse or at an \
     https address.";

/// Reads a logical line: the normalised name, the requirement alone, the digests it allows.
pub(super) fn read(line: &str) -> Result<Read, Refusal> {
    let (text, hashes) = hashes(line)?;
    let lower = text.to_ascii_lowercase();
    let begins = |what: &str| {
        lower.starts_with(what)
            || lower
                .split_once('@')
                .is_some_and(|(_, address)| address.trim_start().starts_with(what))
    };
    if ["git+", "hg+", "svn+", "bzr+", "git://", "ssh://", "git@"]
        .iter()
        .any(|scheme| begins(scheme))
    {
        return Err((
            "it names a version-control repository".to_owned(),
            REPOSITORY,
        ));
    }
    if ["/", "./", "../", "~", "file:"].iter().any(|p| begins(p)) {
        return Err(("it names a file or directory".to_owned(), PATH));
    }
    if let Some(name) = bare_wheel(&text)? {
        return Ok((normalised(&name), format!("{name} @ {text}"), hashes));
    }
    let Some(name) = name(&text) else {
        let is_path = text.contains('/') || is_archive(text.split([' ', ';']).next().unwrap_or(""));
        return Err(if is_path && !text.contains("://") {
            ("it names a file or directory".to_owned(), PATH)
        } else {
            (format!("`{}` is no requirement", text.escape_debug()), FORM)
        });
    };
    check_rest(text[name.len()..].trim_start())?;
    Ok((normalised(name), text.clone(), hashes))
}

/// Takes the options off a requirement; only digests are let through.
fn hashes(line: &str) -> Result<(String, BTreeSet<Digest>), Refusal> {
    let mut hashes = BTreeSet::new();
    let mut words = line.split_whitespace().peekable();
    let mut text: Vec<&str> = vec![];
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            if !hashes.is_empty() {
                return Err(("something stands after its hash".to_owned(), FORM));
            }
            text.push(word);
            continue;
        }
        let hash = match word.strip_prefix("--hash") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => {
                let option = word.split('=').next().unwrap_or(word);
                return Err((
                    format!("it has an option, `{}`", option.escape_debug()),
                    "Leave only the requirement itself and its `--hash=sha256:…`.",
                ));
            }
        };
        let digest = hash
            .and_then(|hash| hash.strip_prefix("sha256:"))
            .and_then(|hex| hex.to_ascii_lowercase().parse().ok())
            .ok_or((
                "its hash is no SHA-256".to_owned(),
                "Write it as `--hash=sha256:` and 64 hexadecimal digits.",
            ))?;
        hashes.insert(digest);
    }
    Ok((text.join(" "), hashes))
}

/// The name a wheel's address tells, when the line is the address of a wheel alone.
fn bare_wheel(text: &str) -> Result<Option<String>, Refusal> {
    if !text.contains("://") || name(text).is_some() {
        return Ok(None);
    }
    let url = text.split([' ', ';']).next().unwrap_or_default();
    let place = wheel(url)?;
    let path = place.split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let stem = file.split('-').next().unwrap_or_default();
    let found = name(stem).filter(|_| file.split('-').count() >= 5);
    found.map(|name| Some(name.to_owned())).ok_or((
        "the address does not end in the name of a wheel".to_owned(),
        WHEEL,
    ))
}

/// Checks that an address is a wheel's; its part after the scheme.
fn wheel(url: &str) -> Result<&str, Refusal> {
    let place = address(url, false).map_err(|(why, hint)| match hint {
        "Use an https address." => (why, WHEEL),
        other => (why, other),
    })?;
    let path = place.split(['?', '#']).next().unwrap_or_default();
    if path.ends_with(".whl") {
        Ok(place)
    } else {
        Err(("its address is not that of a wheel".to_owned(), WHEEL))
    }
}

fn is_archive(name: &str) -> bool {
    [".whl", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".tar"]
        .iter()
        .any(|suffix| name.to_ascii_lowercase().ends_with(suffix))
}

/// The name a requirement starts with (PEP 508), if what follows can follow a name.
pub(super) fn name(line: &str) -> Option<&str> {
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
        .unwrap_or(line.len());
    let name = &line[..end];
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !edge(name.chars().next()) || !edge(name.chars().next_back()) {
        return None;
    }
    // The installer takes such a name for a file beside it.
    if is_archive(name) {
        return None;
    }
    match line[end..].trim_start().chars().next() {
        None => Some(name),
        Some(c) if "[=<>!~;@(".contains(c) => Some(name),
        Some(_) => None,
    }
}

/// Checks the part of a requirement after its name: an address, if there is one, is a wheel's.
fn check_rest(rest: &str) -> Result<(), Refusal> {
    let misplaced = || ("it is no requirement".to_owned(), FORM);
    let after_extras = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or_else(misplaced)?.1,
        None => rest,
    };
    match after_extras.trim_start().strip_prefix('@') {
        Some(address) => {
            let url = address.trim_start().split([' ', ';']).next();
            wheel(url.unwrap_or_default()).map(|_| ())
        }
        None if after_extras.contains('@') => Err(misplaced()),
        None => Ok(()),
    }
}
