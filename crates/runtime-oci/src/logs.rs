//! The output of a container: two files of bounded size, rotated between lines.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use fs_err::{File, OpenOptions};

/// Longest line that is kept whole; a longer one is cut into several.
pub(crate) const LINE_BYTES: usize = 16 * 1024;

/// Writes output as it comes; holds back the last line until it is whole.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    written: u64,
    /// Size at which a file is rotated away.
    limit: u64,
    partial: Vec<u8>,
    /// Whole lines that are not in the file yet.
    ready: Vec<u8>,
}

impl LogWriter {
    /// Appends to the log at `path`, which with its predecessor stays below about `max_bytes`.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            written: file.metadata()?.len(),
            file,
            limit: (max_bytes / 2).max(LINE_BYTES as u64 + 1),
            partial: vec![],
            ready: vec![],
        })
    }

    /// Takes bytes of output.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.partial.extend_from_slice(bytes);
        let mut start = 0;
        while start < self.partial.len() {
            let rest = &self.partial[start..];
            let window = &rest[..rest.len().min(LINE_BYTES)];
            let end = match window.iter().position(|b| *b == b'\n') {
                Some(newline) => newline,
                None if window.len() == LINE_BYTES => LINE_BYTES,
                None => break,
            };
            let line = start..start + end;
            // The newline that ended the line is consumed, a cut consumes none.
            start += end + usize::from(rest.get(end) == Some(&b'\n'));
            self.line(line)?;
        }
        self.partial.drain(..start);
        self.flush()
    }

    /// Writes what is left of an unfinished last line.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if self.partial.is_empty() {
            return Ok(());
        }
        self.push(b"\n")
    }

    /// Readies one line of the pending bytes, in a new file if it would not fit the current one.
    fn line(&mut self, range: std::ops::Range<usize>) -> io::Result<()> {
        let total = self.written + (self.ready.len() + range.len() + 1) as u64;
        if total > self.limit {
            self.flush()?;
            fs_err::rename(&self.path, previous(&self.path))?;
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?;
            self.written = 0;
        }
        self.ready.extend_from_slice(&self.partial[range]);
        self.ready.push(b'\n');
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let ready = std::mem::take(&mut self.ready);
        self.written += ready.len() as u64;
        self.file.write_all(&ready)
    }
}

/// The last `lines` lines of the log at `path`, oldest first; empty when there is none.
pub(crate) fn tail(path: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut last = VecDeque::with_capacity(lines.min(1024));
    for file in [previous(path), path.to_owned()] {
        let bytes = match fs_err::read(file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if last.len() == lines {
                last.pop_front();
            }
            if lines > 0 {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                last.push_back(String::from_utf8_lossy(line).into_owned());
            }
        }
    }
    Ok(last.into())
}

fn previous(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(max: u64) -> (tempfile::TempDir, PathBuf, LogWriter) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.log");
        let writer = LogWriter::open(&path, max).unwrap();
        (dir, path, writer)
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let (_dir, path, mut writer) = log(1 << 20);
        for piece in ["a", "b\nc", "\n\nlast"] {
            writer.push(piece.as_bytes()).unwrap();
        }
        assert_eq!(tail(&path, 9).unwrap(), ["ab", "c", ""]);
        writer.finish().unwrap();
        writer.finish().unwrap();
        assert_eq!(tail(&path, 2).unwrap(), ["", "last"]);
        assert_eq!(tail(&path, 0).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn rotation_bounds_the_size_and_keeps_the_end() {
        let max = 4 * LINE_BYTES as u64;
        let (dir, path, mut writer) = log(max);
        for n in 0..20_000 {
            writer.push(format!("line {n}\n").as_bytes()).unwrap();
        }
        let size = |name: &str| fs_err::metadata(dir.path().join(name)).unwrap().len();
        assert!(size("out.log") + size("out.log.1") <= max);
        let lines = tail(&path, 3000).unwrap();
        let expected: Vec<_> = (17_000..20_000).map(|n| format!("line {n}")).collect();
        assert_eq!(lines, expected, "in order, across both files, none torn");
    }

    #[test]
    fn an_endless_line_is_cut() {
        let (_dir, path, mut writer) = log(1 << 20);
        writer.push(&vec![b'x'; LINE_BYTES + 3]).unwrap();
        writer.push(b"\ny\n").unwrap();
        let lines = tail(&path, 9).unwrap();
        assert_eq!(
            lines.iter().map(String::len).collect::<Vec<_>>(),
            [LINE_BYTES, 3, 1]
        );
    }
}
