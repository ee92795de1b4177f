//! Rows out of a file, a part at a time, as bodies of requests. Whatever its size, little of the
//! input is in memory.

use std::{
    io::{self, BufReader, Read, Seek as _},
    path::Path,
};

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use luthier_data::Format;
use luthier_types::{Code, Error, Result};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};
use tokio::sync::mpsc::Sender;

use super::Part;

/// Most rows of one request.
const ROWS: usize = 10_000;
/// Bytes of text or JSON after which a request is full, whatever its rows.
const BYTES: usize = 8 << 20;
/// How a file of Arrow begins; filled up with zeros to at most [`PEEKED`] bytes.
const FILE_MAGIC: &[u8; 6] = b"ARROW1";
/// Bytes that are looked at to know a form.
const PEEKED: u64 = 64;

/// Form of a file of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// CSV with a heading.
    Csv,
    /// An array of objects.
    Json,
    /// One object per line.
    Jsonl,
    /// Arrow IPC, as a file or as a stream.
    Arrow,
    /// Parquet.
    Parquet,
}

/// An opened input.
pub(super) struct Source {
    form: Form,
    content: Content,
}

enum Content {
    File(fs_err::File),
    /// Standard input, with what was read to know its form.
    Pipe(Box<dyn Read + Send>),
}

/// Sends parts, as long as someone takes them.
struct Parts<'s> {
    send: &'s Sender<Part>,
    rows: u64,
}

/// Gathers rows of JSON.
struct Objects<'p, 's> {
    parts: &'p mut Parts<'s>,
    body: Vec<u8>,
    rows: u64,
}

// === impl Form ===

impl Form {
    /// What the name of a file says.
    pub(super) fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "csv" => Self::Csv,
            "json" => Self::Json,
            "jsonl" | "ndjson" => Self::Jsonl,
            "arrow" | "arrows" | "feather" | "ipc" => Self::Arrow,
            "parquet" | "pq" => Self::Parquet,
            _ => return None,
        })
    }

    /// What the first bytes say.
    fn of_bytes(start: &[u8]) -> Self {
        if start.starts_with(b"PAR1") {
            return Self::Parquet;
        }
        if start.starts_with(b"ARROW1") || start.starts_with(&[0xff; 4]) {
            return Self::Arrow;
        }
        match start.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'[') => Self::Json,
            Some(b'{') => Self::Jsonl,
            _ => Self::Csv,
        }
    }
}

// === impl Source ===

impl Source {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// `BadRequest` when it cannot be read.
    pub(super) fn open(path: &Path, form: Option<Form>) -> Result<Self> {
        let failed = |e: io::Error| {
            let cause = format!("cannot read {}: {e}", path.display());
            Error::new(Code::BadRequest, cause).source(e)
        };
        if path.as_os_str() == "-" {
            let (start, rest) = peeked(io::stdin()).map_err(failed)?;
            return Ok(Self {
                form: form.unwrap_or_else(|| Form::of_bytes(&start)),
                content: Content::Pipe(Box::new(io::Cursor::new(start).chain(rest))),
            });
        }
        let file = fs_err::File::open(path).map_err(failed)?;
        let is_file = file.metadata().map_err(failed)?.is_file();
        let named = form.or_else(|| Form::of_name(path));
        if named.is_some() && is_file {
            return Ok(Self {
                form: named.unwrap_or(Form::Csv),
                content: Content::File(file),
            });
        }
        let (start, mut file) = peeked(file).map_err(failed)?;
        let form = named.unwrap_or_else(|| Form::of_bytes(&start));
        let content = if is_file {
            file.rewind().map_err(failed)?;
            Content::File(file)
        } else {
            Content::Pipe(Box::new(io::Cursor::new(start).chain(file)))
        };
        Ok(Self { form, content })
    }

