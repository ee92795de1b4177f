//! What the model returned, as an Arrow IPC stream of one batch.

use std::sync::Arc;

use arrow_array::{
    Array as _, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringArray,
};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Field, Schema};
use luthier_types::runner::{RunnerError, RunnerErrorKind};

use crate::failure;

/// One column of a result. `valid`, where given, has one byte per row.
pub(crate) enum Column {
    /// Little-endian float64.
    Floats {
        bytes: Vec<u8>,
        valid: Option<Vec<u8>>,
    },
    /// Little-endian int64.
    Ints {
        bytes: Vec<u8>,
        valid: Option<Vec<u8>>,
    },
    /// One byte per row.
    Bools {
        bytes: Vec<u8>,
        valid: Option<Vec<u8>>,
    },
    /// Text.
    Texts(Vec<Option<String>>),
}

/// The bytes of the stream.
pub(crate) fn stream(
    names: &[String],
    columns: Vec<Column>,
    rows: usize,
) -> Result<Vec<u8>, RunnerError> {
    let fits = columns.len() == names.len() && columns.iter().all(|c| c.rows() == rows);
    if !fits {
        return Err(failure(
            RunnerErrorKind::Internal,
            "the result's columns have no common length",
        ));
    }
    encoded(names, columns, rows).map_err(|e| {
        failure(
            RunnerErrorKind::Internal,
            format!("the result cannot be encoded: {e}"),
        )
    })
}

fn encoded(names: &[String], columns: Vec<Column>, rows: usize) -> Result<Vec<u8>, ArrowError> {
    let arrays: Vec<ArrayRef> = columns.into_iter().map(Column::into_array).collect();
    let fields: Vec<Field> = names
        .iter()
        .zip(&arrays)
        .map(|(name, array)| Field::new(name, array.data_type().clone(), true))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options)?;
    let mut writer =
        StreamWriter::try_new(Vec::with_capacity(1024 + rows * 8 * names.len()), &schema)?;
    writer.write(&batch)?;
    writer.into_inner()
}

// === impl Column ===

impl Column {
    fn rows(&self) -> usize {
        let bytes = |bytes: &Vec<u8>, valid: &Option<Vec<u8>>, width: usize| {
            let rows = bytes.len() / width;
            if valid.as_ref().is_none_or(|valid| valid.len() == rows) {
                rows
            } else {
                usize::MAX
            }
        };
        match self {
            Self::Floats { bytes: b, valid } | Self::Ints { bytes: b, valid } => bytes(b, valid, 8),
            Self::Bools { bytes: b, valid } => bytes(b, valid, 1),
            Self::Texts(texts) => texts.len(),
        }
    }

    fn into_array(self) -> ArrayRef {
        match self {
            Self::Floats { bytes, valid } => {
                let values: Vec<f64> = words(&bytes).map(f64::from_le_bytes).collect();
                Arc::new(Float64Array::new(values.into(), nulls(valid)))
            }
            Self::Ints { bytes, valid } => {
                let values: Vec<i64> = words(&bytes).map(i64::from_le_bytes).collect();
                Arc::new(Int64Array::new(values.into(), nulls(valid)))
            }
            Self::Bools { bytes, valid } => {
                let values = BooleanBuffer::collect_bool(bytes.len(), |i| bytes[i] != 0);
                Arc::new(BooleanArray::new(values, nulls(valid)))
            }
            Self::Texts(texts) => Arc::new(StringArray::from_iter(texts)),
        }
    }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 8]> + '_ {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().copied()
}

fn nulls(valid: Option<Vec<u8>>) -> Option<NullBuffer> {
    let valid = valid?;
    let valid = NullBuffer::new(BooleanBuffer::collect_bool(valid.len(), |i| valid[i] != 0));
    (valid.null_count() > 0).then_some(valid)
}
