//! Standard output carries data, standard error the rest.

use std::io::{self, IsTerminal as _, Write as _};

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

/// Writes a failure: code and cause, evidence, next step.
pub(crate) fn failure(error: &Error) {
    note(format!("error[{}]: {}", error.code(), error.message()));
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
        note(format!("  next: {step}"));
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
