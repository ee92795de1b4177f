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
}
