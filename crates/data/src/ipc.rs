//! Arrow IPC streams, as spoken with the runner.

use arrow_array::{Array as _, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::{reader::StreamDecoder, writer::StreamWriter};
use bytes::Bytes;
use luthier_types::{Code, Error};

use crate::guard::guarded;

/// The bytes that the rows of a table take, whatever its columns share: of a table that came over
/// the wire, each lies in the buffer that is the whole message, and a slice in that of all rows.
pub fn table_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| match column.to_data().get_slice_memory_size() {
            Ok(bytes) => bytes,
            Err(_) => column.get_array_memory_size(),
        })
        .fold(0, usize::saturating_add)
}

/// What to do about an answer that no runner gives.
const HINT: &str = "Look at the replica's log; something else answers in the runner's place.";

/// The table as one Arrow IPC stream.
///
/// # Errors
/// [`Code::Internal`] when the table cannot be written, which is a fault of the server.
pub fn to_ipc(batch: &RecordBatch) -> Result<Vec<u8>, Error> {
    let write = || {
        let buffer = Vec::with_capacity(1024 + 256 * batch.num_columns() + table_bytes(batch));
        let mut writer = StreamWriter::try_new(buffer, batch.schema_ref())?;
        writer.write(batch)?;
        writer.into_inner()
    };
    write().map_err(|e| Error::internal("writing a table for the model", e))
}

/// The table in an Arrow IPC stream; several batches become one. Nothing is copied where the
/// alignment allows it.
///
/// # Errors
/// [`Code::InvalidPrediction`] when the bytes are not an Arrow IPC stream.
pub fn from_ipc(bytes: Bytes) -> Result<RecordBatch, Error> {
    guarded(
        || decode(bytes),
        || {
            Error::new(
                Code::InvalidPrediction,
                "the model's answer is a damaged Arrow IPC stream",
            )
            .hint(HINT)
        },
    )
}

fn decode(bytes: Bytes) -> Result<RecordBatch, Error> {
    let bad = |e: arrow_schema::ArrowError| {
        Error::new(
            Code::InvalidPrediction,
            "the model's answer is not an Arrow IPC stream",
        )
        .hint(HINT)
        .source(e)
    };
    let mut buffer = Buffer::from(bytes);
    let mut decoder = StreamDecoder::new();
    let mut batches = vec![];
    while !buffer.is_empty() {
        let before = buffer.len();
        if let Some(batch) = decoder.decode(&mut buffer).map_err(bad)? {
            batches.push(batch);
        } else if buffer.len() == before {
            break;
        }
    }
    decoder.finish().map_err(bad)?;
    match batches.len() {
        0 => {
            let cut = || bad(arrow_schema::ArrowError::IpcError("no schema".to_owned()));
            Ok(RecordBatch::new_empty(decoder.schema().ok_or_else(cut)?))
        }
        1 => Ok(batches.remove(0)),
        _ => arrow_select::concat::concat_batches(&batches[0].schema(), &batches).map_err(bad),
    }
}

#[cfg(test)]
mod tests;
