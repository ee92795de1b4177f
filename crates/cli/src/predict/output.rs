//! Predictions to a file or to standard output, a part at a time.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use luthier_data::Format;
use luthier_types::{Code, Error, Result};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::input;

/// Form of the predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// CSV with a heading.
    Csv,
    /// An array of objects.
    Json,
    /// One object per line.
    Jsonl,
    /// Arrow IPC as a file, which is also Feather 2.
    Arrow,
    /// Arrow IPC as a stream.
    ArrowStream,
    /// Parquet.
    Parquet,
}

/// Where the predictions go.
enum Target {
    Stdout(io::Stdout),
    /// Takes its place once it is whole.
    File(tempfile::NamedTempFile, PathBuf),
    /// A pipe or a device.
    Other(fs_err::File),
}

type Sink = BufWriter<Target>;

/// What writes the form. The last three begin with the first table, whose columns they need.
enum Writer {
    Lines(Sink),
    Array(Sink, bool),
    Csv(Sink, Option<Vec<u8>>),
    Later(Form, Sink),
    Arrow(FileWriter<Sink>),
    ArrowStream(StreamWriter<Sink>),
    Parquet(ArrowWriter<Sink>),
}

/// An opened output.
pub(super) struct Output {
    writer: Option<Writer>,
    /// The columns of the first table.
    schema: Option<SchemaRef>,
}

/// The answer to a request for JSON.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Predictions<'a>,
}

#[derive(Deserialize)]
struct Predictions<'a> {
    #[serde(borrow)]
    predictions: Vec<&'a RawValue>,
}

// === impl Form ===

impl Form {
    /// The form asked for, or else what the name of the file says, or else JSON lines.
    ///
    /// # Errors
    /// `BadRequest` for a name that says nothing.
    pub(super) fn choose(asked: Option<Self>, path: Option<&Path>) -> Result<Self> {
        let (None, Some(path)) = (asked, path) else {
            return Ok(asked.unwrap_or(Self::Jsonl));
        };
        if path.extension().is_some_and(|e| e == "arrows") {
            return Ok(Self::ArrowStream);
        }
        let form = match input::Form::of_name(path) {
            Some(input::Form::Csv) => Self::Csv,
            Some(input::Form::Json) => Self::Json,
            Some(input::Form::Jsonl) => Self::Jsonl,
            Some(input::Form::Arrow) => Self::Arrow,
            Some(input::Form::Parquet) => Self::Parquet,
            None => {
                let cause = format!("the name {} does not say its form", path.display());
                return Err(Error::new(Code::BadRequest, cause)
                    .hint("Give --output-format, or a name that ends in .csv, .json, .jsonl, .arrow or .parquet."));
            }
        };
        Ok(form)
    }

    /// What the server is asked for.
    pub(super) const fn asked(self) -> Format {
        match self {
            Self::Csv => Format::Csv,
            Self::Json | Self::Jsonl => Format::Json,
            Self::Arrow | Self::ArrowStream | Self::Parquet => Format::ArrowStream,
        }
    }
}

// === impl Output ===

impl Output {
    /// Opens a file, or standard output without one.
    ///
    /// # Errors
    /// `BadRequest` when it cannot be written, or when a terminal would get what is no text.
    pub(super) fn open(path: Option<&Path>, form: Form) -> Result<Self> {
        if path.is_none() && form.asked() == Format::ArrowStream && io::stdout().is_terminal() {
            return Err(
                Error::new(Code::BadRequest, "a terminal shows no Arrow and no Parquet")
                    .hint("Give --output FILE, or lead standard output elsewhere."),
            );
        }
        let target = match path {
            None => Ok(Target::Stdout(io::stdout())),
            Some(path) => Target::open(path),
        };
        let sink = BufWriter::with_capacity(256 << 10, target.map_err(unwritable)?);
        let writer = match form {
            Form::Jsonl => Writer::Lines(sink),
            Form::Json => Writer::Array(sink, false),
            Form::Csv => Writer::Csv(sink, None),
            Form::Arrow | Form::ArrowStream | Form::Parquet => Writer::Later(form, sink),
        };
        Ok(Self {
            writer: Some(writer),
            schema: None,
        })
    }

    /// Writes the answer to one request.
    ///
    /// # Errors
    /// `BadRequest` when it cannot be written; `InvalidPrediction` when the types of an output are
    /// not those of the answers before.
    pub(super) fn write(&mut self, answer: Bytes) -> Result<()> {
        match &mut self.writer {
            Some(Writer::Lines(sink)) => {
                for row in rows(&answer)? {
                    writeln!(sink, "{row}").map_err(unwritable)?;
                }
                // Whoever reads along sees them now.
                sink.flush().map_err(unwritable)
            }
            Some(Writer::Array(sink, begun)) => {
                for row in rows(&answer)? {
                    let before = if std::mem::replace(begun, true) {
                        ",\n"
                    } else {
                        "["
                    };
                    write!(sink, "{before}{row}").map_err(unwritable)?;
                }
                Ok(())
            }
            Some(Writer::Csv(sink, heading)) => {
                let rest = match heading {
                    Some(heading) => answer.strip_prefix(heading.as_slice()).ok_or_else(|| {
                        Error::internal("reading the server's answer", "another heading")
                    })?,
                    None => {
                        *heading = Some(heading_of(&answer)?);
                        &answer
                    }
                };
                sink.write_all(rest).map_err(unwritable)
            }
            _ => self.table(&luthier_data::from_ipc(answer)?),
        }
    }

