//! HTTP/1.1 requests from a connection, with every length and wait bounded.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use luthier_types::runner::TIMING_HEADER;
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

use crate::{
    head::{BodyLength, parse},
    stream::Conn,
};

const MOST_HEAD: usize = 16 * 1024;
/// Longest line of a chunk's size, and of a trailer.
const MOST_LINE: usize = 1024;
/// How long one read or write may take.
const STALL: Duration = Duration::from_secs(30);
/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(300);
/// How long a connection may be silent between requests.
const IDLE: Duration = Duration::from_secs(600);
/// What a client may still send after it was refused, so that it can read why.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// A request, read whole.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) keep_alive: bool,
    /// When nobody waits for the answer any more, if the request says so.
    pub(crate) deadline: Option<Instant>,
    pub(crate) body: Vec<u8>,
}

/// Why there is no request.
pub(crate) enum Refused {
    /// The client is gone, or silent for too long.
    Closed,
    /// To be answered with this status and message, after which the connection ends.
    Answer(u16, String),
}

impl From<io::Error> for Refused {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// A connection and what was read from it beyond the last request.
pub(crate) struct Reader {
    conn: Conn,
    buffer: Vec<u8>,
    deadline: Instant,
}

// === impl Reader ===

impl Reader {
    pub(crate) fn new(conn: Conn) -> io::Result<Self> {
        conn.set_timeouts(STALL, STALL)?;
        Ok(Self {
            conn,
            buffer: Vec::with_capacity(4096),
            deadline: Instant::now(),
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.conn.as_fd()
    }

    /// Waits for the first byte of a request, for `idle` at most.
    pub(crate) fn wait(&mut self, idle: Option<Duration>) -> Result<(), Refused> {
        let end = Instant::now() + idle.unwrap_or(IDLE);
        if let Some(idle) = idle {
            self.conn.set_timeouts(idle, idle)?;
        }
        while self.buffer.is_empty() {
            match self.fill() {
                Err(Refused::Answer(..)) if Instant::now() < end => {}
                Err(_) => return Err(Refused::Closed),
                Ok(()) => {}
            }
        }
        self.deadline = Instant::now() + idle.unwrap_or(ARRIVAL);
        Ok(())
    }

    /// Whether the client has closed the connection, or its side of it.
    pub(crate) fn left(&self) -> bool {
        let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.as_fd().as_raw_fd(), &mut [0], look) {
            Ok(bytes) => bytes == 0,
            Err(error) => !matches!(error, Errno::EAGAIN | Errno::EINTR),
        }
    }

    /// Reads the request that has begun.
    pub(crate) fn request(&mut self, most_body: u64) -> Result<Request, Refused> {
        let head = loop {
            if let Some((head, length)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                break head;
            }
            if self.buffer.len() >= MOST_HEAD {
                return Err(Refused::Answer(
                    431,
                    "the request's head is too large".to_owned(),
                ));
            }
            self.fill()?;
        };
        if head.expects_continue {
            if let BodyLength::Known(length) = head.body {
                within(length, most_body)?;
            }
            self.conn.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        // From the head on: a body that is slow to arrive takes of the time.
        let deadline = head.timeout.map(|timeout| Instant::now() + timeout);
        let body = match head.body {
            BodyLength::Known(length) => {
                within(length, most_body)?;
                self.known(usize::try_from(length).unwrap_or(usize::MAX))?
            }
            BodyLength::Chunked => self.chunked(most_body)?,
        };
        Ok(Request {
            method: head.method,
            path: head.path,
            keep_alive: head.keep_alive,
            deadline,
            body,
        })
    }

    fn known(&mut self, length: usize) -> Result<Vec<u8>, Refused> {
        let mut body = vec![];
        self.take(&mut body, length)?;
        Ok(body)
    }

    fn chunked(&mut self, most: u64) -> Result<Vec<u8>, Refused> {
        let mut body = vec![];
        loop {
            let line = self.line()?;
            let size = line
                .split(|b| *b == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            let size = std::str::from_utf8(size)
                .ok()
                .filter(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|s| u64::from_str_radix(s, 16).ok())
                .ok_or_else(|| malformed("a chunk's size is not a number"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            within((body.len() as u64).saturating_add(size), most)?;
            self.take(&mut body, usize::try_from(size).unwrap_or(usize::MAX))?;
            if !self.line()?.is_empty() {
                return Err(malformed("a chunk is longer than its size"));
            }
        }
    }

    /// A line without its end.
    fn line(&mut self) -> Result<Vec<u8>, Refused> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                line.pop();
                line.pop_if(|b| *b == b'\r');
                return Ok(line);
            }
            if self.buffer.len() > MOST_LINE {
                return Err(malformed("a line in the body is too long"));
            }
            self.fill()?;
        }
    }

    /// Appends exactly `length` bytes to `body`.
    fn take(&mut self, body: &mut Vec<u8>, length: usize) -> Result<(), Refused> {
        let have = self.buffer.len().min(length);
        // Room for what was announced, but not before some of it came.
        body.reserve(length.min(have + 1024 * 1024));
        body.extend(self.buffer.drain(..have));
        let mut left = length - have;
        while left > 0 {
            let step = left.min(1024 * 1024);
            let mut filled = body.len();
            body.resize(filled + step, 0);
            while filled < body.len() {
                self.in_time()?;
                filled += arrived(self.conn.read(&mut body[filled..]))?;
            }
            left -= step;
        }
        Ok(())
    }

    /// Reads some bytes into the buffer.
    fn fill(&mut self) -> Result<(), Refused> {
        if !self.buffer.is_empty() {
            self.in_time()?;
        }
        let before = self.buffer.len();
        self.buffer.resize(before + 16 * 1024, 0);
        let read = self.conn.read(&mut self.buffer[before..]);
        self.buffer
            .truncate(before + read.as_ref().copied().unwrap_or(0));
        arrived(read).map(drop)
    }

    fn in_time(&self) -> Result<(), Refused> {
        if Instant::now() < self.deadline {
            Ok(())
        } else {
            Err(slow())
        }
    }

    /// Sends a response.
    pub(crate) fn respond(
        &mut self,
        status: u16,
        media_type: &str,
        timing: Option<&str>,
        body: &[u8],
        keep_alive: bool,
    ) -> io::Result<()> {
        let mut out = Vec::with_capacity(body.len() + 256);
        let connection = if keep_alive {
            ""
        } else {
            "connection: close\r\n"
        };
        write!(
            out,
            "HTTP/1.1 {status} {}\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\
             {connection}",
            reason(status),
            body.len()
        )?;
        if let Some(timing) = timing {
            write!(out, "{TIMING_HEADER}: {timing}\r\n")?;
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        self.conn.write_all(&out)
    }

    /// Ends a connection whose request was not read to its end, such that the client can still
    /// read the answer.
    pub(crate) fn linger(&mut self) {
        let end = Instant::now() + LINGER;
        if self.conn.finish().is_err() || self.conn.set_timeouts(LINGER, LINGER).is_err() {
            return;
        }
        let mut left = LINGER_BYTES;
        let mut scrap = vec![0; 64 * 1024];
        while left > 0 && Instant::now() < end {
            match self.conn.read(&mut scrap) {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    }
}

fn within(length: u64, most: u64) -> Result<(), Refused> {
    if length <= most {
        return Ok(());
    }
    Err(Refused::Answer(
        413,
        format!("the body is larger than the {most} bytes that are taken"),
    ))
}

fn arrived(read: io::Result<usize>) -> Result<usize, Refused> {
    match read {
        Ok(0) => Err(Refused::Closed),
        Ok(read) => Ok(read),
        Err(e) if e.kind() == ErrorKind::Interrupted => Ok(0),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(slow()),
        Err(_) => Err(Refused::Closed),
    }
}

fn slow() -> Refused {
    Refused::Answer(408, "the request took too long to arrive".to_owned())
}

pub(crate) fn malformed(why: &str) -> Refused {
    Refused::Answer(400, why.to_owned())
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}
