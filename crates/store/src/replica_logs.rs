//! What replicas wrote that are gone: the end of each log as a file, those of the last few replicas
//! of each model.
//!
//! ```text
//! replica-logs/MODEL/REPLICA.jsonl      a line about the replica, then its lines
//! ```

use std::{
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use luthier_ports::{Exit, LogLine};
use luthier_types::{Error, ModelId, ReplicaId, Result, RevisionId};
use serde::{Deserialize, Serialize};

/// Replicas of one model whose logs are kept.
pub const REPLICAS: usize = 10;
/// Bytes of each log that are kept: its end.
pub const BYTES: usize = 1 << 20;

/// A replica that is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// The replica.
    pub replica: ReplicaId,
    /// Its revision.
    pub revision: RevisionId,
    /// How it ended, if that was seen.
    pub exit: Option<Exit>,
    /// When it was removed.
    pub ended_at: Timestamp,
}

/// The logs in one directory, for one process at a time.
#[derive(Clone, Debug)]
pub struct ReplicaLogs {
    dir: PathBuf,
}

impl ReplicaLogs {
    /// Those in `dir`, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn of(&self, model: ModelId) -> PathBuf {
        self.dir.join(model.to_string())
    }

    /// Keeps the log of a replica of `model` that is about to be removed. Doing it again replaces
    /// it; the oldest beyond [`REPLICAS`] go. Blocks.
    ///
    /// # Errors
    /// `Internal`.
    pub fn keep(&self, model: ModelId, past: &Past, lines: &[LogLine]) -> Result<()> {
        let dir = self.of(model);
        let write = || {
            fs_err::create_dir_all(&dir)?;
            let mut file = tempfile::NamedTempFile::new_in(&dir)?;
            let mut out = BufWriter::new(&mut file);
            serde_json::to_writer(&mut out, past)?;
            out.write_all(b"\n")?;
            for line in the_end(lines) {
                serde_json::to_writer(&mut out, line)?;
                out.write_all(b"\n")?;
            }
            out.flush()?;
            drop(out);
            file.persist(dir.join(format!("{}.jsonl", past.replica)))
                .map_err(|e| e.error)?;
            let mut kept = ids(&dir)?;
            // Ids are in the order of their making.
            kept.sort();
            for old in kept.iter().rev().skip(REPLICAS) {
                fs_err::remove_file(dir.join(format!("{old}.jsonl")))?;
            }
            Ok(())
        };
        write().map_err(|e: io::Error| Error::internal("keeping the log of a replica", e))
    }

    /// The replicas of `model` whose logs are kept, oldest first. Blocks.
    ///
    /// # Errors
    /// `Internal`.
    pub fn list(&self, model: ModelId) -> Result<Vec<ReplicaId>> {
        let mut found =
            ids(&self.of(model)).map_err(|e| Error::internal("listing past logs", e))?;
        found.sort();
        Ok(found)
    }

    /// A replica's log; `None` when it is not kept. Blocks.
    ///
    /// # Errors
    /// `Internal`.
    pub fn read(&self, model: ModelId, replica: ReplicaId) -> Result<Option<(Past, Vec<LogLine>)>> {
        let path = self.of(model).join(format!("{replica}.jsonl"));
        let read = || {
            let file = match fs_err::File::open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            let mut lines = BufReader::new(file).lines();
            let Some(first) = lines.next().transpose()? else {
                return Ok(None);
            };
            let past = serde_json::from_str(&first)?;
            let lines = lines
                .map(|line| Ok(serde_json::from_str(&line?)?))
                .collect::<io::Result<_>>()?;
            Ok(Some((past, lines)))
        };
        read().map_err(|e: io::Error| Error::internal("reading a past log", e))
    }

    /// Removes the logs of models for which `is_there` says no, and gives how many models. Blocks.
    ///
    /// # Errors
    /// `Internal`.
    pub fn sweep(&self, is_there: impl Fn(ModelId) -> bool) -> Result<usize> {
        let sweep = || {
            let mut removed = 0;
            for entry in entries(&self.dir)? {
                let name = entry?.file_name();
                let model = name.to_str().and_then(|name| name.parse().ok());
                if model.is_none_or(|model| !is_there(model)) {
                    fs_err::remove_dir_all(self.dir.join(name))?;
                    removed += 1;
                }
            }
            Ok(removed)
        };
        sweep().map_err(|e: io::Error| Error::internal("removing past logs", e))
    }
}

/// The last lines that are no more than [`BYTES`] together.
fn the_end(lines: &[LogLine]) -> &[LogLine] {
    let mut bytes = 0;
    let kept = lines.iter().rev().take_while(|line| {
        bytes += line.text.len() + 1;
        bytes <= BYTES
    });
    &lines[lines.len() - kept.count()..]
}

fn ids(dir: &Path) -> io::Result<Vec<ReplicaId>> {
    let mut found = vec![];
    for entry in entries(dir)? {
        let name = entry?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        found.extend(id.and_then(|id| id.parse::<ReplicaId>().ok()));
    }
    Ok(found)
}

fn entries(dir: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<fs_err::DirEntry>>>> {
    match fs_err::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Box::new(std::iter::empty())),
        entries => Ok(Box::new(entries?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<LogLine> {
        let line = |text: &&str| LogLine {
            at: Some(Timestamp::UNIX_EPOCH),
            text: (*text).to_owned(),
        };
        texts.iter().map(line).collect()
    }

    fn past() -> Past {
        Past {
            replica: ReplicaId::new(),
            revision: RevisionId::new(),
            exit: None,
            ended_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_last_replicas_of_a_model_are_kept_and_go_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let logs = ReplicaLogs::new(dir.path().join("logs"));
        let (model, other) = (ModelId::new(), ModelId::new());
        assert!(logs.list(model).unwrap().is_empty());
        let all: Vec<Past> = (0..REPLICAS + 3).map(|_| past()).collect();
        for past in &all {
            logs.keep(model, past, &lines(&["a", "b \"c\""])).unwrap();
            logs.keep(model, past, &lines(&["again"])).unwrap();
        }
        logs.keep(other, &all[0], &[]).unwrap();
        let kept: Vec<ReplicaId> = all[3..].iter().map(|past| past.replica).collect();
        assert_eq!(logs.list(model).unwrap(), kept);
        assert_eq!(logs.read(model, all[0].replica).unwrap(), None);
        let read = logs.read(model, all[5].replica).unwrap();
        assert_eq!(read, Some((all[5].clone(), lines(&["again"]))));

        assert_eq!(logs.sweep(|model| model == other).unwrap(), 1);
        assert!(logs.list(model).unwrap().is_empty());
        assert_eq!(logs.list(other).unwrap().len(), 1);
    }

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let logs = ReplicaLogs::new(dir.path());
        let (model, past) = (ModelId::new(), past());
        let long = "x".repeat(100_000);
        let texts: Vec<String> = (0..30).map(|n| format!("{n} {long}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        logs.keep(model, &past, &lines(&texts)).unwrap();
        let (_, kept) = logs.read(model, past.replica).unwrap().unwrap();
        assert_eq!(kept.len(), 10);
        assert!(kept[9].text.starts_with("29 "));
    }
}