    fn table(&mut self, table: &RecordBatch) -> Result<()> {
        let schema = self.schema.get_or_insert_with(|| table.schema());
        if *schema != table.schema() {
            return Err(Error::new(
                Code::InvalidPrediction,
                "the model's answers to parts of the input have different types",
            )
            .hint(
                "Let `predict` return the same type for an output whatever rows it is given, or \
                 write JSON lines, which do not mind.",
            ));
        }
        if let Some(Writer::Later(..)) = &self.writer {
            self.writer = self.writer.take().map(|w| w.begun(schema)).transpose()?;
        }
        match &mut self.writer {
            Some(Writer::Arrow(writer)) => writer.write(table).map_err(failed),
            Some(Writer::ArrowStream(writer)) => writer.write(table).map_err(failed),
            Some(Writer::Parquet(writer)) => writer.write(table).map_err(failed),
            _ => Ok(()),
        }
    }

    /// Writes what is left, and lets a file take its place.
    ///
    /// # Errors
    /// `BadRequest` when it cannot be written.
    pub(super) fn finish(self) -> Result<()> {
        let sink = match self.writer {
            Some(Writer::Lines(sink) | Writer::Csv(sink, _)) => sink,
            Some(Writer::Array(mut sink, begun)) => {
                let end = if begun { "]\n" } else { "[]\n" };
                sink.write_all(end.as_bytes()).map_err(unwritable)?;
                sink
            }
            Some(Writer::Arrow(writer)) => writer.into_inner().map_err(failed)?,
            Some(Writer::ArrowStream(writer)) => writer.into_inner().map_err(failed)?,
            Some(Writer::Parquet(writer)) => writer.into_inner().map_err(failed)?,
            Some(Writer::Later(..)) | None => {
                return Err(Error::new(Code::BadRequest, "the input has no rows")
                    .hint("A file of Arrow or Parquet needs a row to know its columns by."));
            }
        };
        let target = sink.into_inner().map_err(|e| unwritable(e.into_error()))?;
        target.keep().map_err(unwritable)
    }
}

impl Writer {
    /// With the columns known.
    fn begun(self, schema: &SchemaRef) -> Result<Self> {
        Ok(match self {
            Self::Later(Form::Parquet, sink) => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .build();
                let writer = ArrowWriter::try_new(sink, schema.clone(), Some(properties));
                Self::Parquet(writer.map_err(failed)?)
            }
            Self::Later(Form::ArrowStream, sink) => {
                Self::ArrowStream(StreamWriter::try_new(sink, schema).map_err(failed)?)
            }
            Self::Later(_, sink) => Self::Arrow(FileWriter::try_new(sink, schema).map_err(failed)?),
            begun => begun,
        })
    }
}

/// The rows of an answer in JSON.
fn rows(answer: &[u8]) -> Result<impl Iterator<Item = &str>> {
    let envelope: Envelope<'_> = serde_json::from_slice(answer)
        .map_err(|e| Error::internal("reading the server's answer", e))?;
    Ok(envelope.data.predictions.into_iter().map(RawValue::get))
}

/// The heading of a CSV with the end of its line.
fn heading_of(answer: &[u8]) -> Result<Vec<u8>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(answer);
    let mut heading = csv::ByteRecord::new();
    reader
        .read_byte_record(&mut heading)
        .map_err(|e| Error::internal("reading the server's answer", e))?;
    let end = usize::try_from(reader.position().byte()).unwrap_or(0);
    Ok(answer.get(..end).unwrap_or_default().to_vec())
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let cause = format!("the predictions cannot be written: {error}");
    Error::new(Code::BadRequest, cause).source(error)
}

/// What cannot be written, and why. A closed pipe ends the program quietly, as other tools do.
fn unwritable(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    failed(error)
}

// === impl Target ===

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        // What is no file, such as a pipe, must stay what it is.
        if fs_err::metadata(path).is_ok_and(|found| !found.is_file()) {
            let file = fs_err::OpenOptions::new().write(true).open(path)?;
            return Ok(Self::Other(file));
        }
        let beside = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(beside.unwrap_or(Path::new(".")))?;
        Ok(Self::File(file, path.to_owned()))
    }

    fn keep(self) -> io::Result<()> {
        match self {
            Self::Stdout(mut stdout) => stdout.flush(),
            Self::Other(mut file) => file.flush(),
            Self::File(file, path) => file.persist(path).map(drop).map_err(|e| e.error),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file, _) => file.write(bytes),
            Self::Other(file) => file.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file, _) => file.flush(),
            Self::Other(file) => file.flush(),
        }
    }
}

#[cfg(test)]
mod tests;
