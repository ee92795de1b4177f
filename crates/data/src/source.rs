//! Data files read as a stream of batches: CSV (every column as text) or Parquet (as it is typed).

use std::{
    fs::File,
    io::{BufReader, Read as _, Seek as _},
    path::Path,
    sync::Arc,
};

use crate::guard::guarded;
use arrow_array::RecordBatch;
use arrow_csv::reader::Format;
use arrow_schema::{DataType as Arrow, Field, Schema};
use luthier_types::{Code, Error};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

/// Most columns a file may have.
pub const MAX_COLUMNS: usize = 10_000;

/// Rows read at a time; memory is bounded by so many rows.
pub(crate) const BATCH_ROWS: usize = 4096;

/// What a data file is, told by its content and never by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Comma-separated text with a header line.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// A data file being read.
pub(crate) struct Source {
    /// The names of all its columns, in order.
    pub(crate) columns: Vec<String>,
    /// Its rows; each batch has the columns asked for, in the file's order.
    pub(crate) batches: Box<dyn Iterator<Item = Result<RecordBatch, Error>>>,
}

/// Tells what the file at `path` is.
///
/// # Errors
/// [`Code::BadRequest`] when it is empty or neither; [`Code::Internal`] when it cannot be read.
pub fn sniff(path: &Path) -> Result<FileKind, Error> {
    let mut head = Vec::with_capacity(8192);
    open(path)?
        .take(8192)
        .read_to_end(&mut head)
        .map_err(|e| unreadable(path, e))?;
    let other = |what: &str| {
        Err(Error::new(
            Code::BadRequest,
            format!("the data file is {what}, not CSV or Parquet"),
        )
        .hint("Send CSV in UTF-8 with a header line, or Parquet."))
    };
    match head.as_slice() {
        [] => Err(Error::new(Code::BadRequest, "the data file is empty")
            .hint("Send CSV with a header line, or Parquet.")),
        [b'P', b'A', b'R', b'1', ..] => Ok(FileKind::Parquet),
        [0x1f, 0x8b, ..] => other("compressed with gzip"),
        [b'P', b'K', 3, 4, ..] => other("a ZIP archive or an Excel workbook"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => other("text in UTF-16"),
        bytes if bytes.contains(&0) => other("binary"),
        _ => Ok(FileKind::Csv),
    }
}

// === impl Source ===

impl Source {
    /// Opens the file; only columns that `keep` accepts are read.
    ///
    /// # Errors
    /// [`Code::BadRequest`] when the file is not a table; [`Code::Internal`] when it cannot be read.
    pub(crate) fn open(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let source = match sniff(path)? {
            FileKind::Csv => Self::csv(path, keep),
            FileKind::Parquet => guarded(|| Self::parquet(path, keep), damaged),
        }?;
        if source.columns.len() > MAX_COLUMNS {
            let count = source.columns.len();
            let cause = format!("the file has {count} columns, more than {MAX_COLUMNS}");
            return Err(Error::new(Code::BadRequest, cause));
        }
        Ok(source)
    }

    fn csv(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let mut file = BufReader::new(open(path)?);
        let (header, _) = Format::default()
            .with_header(true)
            .infer_schema(&mut file, Some(0))
            .map_err(|e| bad_csv(&e))?;
        let columns: Vec<String> = header.fields().iter().map(|f| f.name().clone()).collect();
        let kept = columns
            .iter()
            .enumerate()
            .filter(|(_, n)| keep(n))
            .map(|(i, _)| i)
            .collect();
        let fields = columns
            .iter()
            .map(|name| Field::new(name, Arrow::Utf8, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        file.rewind().map_err(|e| unreadable(path, e))?;
        let reader = arrow_csv::ReaderBuilder::new(schema)
            .with_header(true)
            .with_batch_size(BATCH_ROWS)
            .with_projection(kept)
            .build_buffered(file)
            .map_err(|e| bad_csv(&e))?;
        let batches = Box::new(reader.map(|batch| batch.map_err(|e| bad_csv(&e))));
        Ok(Self { columns, batches })
    }

    fn parquet(path: &Path, keep: impl Fn(&str) -> bool) -> Result<Self, Error> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(open(path)?).map_err(bad_parquet)?;
        let fields = builder.schema().fields();
        let columns: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
        let kept = columns
            .iter()
            .enumerate()
            .filter(|(_, n)| keep(n))
            .map(|(i, _)| i);
        let mask = ProjectionMask::roots(builder.parquet_schema(), kept);
        let reader = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(bad_parquet)?;
        let mut reader = Some(reader);
        let batches = Box::new(std::iter::from_fn(move || {
            let mut open = reader.take()?;
            let next = guarded(|| open.next().transpose().map_err(bad_parquet), damaged);
            // After an error the reader is not asked again.
            reader = next.is_ok().then_some(open);
            next.transpose()
        }));
        Ok(Self { columns, batches })
    }
}

/// Opens a file of the server's own storage.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    Ok(fs_err::File::open(path)
        .map_err(|e| unreadable(path, e))?
        .into_parts()
        .0)
}

/// A file of the server's own storage that cannot be read.
pub(crate) fn unreadable(_: &Path, error: std::io::Error) -> Error {
    Error::internal("reading a data file", error)
}

/// A Parquet file that does not read.
pub(crate) fn bad_parquet(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(
        Code::BadRequest,
        format!("the Parquet file cannot be read: {error}"),
    )
    .hint("Write the file again, for example with pandas.DataFrame.to_parquet.")
}

/// A Parquet file on which the decoder gave up.
pub(crate) fn damaged() -> Error {
    bad_parquet(std::io::Error::other("its content is damaged"))
}

/// CSV that does not read.
pub(crate) fn bad_csv(error: &arrow_schema::ArrowError) -> Error {
    let text = error.to_string();
    let cause = ["Csv error: ", "Parser error: "]
        .iter()
        .find_map(|p| text.strip_prefix(p));
    Error::new(Code::BadRequest, format!("the CSV file cannot be read: {}", cause.unwrap_or(&text)))
        .hint("Send UTF-8 with a header line and as many fields in each line as the header has; put a field with commas or line breaks in double quotes.")
}
