//! The rules for a package's `requirements.txt`.

use luthier_types::{Code, Error, Evidence};

/// Largest file.
pub(crate) const MAX_REQUIREMENTS: u64 = 256 * 1024;

/// Options that change where packages come from or read other files, with what is wrong.
const REFUSED: &[(&str, &str)] = &[
    ("-i", "sets a package index"),
    ("--index-url", "sets a package index"),
    ("--pypi-url", "sets a package index"),
    ("--extra-index-url", "sets a package index"),
    ("--no-index", "sets a package index"),
    ("-f", "sets a place to find packages"),
    ("--find-links", "sets a place to find packages"),
    ("--trusted-host", "weakens the check of a package index"),
    ("-e", "installs from a directory"),
    ("--editable", "installs from a directory"),
    ("-r", "reads another file"),
    ("--requirement", "reads another file"),
    ("-c", "reads another file"),
    ("--constraint", "reads another file"),
    ("--cert", "reads another file"),
    ("--client-cert", "reads another file"),
];

/// Checks the content of a `requirements.txt` and gives it as text. Lines that reach out of the
/// package (indexes, other files, directories, environment variables) are refused; what the rest
/// means is the resolver's business.
///
/// # Errors
/// [`Code::RequirementsError`] naming the line.
pub fn check_requirements(content: &[u8]) -> Result<String, Error> {
    let bad = |cause: String| Error::new(Code::RequirementsError, cause);
    if content.len() as u64 > MAX_REQUIREMENTS {
        let cause = format!("requirements.txt has more than {MAX_REQUIREMENTS} bytes");
        return Err(bad(cause).hint("List only what the model imports."));
    }
    let text = std::str::from_utf8(content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content)).ok();
    let Some(text) = text.filter(|t| !t.contains('\0')) else {
        return Err(bad("requirements.txt is not UTF-8 text".to_owned()).hint(
            "Save it as UTF-8; PowerShell's `>` writes UTF-16, use `| Out-File -Encoding utf8`.",
        ));
    };
    for (number, line) in logical_lines(text) {
        if let Some((what, hint)) = refusal(&line) {
            let shown: String = line.chars().take(200).collect();
            return Err(bad(format!("line {number} of requirements.txt {what}"))
                .hint(hint)
                .evidence(Evidence::output(&shown)));
        }
    }
    Ok(text.to_owned())
}

/// What is wrong with a line and what to do.
fn refusal(line: &str) -> Option<(String, &'static str)> {
    if line.starts_with('-') {
        let name = line.split(['=', ' ', '\t']).next().unwrap_or(line);
        // A short option may have its value attached, as in `-rother.txt`.
        let is = |option: &str| {
            name == option
                || (option.len() == 2 && !name.starts_with("--") && name.starts_with(option))
        };
        let (_, what) = REFUSED.iter().find(|(option, _)| is(option))?;
        let hint = match *what {
            "reads another file" => "Write the requirements themselves into requirements.txt.",
            "installs from a directory" => {
                "Put the code into the package directory and import it from there."
            }
            _ => {
                "Package indexes are settings of the server; remove the line and ask its operator if a private index is needed."
            }
        };
        return Some((format!("{what} (`{name}`)"), hint));
    }
    if line.contains("${") {
        let hint = "Write the value itself; variables of the server are not for packages.";
        return Some(("uses an environment variable".to_owned(), hint));
    }
    let lower = line.to_ascii_lowercase();
    let address = lower
        .split_once('@')
        .map_or(lower.as_str(), |(_, after)| after)
        .trim_start();
    let hint = "Put the code into the package directory, or name a release of the package.";
    let path = ["/", "./", "../", "~", "file:", "git+file:"]
        .iter()
        .any(|p| lower.starts_with(p) || address.starts_with(p));
    if path || lower.contains("file://") {
        return Some(("installs from a file of the server".to_owned(), hint));
    }
    // A bare local archive or directory: PEP 508 names have no slash, and releases no such ending.
    let first = lower.split([';', ' ', '\t']).next().unwrap_or_default();
    let local = !first.contains("://")
        && (first.contains('\\')
            || [".whl", ".tar.gz", ".zip"]
                .iter()
                .any(|end| first.ends_with(end)));
    if local && !lower.contains("://") {
        return Some(("installs from a file of the server".to_owned(), hint));
    }
    if address.starts_with("http:")
        || address.starts_with("git+http:")
        || address.starts_with("git+git:")
    {
        let hint = "Use an https address, or name a release of the package.";
        return Some(("fetches over an unprotected connection".to_owned(), hint));
    }
    None
}

/// The lines with their numbers (from 1), continuations joined, comments and blank lines left out.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = vec![];
    let mut continued = false;
    for (i, line) in text.lines().enumerate() {
        let whole = line.trim_end();
        let (part, continues) = match whole.strip_suffix('\\') {
            Some(part) if !part.trim_start().starts_with('#') => (part, true),
            _ => (whole, false),
        };
        match lines.last_mut() {
            Some((_, last)) if continued => last.push_str(part),
            _ => lines.push((i + 1, part.to_owned())),
        }
        continued = continues;
    }
    for (_, line) in &mut lines {
        let comment = line.char_indices().find(|(i, c)| {
            *c == '#'
                && line[..*i]
                    .chars()
                    .next_back()
                    .is_none_or(char::is_whitespace)
        });
        if let Some((start, _)) = comment {
            line.truncate(start);
        }
        *line = line.trim().to_owned();
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

#[cfg(test)]
mod tests;
