//! Requirement files as users write them: which there are, and how their lines are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `requirements.txt` of a package and the files it includes, by their paths within the package.
/// What their lines may say is for the one who resolves them to decide.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequirementFiles(pub BTreeMap<String, String>);

impl RequirementFiles {
    /// The file that is read first.
    pub const MAIN: &str = "requirements.txt";

    /// A `requirements.txt` with this text that includes no other file.
    pub fn of(text: impl Into<String>) -> Self {
        Self(BTreeMap::from([(Self::MAIN.to_owned(), text.into())]))
    }

    /// The text of `requirements.txt`, if there is one.
    pub fn main(&self) -> Option<&str> {
        self.0.get(Self::MAIN).map(String::as_str)
    }

    /// The path within the package of what the file `from` includes as `path`; `None` when that is
    /// no relative path or leads out of the package. The text of the path decides; links are for the
    /// one who reads the files.
    pub fn resolve(from: &str, path: &str) -> Option<String> {
        if path.is_empty() || path.starts_with(['/', '~']) || path.contains(['\\', ':', '\0']) {
            return None;
        }
        let mut parts: Vec<&str> = from.split('/').collect();
        parts.pop();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop()?;
                }
                part => parts.push(part),
            }
        }
        (!parts.is_empty()).then(|| parts.join("/"))
    }
}

/// Another file that a line includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Include<'a> {
    /// Its path as it is written, relative to the including file.
    pub path: &'a str,
    /// Whether its lines only bound what others ask for (`-c`) instead of asking (`-r`).
    pub constraint: bool,
}

/// What a logical line includes, if it is an include.
pub fn include(line: &str) -> Option<Include<'_>> {
    let options = [
        ("--requirement", false),
        ("--constraint", true),
        ("-r", false),
        ("-c", true),
    ];
    options.into_iter().find_map(|(option, constraint)| {
        let rest = line.strip_prefix(option)?;
        // A short option may have its value attached, as in `-rbase.txt`.
        let long = option.starts_with("--");
        if long && !rest.starts_with([' ', '\t', '=']) && !rest.is_empty() {
            return None;
        }
        let path = rest.trim_start().trim_start_matches('=').trim();
        let path = ['"', '\'']
            .into_iter()
            .find_map(|quote| path.strip_prefix(quote)?.strip_suffix(quote))
            .unwrap_or(path);
        Some(Include { path, constraint })
    })
}

/// The lines of a requirements file with the number, from 1, of the first line of each: comments
/// stripped, continued lines joined, blank ones left out.
pub fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = vec![];
    let mut pending: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, mut joined) = pending.take().unwrap_or((index + 1, String::new()));
        // A line that is a comment ends what it follows and is not continued, as in pip.
        let comment = line.trim_start().starts_with('#');
        match line.strip_suffix('\\') {
            Some(start) if !comment => {
                joined.push_str(start);
                pending = Some((number, joined));
            }
            _ => {
                joined.push_str(if comment { "" } else { line });
                lines.push((number, joined));
            }
        }
    }
    lines.extend(pending);
    lines
        .into_iter()
        .map(|(number, line)| (number, without_comment(&line).trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// A comment starts at a `#` at the line's start or after white space.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_go_and_continued_lines_join() {
        let text =
            "\u{feff}# all\na==1 \\\n  --hash=x # why\n\nb @ https://h/x#sha256=1\nc \\\n# end\n";
        assert_eq!(
            logical_lines(text),
            [
                (2, "a==1   --hash=x".to_owned()),
                (5, "b @ https://h/x#sha256=1".to_owned()),
                (6, "c".to_owned()),
            ]
        );
    }

    #[test]
    fn includes_are_read_in_every_form() {
        for (line, path, constraint) in [
            ("-r base.txt", "base.txt", false),
            ("-rbase.txt", "base.txt", false),
            ("--requirement=deps/base.txt", "deps/base.txt", false),
            ("--requirement 'a b.txt'", "a b.txt", false),
            ("-c  ../c.txt", "../c.txt", true),
            ("--constraint c.txt", "c.txt", true),
            ("-r", "", false),
        ] {
            assert_eq!(include(line), Some(Include { path, constraint }), "{line}");
        }
        for line in [
            "requests",
            "--require-hashes",
            "--config-settings=a",
            "-e .",
        ] {
            assert_eq!(include(line), None, "{line}");
        }
    }

    #[test]
    fn an_include_stays_within_the_package() {
        let resolve = |from, path| RequirementFiles::resolve(from, path);
        let some = |path: &str| Some(path.to_owned());
        assert_eq!(resolve("requirements.txt", "base.txt"), some("base.txt"));
        assert_eq!(resolve("deps/a.txt", "./b.txt"), some("deps/b.txt"));
        assert_eq!(resolve("deps/a.txt", "../c.txt"), some("c.txt"));
        for path in [
            "",
            ".",
            "..",
            "../x",
            "a/../../x",
            "/etc/passwd",
            "~/x",
            "https://h/x",
            "a\\b",
        ] {
            assert_eq!(resolve("requirements.txt", path), None, "{path}");
        }
    }
}