    /// Reads to the end and sends the rows in parts; ends early when nobody takes them. Blocks.
    ///
    /// # Errors
    /// `BadRequest` where the input is not what it should be.
    pub(super) fn read(self, send: &Sender<Part>) -> Result<()> {
        let mut parts = Parts { send, rows: 0 };
        match self.form {
            Form::Csv => csv(self.content.reader(), &mut parts),
            Form::Json | Form::Jsonl => json(self.content.reader(), &mut parts),
            Form::Arrow => arrow(self.content.reader(), &mut parts),
            Form::Parquet => parquet(self.content.file()?, &mut parts),
        }
    }
}

/// The first bytes of a stream, and the rest of it.
fn peeked<R: Read>(mut stream: R) -> io::Result<(Vec<u8>, R)> {
    let mut start = vec![];
    stream.by_ref().take(PEEKED).read_to_end(&mut start)?;
    Ok((start, stream))
}

impl Content {
    fn reader(self) -> BufReader<Box<dyn Read + Send>> {
        let stream: Box<dyn Read + Send> = match self {
            Self::File(file) => Box::new(file),
            Self::Pipe(pipe) => pipe,
        };
        BufReader::with_capacity(256 << 10, stream)
    }

    /// A file that can be read in any order: for a pipe, a temporary one.
    fn file(self) -> Result<std::fs::File> {
        match self {
            Self::File(file) => Ok(file.into_file()),
            Self::Pipe(mut pipe) => {
                let mut spool = || {
                    let mut file = tempfile::tempfile()?;
                    io::copy(&mut pipe, &mut file)?;
                    file.rewind()?;
                    Ok(file)
                };
                spool().map_err(|e: io::Error| Error::internal("keeping the input", e))
            }
        }
    }
}

// === impl Parts ===

impl Parts<'_> {
    /// Sends a part; false when nobody takes it.
    fn send(&mut self, format: Format, body: Vec<u8>, rows: u64) -> bool {
        let first = self.rows;
        self.rows += rows;
        let part = Part {
            format,
            body,
            first,
            rows,
        };
        self.send.blocking_send(part).is_ok()
    }
}

fn wrong(cause: String) -> Error {
    Error::new(Code::BadRequest, cause).hint(
        "Give CSV with a heading, a JSON array of objects, one JSON object per line, Arrow IPC or \
         Parquet; --format says which it is.",
    )
}

fn csv(reader: impl Read, parts: &mut Parts<'_>) -> Result<()> {
    let broken = |e: csv::Error| wrong(format!("the CSV is broken: {e}"));
    let mut reader = csv::Reader::from_reader(reader);
    let heading = reader
        .byte_headers()
        .map_err(|e| wrong(format!("the heading cannot be read: {e}")))?
        .clone();
    let begun = || {
        let mut part = csv::Writer::from_writer(vec![]);
        part.write_byte_record(&heading).map(|()| part)
    };
    let mut part = begun().map_err(broken)?;
    let (mut rows, mut bytes) = (0, 0);
    let mut record = csv::ByteRecord::new();
    loop {
        let more = reader.read_byte_record(&mut record).map_err(broken)?;
        if more {
            part.write_byte_record(&record).map_err(broken)?;
            rows += 1;
            bytes += record.as_slice().len();
        }
        if rows > 0 && (!more || rows == ROWS || bytes >= BYTES) {
            let full = std::mem::replace(&mut part, begun().map_err(broken)?);
            let body = full
                .into_inner()
                .map_err(|e| Error::internal("writing a part of the input", e))?;
            if !parts.send(Format::Csv, body, rows as u64) {
                return Ok(());
            }
            (rows, bytes) = (0, 0);
        }
        if !more {
            return Ok(());
        }
    }
}

