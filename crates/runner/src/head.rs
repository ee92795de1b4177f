//! The head of an HTTP/1.1 request.

use std::time::{Duration, Instant};

use luthier_types::runner::TIMEOUT_HEADER;

use crate::http::{Refused, malformed};

const MOST_HEADERS: usize = 64;

/// The head of a request.
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) keep_alive: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) body: BodyLength,
    pub(crate) expects_continue: bool,
}

/// How a body says its length.
pub(crate) enum BodyLength {
    Known(u64),
    Chunked,
}

/// The head at the start of `buffer` and its length, once it is whole.
pub(crate) fn parse(buffer: &[u8]) -> Result<Option<(Head, usize)>, Refused> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refused::Answer(
                431,
                "the request has too many headers".to_owned(),
            ));
        }
        Err(error) => return Err(malformed(&format!("the request is not HTTP/1.1: {error}"))),
    };
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: request
            .path
            .unwrap_or_default()
            .split('?')
            .next()
            .unwrap_or_default()
            .to_owned(),
        keep_alive: request.version == Some(1),
        timeout: None,
        body: BodyLength::Known(0),
        expects_continue: false,
    };
    let mut known = None;
    let mut chunked = false;
    for header in request.headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(value)
                .ok()
                .filter(|v| v.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|v| v.parse::<u64>().ok())
                .ok_or_else(|| malformed("content-length is not a number"))?;
            if known.is_some_and(|known| known != length) {
                return Err(malformed("there are two content-lengths"));
            }
            known = Some(length);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refused::Answer(
                    501,
                    "no transfer-encoding is known but chunked".to_owned(),
                ));
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            for word in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                if word.eq_ignore_ascii_case(b"close") {
                    head.keep_alive = false;
                } else if word.eq_ignore_ascii_case(b"keep-alive") {
                    head.keep_alive = true;
                }
            }
        } else if header.name.eq_ignore_ascii_case(TIMEOUT_HEADER) {
            let milliseconds = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
            // What nobody can live to see is no limit.
            head.timeout = milliseconds
                .map(Duration::from_millis)
                .filter(|timeout| Instant::now().checked_add(*timeout).is_some());
        } else if header.name.eq_ignore_ascii_case("expect") {
            head.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
        }
    }
    head.body = match (known, chunked) {
        // Two readers could disagree on where such a request ends.
        (Some(_), true) => {
            return Err(malformed(
                "content-length and transfer-encoding exclude each other",
            ));
        }
        (_, true) => BodyLength::Chunked,
        (known, false) => BodyLength::Known(known.unwrap_or(0)),
    };
    Ok(Some((head, length)))
}
