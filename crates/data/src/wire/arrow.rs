//! Arrow IPC, as a stream or as a file, which is a stream with something around it.
//!
//! The messages are walked through first: a body that is cut off, a batch that claims more rows
//! than the bounds, and buffers that claim to unpack to more are found in the headers. Buffers
//! that are not compressed are part of the body and taken as they lie.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{CompressionType, reader::StreamDecoder, root_as_message};
use arrow_schema::ArrowError;
use bytes::Bytes;
use luthier_types::{Code, Error};

use super::{Assembly, budget::Budget, places};
use crate::guard::guarded;

const FILE_MAGIC: &[u8] = b"ARROW1";
/// The length of a file's footer and the magic, at its end.
const FILE_TAIL: usize = 10;
const CONTINUATION: [u8; 4] = [0xff; 4];

pub(super) fn read(body: Bytes, table: &mut Assembly<'_>) -> Result<(), Error> {
    let is_file = body.starts_with(FILE_MAGIC);
    let mut stream = if is_file {
        stream_of_file(&body)?
    } else {
        body
    };
    let end = guarded(|| check(&stream, &mut table.budget), damaged)?;
    if end < stream.len() && !is_file {
        return Err(refused(
            "the Arrow stream has something after its end".to_owned(),
        ));
    }
    stream.truncate(end);
    let mut buffer = Buffer::from(stream);
    let mut decoder = StreamDecoder::new();
    let mut places_of: Option<Vec<usize>> = None;
    while !buffer.is_empty() {
        let mut next = |buffer: &mut Buffer| decoder.decode(buffer).map_err(bad);
        let Some(batch) = guarded(|| next(&mut buffer), damaged)? else {
            // A schema without rows, or the end.
            break;
        };
        let places = match &places_of {
            Some(places) => places,
            None => places_of.insert(places(batch.schema_ref(), table.parser)?),
        };
        table.add(&projected(&batch, places)?)?;
    }
    decoder.finish().map_err(bad)?;
    let schema = decoder
        .schema()
        .ok_or_else(|| cut_off("before its schema"))?;
    if places_of.is_none() {
        places(&schema, table.parser)?;
    }
    Ok(())
}

/// The batch with the columns at these places.
pub(super) fn projected(batch: &RecordBatch, places: &[usize]) -> Result<RecordBatch, Error> {
    batch
        .project(places)
        .map_err(|e| Error::internal("picking the columns of a table", e))
}

/// The stream within a file.
fn stream_of_file(file: &Bytes) -> Result<Bytes, Error> {
    let footer = file
        .strip_suffix(FILE_MAGIC)
        .and_then(|rest| rest.last_chunk::<4>())
        .and_then(|length| usize::try_from(i32::from_le_bytes(*length)).ok())
        .ok_or_else(|| cut_off("before its footer"))?;
    let end = file.len().checked_sub(FILE_TAIL + footer);
    // The magic is filled up with zeros, to 8 bytes or more; a stream begins with other bytes.
    let filled = file.iter().skip(FILE_MAGIC.len());
    let start = FILE_MAGIC.len() + filled.take_while(|b| **b == 0).count();
    let end = end.filter(|end| *end >= start).ok_or_else(damaged)?;
    Ok(file.slice(start..end))
}

/// Walks through the messages and counts what they claim. Gives the place of the stream's end.
fn check(stream: &[u8], budget: &mut Budget) -> Result<usize, Error> {
    let mut rest = stream;
    let mut take = |length: usize| -> Result<&[u8], Error> {
        let (taken, left) = rest
            .split_at_checked(length)
            .ok_or_else(|| cut_off("in the midst of a message"))?;
        rest = left;
        Ok(taken)
    };
    let mut at = 0;
    while at < stream.len() {
        let mut length = take(4)?;
        at += 4;
        if length == CONTINUATION {
            length = take(4)?;
            at += 4;
        }
        let length = length
            .iter()
            .rev()
            .fold(0, |n, b| (n << 8) | usize::from(*b));
        if length == 0 {
            return Ok(at);
        }
        let head = take(length)?;
        let message = root_as_message(head)
            .map_err(|e| bad(ArrowError::IpcError(format!("a message is damaged: {e}"))))?;
        let size = usize::try_from(message.bodyLength()).map_err(|_| damaged())?;
        let content = take(size)?;
        at += length + size;
        let dictionary = message.header_as_dictionary_batch();
        let batch = message.header_as_record_batch();
        if let Some(batch) = &batch {
            budget.claimed_rows(batch.length())?;
        }
        let dictionary = dictionary.and_then(|d| d.data());
        if let Some(words) = &dictionary {
            budget.words(words.length())?;
        }
        let Some(batch) = batch.or(dictionary) else {
            continue;
        };
        let Some(compression) = batch.compression() else {
            continue;
        };
        if !matches!(
            compression.codec(),
            CompressionType::LZ4_FRAME | CompressionType::ZSTD
        ) {
            return Err(damaged());
        }
        for buffer in batch.buffers().into_iter().flatten() {
            budget.unpacked(claimed(content, buffer.offset(), buffer.length())?)?;
        }
    }
    Ok(at)
}

/// The bytes that a compressed buffer claims to unpack to.
fn claimed(content: &[u8], offset: i64, length: i64) -> Result<u64, Error> {
    let span = || {
        let start = usize::try_from(offset).ok()?;
        content.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    };
    let buffer = span().ok_or_else(damaged)?;
    if buffer.is_empty() {
        return Ok(0);
    }
    let claim = buffer.first_chunk::<8>().ok_or_else(damaged)?;
    match i64::from_le_bytes(*claim) {
        // As it is, without compression.
        -1 => Ok(buffer.len() as u64),
        claim => u64::try_from(claim).map_err(|_| damaged()),
    }
}

fn refused(cause: String) -> Error {
    Error::new(Code::BadRequest, cause)
        .hint("Write the table again, for example with pyarrow.ipc.new_stream, and send all of it.")
}

fn cut_off(place: &str) -> Error {
    refused(format!("the Arrow body ends {place}"))
}

fn bad(error: ArrowError) -> Error {
    let text = error.to_string();
    let cause = text
        .split_once(": ")
        .map_or(text.as_str(), |(_, rest)| rest);
    refused(format!("the body is not Arrow IPC: {cause}"))
}

fn damaged() -> Error {
    refused("the body is not Arrow IPC, or damaged".to_owned())
}
