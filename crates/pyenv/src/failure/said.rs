//! What the words of `uv` say.

use std::collections::BTreeSet;

use luthier_host::mask_credentials;

use crate::requirements::pin_name;

/// The addresses in a text, without their credentials, each once.
pub(super) fn addresses(text: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![];
    for word in text.split(|c: char| c.is_whitespace() || "`()'\"<>".contains(c)) {
        let address = word.trim_end_matches([',', '.', ':']);
        if (address.starts_with("http://") || address.starts_with("https://"))
            && !found.iter().any(|f| f == address)
        {
            found.push(mask_credentials(address));
        }
    }
    found.truncate(3);
    found
}

/// The plainest of the reasons that a resolution failed for, if there is one.
pub(super) fn reason(output: &str) -> Option<String> {
    let text: String = output.split_whitespace().collect::<Vec<_>>().join(" ");
    let clause = |from: &str| {
        let start = text.find(from)?;
        let rest = &text[start..];
        let end = [" and ", ", we can", ", ", " we can"]
            .iter()
            .filter_map(|stop| rest.find(stop))
            .min()?;
        Some(rest[..end].to_owned())
    };
    for (said, who) in [
        ("package registry", "no index has a"),
        ("provided package locations", "the wheelhouse has no"),
        ("cache", "the server's cache has no"),
    ] {
        if let Some(at) = text.find(&format!(" was not found in the {said}")) {
            let name = text[..at].rsplit(' ').next()?;
            return Some(format!("{who} package called {name}"));
        }
    }
    if let Some(at) = text.find(" was yanked").or_else(|| text.find(" is yanked")) {
        let name = text[..at].rsplit(' ').next()?;
        return Some(format!("{name} was withdrawn by its authors (yanked)"));
    }
    clause("there is no version of ").or_else(|| clause("there are no versions of "))
}

/// What a failed build was of, `name==version`.
pub(super) fn unbuilt(output: &str) -> Option<String> {
    [
        "Failed to build `",
        "Failed to download and build `",
        "Failed to prepare distributions `",
    ]
    .iter()
    .find_map(|start| {
        let (_, rest) = output.split_once(start)?;
        Some(rest.split_once('`')?.0.to_owned())
    })
}

/// What a failed build ended with.
pub(super) fn build_cause(output: &str) -> Option<String> {
    let said = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        lower.contains("fatal error:")
            || lower.starts_with("error: command")
            || lower.contains("command not found")
            || lower.starts_with("modulenotfounderror")
    };
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    let line = lines.iter().find(|line| said(line)).or_else(|| {
        lines
            .iter()
            .rev()
            .find(|line| line.to_ascii_lowercase().contains("error:"))
    })?;
    Some(line.chars().take(160).collect())
}

/// The package that a hash mismatch is of.
pub(super) fn mismatched(output: &str) -> Option<String> {
    let (_, rest) = output.split_once("ash mismatch for `")?;
    Some(rest.split_once('`')?.0.to_owned())
}

/// The last lines that say something.
pub(super) fn last_lines(output: &str) -> Vec<String> {
    let lines: Vec<&str> = output.lines().filter(|l| !l.trim().is_empty()).collect();
    let start = lines.len().saturating_sub(20);
    lines[start..].iter().map(|l| (*l).to_owned()).collect()
}

/// The words of a text that may be names, normalised.
pub(super) fn words(output: &str) -> BTreeSet<String> {
    output
        .split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)))
        .filter(|word| !word.is_empty())
        .map(pin_name)
        .collect()
}
