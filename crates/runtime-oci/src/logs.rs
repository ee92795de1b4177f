//! The output of a container: two files of bounded size, rotated between lines. Each line begins with
//! the time it was written at.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use fs_err::{File, OpenOptions};
use jiff::{SignedDuration, Timestamp};
use luthier_ports::{LogEnd, LogLine, LogPart};

/// Longest line that is kept whole; a longer one is cut into several.
pub(crate) const LINE_BYTES: usize = 16 * 1024;
/// Length of a time, such as `2024-10-01T12:00:00.000000Z`.
const STAMP: usize = 27;
/// Bytes read at once.
const BLOCK: u64 = 64 * 1024;

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
    /// Time of the last line.
    last: Timestamp,
}

impl LogWriter {
    /// Appends to the log at `path`, which with its predecessor stays below about `max_bytes`.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self {
            path: path.to_owned(),
            written: file.metadata()?.len(),
            file,
            limit: (max_bytes / 2).max((LINE_BYTES + STAMP + 2) as u64),
            partial: vec![],
            ready: vec![],
            last: Timestamp::MIN,
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
        // Each later than the one before, whatever the clock does, so that it says where one has read to.
        let tick = SignedDuration::from_micros(1);
        let next = self.last.checked_add(tick).unwrap_or(self.last);
        self.last = Timestamp::now().max(next);
        let stamp = format!("{:.6} ", self.last);
        let total = self.written + (self.ready.len() + stamp.len() + range.len() + 1) as u64;
        if total > self.limit {
            self.flush()?;
            fs_err::rename(&self.path, previous(&self.path))?;
            self.file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?;
            self.written = 0;
        }
        self.ready.extend_from_slice(stamp.as_bytes());
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

/// Lines of the log at `path`; none when there is none.
pub(crate) fn read(path: &Path, part: LogPart) -> io::Result<Vec<LogLine>> {
    let mut lines = VecDeque::new();
    // From the end to the beginning, as far as needed: those who follow ask often, for little.
    let mut begun = None;
    'files: for file in [path.to_owned(), previous(path)] {
        let file = match File::open(file) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        // Rotated between the two looks, it is the same file again.
        let inode = Some(file.metadata()?.ino());
        if std::mem::replace(&mut begun, inode) == inode {
            continue;
        }
        let mut backwards = Backwards::new(file)?;
        while let Some(line) = backwards.next()? {
            let line = parsed(&line);
            let read = part
                .after
                .is_some_and(|after| line.at.is_none_or(|at| at <= after));
            let full = part.end == LogEnd::Last && lines.len() == part.lines;
            if read || full {
                break 'files;
            }
            lines.push_front(line);
        }
    }
    lines.truncate(part.lines);
    Ok(lines.into())
}

/// A line as it stands in the file: its time, a space, and its text. Those of older versions have
/// no time.
fn parsed(line: &[u8]) -> LogLine {
    let stamped = line.split_at_checked(STAMP).and_then(|(stamp, rest)| {
        let at = std::str::from_utf8(stamp).ok()?.parse().ok()?;
        Some((at, rest.strip_prefix(b" ")?))
    });
    let (at, text) = match stamped {
        Some((at, text)) => (Some(at), text),
        None => (None, line),
    };
    LogLine {
        at,
        text: String::from_utf8_lossy(text).into_owned(),
    }
}

/// Reads the lines of a file from its end.
struct Backwards {
    file: File,
    /// Where `bytes` begin in the file.
    start: u64,
    /// What was read and not given yet.
    bytes: Vec<u8>,
}

impl Backwards {
    fn new(mut file: File) -> io::Result<Self> {
        let start = file.seek(io::SeekFrom::End(0))?;
        Ok(Self {
            file,
            start,
            bytes: vec![],
        })
    }

    /// The line before the last one given, without its end. What is not ended yet is no line.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            // The last byte is the end of the line wanted; the one before that ends its predecessor.
            let whole = self.bytes.len().saturating_sub(1);
            if self.bytes.last() == Some(&b'\n') {
                let before = self.bytes[..whole].iter().rposition(|b| *b == b'\n');
                if before.is_some() || self.start == 0 {
                    let begin = before.map_or(0, |at| at + 1);
                    let mut line = self.bytes.split_off(begin);
                    line.pop();
                    return Ok(Some(line));
                }
            } else if let Some(end) = self.bytes.iter().rposition(|b| *b == b'\n') {
                self.bytes.truncate(end + 1);
                continue;
            }
            if self.start == 0 {
                return Ok(None);
            }
            let length = self.start.min(BLOCK);
            self.start -= length;
            let mut block = vec![0; usize::try_from(length).unwrap_or(0)];
            self.file.seek(io::SeekFrom::Start(self.start))?;
            self.file.read_exact(&mut block)?;
            block.append(&mut self.bytes);
            self.bytes = block;
        }
    }
}

fn previous(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(path: &Path, lines: usize) -> io::Result<Vec<String>> {
        let lines = read(path, LogPart::last(lines))?;
        Ok(lines.into_iter().map(|line| line.text).collect())
    }

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
        let lines = tail(&path, 800).unwrap();
        let expected: Vec<_> = (19_200..20_000).map(|n| format!("line {n}")).collect();
        assert_eq!(lines, expected, "in order, across both files, none torn");
    }

    #[test]
    fn one_reads_on_from_the_last_time_also_across_files() {
        let (dir, path, mut writer) = log(1 << 20);
        let mut place = None;
        let mut seen = vec![];
        let more = |after: &mut Option<Timestamp>, seen: &mut Vec<String>| loop {
            let part = LogPart {
                after: *after,
                lines: 700,
                end: LogEnd::First,
            };
            let lines = read(&path, part).unwrap();
            let Some(last) = lines.last() else { return };
            *after = last.at;
            seen.extend(lines.into_iter().map(|line| line.text));
        };
        for n in 0..30_000 {
            writer.push(format!("line {n}\n").as_bytes()).unwrap();
            if n % 5000 == 7 {
                more(&mut place, &mut seen);
            }
        }
        more(&mut place, &mut seen);
        assert!(dir.path().join("out.log.1").exists(), "it was rotated");
        let expected: Vec<_> = (0..30_000).map(|n| format!("line {n}")).collect();
        assert!(seen == expected, "each once, in order");
    }

    #[test]
    fn lines_without_a_time_and_a_torn_end_do_no_harm() {
        let (_dir, path, mut writer) = log(1 << 20);
        fs_err::write(&path, "of an older version\n").unwrap();
        writer.push(b"new\n").unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"2024-10-01T12:00:00.000000Z not ended")
            .unwrap();
        assert_eq!(tail(&path, 9).unwrap(), ["of an older version", "new"]);
        let lines = read(&path, LogPart::last(9)).unwrap();
        assert_eq!(lines[0].at, None);
        assert!(lines[1].at.is_some());
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
