//! Standard output carries data, standard error the rest.

use std::{
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd,
};

use luthier_types::Error;

/// Writes one line of data. A closed pipe ends the program quietly, as other tools do.
pub(crate) fn data(line: impl AsRef<str>) {
    if let Err(error) = writeln!(io::stdout(), "{}", line.as_ref())
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(0);
    }
}

/// Writes one line for the person at the terminal.
pub(crate) fn note(line: impl AsRef<str>) {
    // Nothing can be done when even standard error is gone.
    let _ = writeln!(io::stderr(), "{}", line.as_ref());
}

/// Writes prose as data: on a terminal it is broken between words, further lines indented by `indent`.
pub(crate) fn prose(text: impl AsRef<str>, indent: usize) {
    data(broken(text.as_ref(), indent, width(&io::stdout())));
}

/// As [`prose`], for the person at the terminal.
pub(crate) fn note_prose(text: impl AsRef<str>, indent: usize) {
    note(broken(text.as_ref(), indent, width(&io::stderr())));
}

/// The columns of a terminal; `None` for a file or a pipe.
fn width(stream: &impl AsFd) -> Option<usize> {
    terminal_size::terminal_size_of(stream).map(|(width, _)| width.0.into())
}

/// The text in lines of at most `width` columns, if words allow it. Lines of its own keep their indent.
fn broken(text: &str, indent: usize, width: Option<usize>) -> String {
    let Some(width) = width else {
        return text.to_owned();
    };
    let lines: Vec<String> = text
        .split('\n')
        .map(|line| broken_line(line, indent, width))
        .collect();
    lines.join("\n")
}

fn broken_line(line: &str, indent: usize, width: usize) -> String {
    let own = line.len() - line.trim_start_matches(' ').len();
    let mut words = line[own..].split(' ');
    let mut text = format!("{}{}", " ".repeat(own), words.next().unwrap_or_default());
    let mut column = text.chars().count();
    for word in words {
        let length = word.chars().count();
        if column + 1 + length > width {
            text.push_str(&format!("\n{}{word}", " ".repeat(indent)));
            column = indent + length;
        } else {
            text.push_str(&format!(" {word}"));
            column += 1 + length;
        }
    }
    text
}

/// Writes a failure: code and cause, evidence, next step.
pub(crate) fn failure(error: &Error) {
    note_prose(format!("error[{}]: {}", error.code(), error.message()), 2);
    let observed = error.observed();
    if let Some(summary) = observed.summary() {
        note(format!("  seen: {summary}"));
    }
    if let Some(output) = &observed.output {
        for line in output.trim_end().lines() {
            note(format!("  | {line}"));
        }
    }
    if !observed.log.is_empty() {
        note("  last lines of the log:");
        for line in &observed.log {
            note(format!("  | {line}"));
        }
    }
    if let Some(step) = error.next_step() {
        note_prose(format!("  next: {step}"), 8);
    }
}

/// Whether a person watches standard error.
pub(crate) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// A number of bytes for people; empty when absent.
pub(crate) fn bytes(value: &serde_json::Value) -> String {
    match value.as_f64() {
        None => String::new(),
        Some(bytes) if bytes < 1024.0 * 1024.0 => format!("{:.0} KiB", bytes / 1024.0),
        Some(bytes) if bytes < 10_240.0 * 1024.0 * 1024.0 => {
            format!("{:.0} MiB", bytes / (1024.0 * 1024.0))
        }
        Some(bytes) => format!("{:.1} GiB", bytes / (1024.0 * 1024.0 * 1024.0)),
    }
}

/// Lines up rows of cells in columns, the first row being the heading.
pub(crate) fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        data(cells.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_broken_between_words_on_a_terminal_only() {
        let text = "    Give it a method of a-very-long-name-of-one-word, then.";
        assert_eq!(broken(text, 6, None), text);
        assert_eq!(
            broken(text, 6, Some(20)),
            "    Give it a method\n      of\n      a-very-long-name-of-one-word,\n      then."
        );
        assert_eq!(broken("", 2, Some(20)), "");
        assert_eq!(broken("abcdef ghi", 2, Some(3)), "abcdef\n  ghi");
        assert_eq!(broken("ab  c\n  de f", 2, Some(5)), "ab  c\n  de\n  f");
    }
}