/// An array of objects, or one object after the other.
fn json(reader: impl Read, parts: &mut Parts<'_>) -> Result<()> {
    let broken = |e: serde_json::Error| wrong(format!("the input is no list of rows: {e}"));
    let (start, rest) =
        peeked(reader).map_err(|e| wrong(format!("the input cannot be read: {e}")))?;
    let is_array = Form::of_bytes(&start) == Form::Json;
    let reader = BufReader::new(io::Cursor::new(start).chain(rest));
    let mut objects = Objects {
        parts,
        body: vec![],
        rows: 0,
    };
    let mut taken = true;
    if is_array {
        let mut reader = serde_json::Deserializer::from_reader(reader);
        taken = objects.deserialize(&mut reader).map_err(broken)?;
        if taken {
            reader.end().map_err(broken)?;
        }
    } else {
        for object in serde_json::Deserializer::from_reader(reader).into_iter() {
            let object: Box<RawValue> = object.map_err(broken)?;
            if !objects.add(&object) {
                return Ok(());
            }
        }
    }
    if taken {
        objects.send();
    }
    Ok(())
}

impl Objects<'_, '_> {
    /// Adds a row; false when nobody takes them any more.
    fn add(&mut self, object: &RawValue) -> bool {
        let before: &[u8] = if self.rows == 0 { b"{\"data\":[" } else { b"," };
        self.body.extend_from_slice(before);
        self.body.extend_from_slice(object.get().as_bytes());
        self.rows += 1;
        if self.rows == ROWS as u64 || self.body.len() >= BYTES {
            return self.send();
        }
        true
    }

    fn send(&mut self) -> bool {
        if self.rows == 0 {
            return true;
        }
        let mut body = std::mem::take(&mut self.body);
        body.extend_from_slice(b"]}");
        let rows = std::mem::take(&mut self.rows);
        self.parts.send(Format::Json, body, rows)
    }
}

/// Reads an array; false when nobody took all of it.
impl<'de> DeserializeSeed<'de> for &mut Objects<'_, '_> {
    type Value = bool;
    fn deserialize<D: serde::Deserializer<'de>>(self, array: D) -> Result<bool, D::Error> {
        array.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Objects<'_, '_> {
    type Value = bool;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of objects")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<bool, A::Error> {
        while let Some(object) = array.next_element::<Box<RawValue>>()? {
            if !self.add(&object) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn arrow(reader: impl Read, parts: &mut Parts<'_>) -> Result<()> {
    let broken = |e: &dyn std::fmt::Display| wrong(format!("the input is not Arrow IPC: {e}"));
    // A file is a stream with something around it.
    let (mut start, rest) = peeked(reader).map_err(|e| broken(&e))?;
    if start.starts_with(FILE_MAGIC) {
        let filled = start[FILE_MAGIC.len()..].iter().take_while(|b| **b == 0);
        start.drain(..FILE_MAGIC.len() + filled.count());
    }
    let stream = io::Cursor::new(start).chain(rest);
    let reader = StreamReader::try_new(stream, None).map_err(|e| broken(&e))?;
    for batch in reader {
        if !batches(&batch.map_err(|e| broken(&e))?, parts)? {
            return Ok(());
        }
    }
    Ok(())
}

fn parquet(file: std::fs::File, parts: &mut Parts<'_>) -> Result<()> {
    let broken = |e: &dyn std::fmt::Display| wrong(format!("the input is not Parquet: {e}"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(ROWS).build())
        .map_err(|e| broken(&e))?;
    for batch in reader {
        if !batches(&batch.map_err(|e| broken(&e))?, parts)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends a table of whatever size; false when nobody takes it.
fn batches(table: &RecordBatch, parts: &mut Parts<'_>) -> Result<bool> {
    for first in (0..table.num_rows()).step_by(ROWS) {
        let part = table.slice(first, ROWS.min(table.num_rows() - first));
        let body = luthier_data::to_ipc(&part)?;
        if !parts.send(Format::ArrowStream, body, part.num_rows() as u64) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The one row of `--row`.
pub(crate) fn read_row(text: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(text).map_err(|e| {
        Error::new(Code::BadRequest, format!("--row is not one row: {e}"))
            .hint("Give one JSON object, for example '{\"age\": 41}'.")
    })
}

#[cfg(test)]
mod tests;
