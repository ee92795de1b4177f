//! Streams behind the packings that joblib and others use.

use std::io::{self, BufRead, BufReader, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use liblzma::{bufread::XzDecoder, stream::Stream};
use lz4_flex::frame::FrameDecoder;

/// Most memory that unpacking LZMA may take.
const LZMA_MEMORY: u64 = 256 << 20;

/// What is within `file`, whose first bytes are `head`; `None` if it is not packed.
pub(super) fn unpacked<'a>(
    file: impl BufRead + 'a,
    head: &[u8],
) -> io::Result<Option<BufReader<Box<dyn Read + 'a>>>> {
    let lzma = |file| -> io::Result<_> {
        let stream = Stream::new_auto_decoder(LZMA_MEMORY, 0).map_err(io::Error::other)?;
        Ok(XzDecoder::new_stream(file, stream))
    };
    let stream: Box<dyn Read + 'a> = match head {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Box::new(ZlibDecoder::new(file)),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(MultiBzDecoder::new(file)),
        [0xfd, b'7', b'z', b'X', b'Z', ..] | [0x5d, 0, 0, ..] => Box::new(lzma(file)?),
        [0x04, 0x22, 0x4d, 0x18, ..] => Box::new(FrameDecoder::new(file)),
        _ => return Ok(None),
    };
    Ok(Some(BufReader::with_capacity(64 * 1024, stream)))
}
