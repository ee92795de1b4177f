//! One kept HTTP/1.1 connection, driven by whoever uses it.
//!
//! No task runs per connection: the one that sends a request also moves its bytes. That saves two
//! wake-ups per request, and an idle connection costs nothing.

use std::{
    future::{Future, poll_fn},
    net::Shutdown,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use luthier_types::{RunnerAddress, runner::TIMING_HEADER};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

use crate::{call, timings::Inside};

type Stream = Either<UnixStream, TcpStream>;
type Driver = http1::Connection<TokioIo<Stream>, Full<Bytes>>;
type Source = Box<dyn std::error::Error + Send + Sync>;

/// How long it may take to connect over a network; on this machine it takes none.
const CONNECT: Duration = Duration::from_secs(5);

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    /// What the replica says of the time that it took.
    pub(crate) inside: Inside,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be made: the request has not been sent.
    Connect(Source),
    /// The connection broke before the answer was whole.
    Broken(Source),
    /// The answer is larger than this many bytes.
    TooLarge(usize),
}

/// Largest answer of a hook, in bytes: read as JSON it takes many times as much.
const HOOK_BYTES: usize = 16 << 20;
/// Largest answer about the replica itself, and largest refusal, in bytes.
const WORDS_BYTES: usize = 1 << 20;

/// The most of an answer that is taken. What answers is the package's code as soon as that wants
/// to, so no answer is larger than it has reason to be.
fn bound(path: &str, limit: usize) -> usize {
    if path == call::PREDICT {
        limit
    } else if path.starts_with(call::HOOKS) {
        limit.min(HOOK_BYTES)
    } else {
        limit.min(WORDS_BYTES)
    }
}

/// An open connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    driver: Option<Pin<Box<Driver>>>,
    hang_up: HangUp,
}

/// Tells the other side that nobody waits for its answer, while the answer may still be awaited:
/// its coming says that the other side is done.
#[derive(Clone)]
pub(crate) enum HangUp {
    Unix(Arc<std::os::unix::net::UnixStream>),
    Tcp(Arc<std::net::TcpStream>),
}

impl HangUp {
    pub(crate) fn now(&self) {
        // No error but that it has ended already.
        let _ = match self {
            Self::Unix(socket) => socket.shutdown(Shutdown::Write),
            Self::Tcp(socket) => socket.shutdown(Shutdown::Write),
        };
    }
}

/// A stream to a runner, and how to hang up.
async fn connect(at: &RunnerAddress) -> std::io::Result<(Stream, HangUp)> {
    Ok(match at {
        RunnerAddress::Unix(path) => {
            let stream = UnixStream::connect(path).await?.into_std()?;
            let hang_up = HangUp::Unix(Arc::new(stream.try_clone()?));
            (Either::Left(UnixStream::from_std(stream)?), hang_up)
        }
        RunnerAddress::Tcp(address) => {
            let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
            let stream = connected.map_err(|_| std::io::ErrorKind::TimedOut)??;
            stream.set_nodelay(true)?;
            let stream = stream.into_std()?;
            let hang_up = HangUp::Tcp(Arc::new(stream.try_clone()?));
            (Either::Right(TcpStream::from_std(stream)?), hang_up)
        }
    })
}

impl Connection {
    pub(crate) async fn open(at: &RunnerAddress) -> Result<Self, Failure> {
        let (stream, hang_up) = connect(at).await.map_err(|e| Failure::Connect(e.into()))?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| Failure::Connect(e.into()))?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(driver)),
            hang_up,
        })
    }

    pub(crate) fn hang_up(&self) -> HangUp {
        self.hang_up.clone()
    }

    /// Whether it can still be used: false once the other side has closed it.
    pub(crate) fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(&mut cx).is_ready()
        {
            self.driver = None;
        }
        self.driver.is_some() && !self.sender.is_closed()
    }

    /// Sends one request and reads the whole answer, at most `limit` bytes of it. After an error
    /// the connection must be dropped.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Answer, Failure> {
        let Self { sender, driver, .. } = self;
        let limit = bound(request.uri().path(), limit);
        let broken = |e: hyper::Error| Failure::Broken(e.into());
        let mut work = pin!(async {
            sender.ready().await.map_err(broken)?;
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let limit = if status.is_success() {
                limit
            } else {
                limit.min(WORDS_BYTES)
            };
            let timing = response.headers().get(TIMING_HEADER);
            let timing = timing.and_then(|value| value.to_str().ok());
            let inside = timing.map(Inside::read).unwrap_or_default();
            let mut body = response.into_body();
            let mut first = Bytes::new();
            let mut rest = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(broken)?.into_data() else {
                    continue;
                };
                if first.len() + rest.len() + data.len() > limit {
                    return Err(Failure::TooLarge(limit));
                }
                // Most answers come in one piece, which need not be copied.
                if first.is_empty() && rest.is_empty() {
                    first = data;
                } else {
                    if rest.is_empty() {
                        rest.extend_from_slice(&std::mem::take(&mut first));
                    }
                    rest.extend_from_slice(&data);
                }
            }
            let body = if rest.is_empty() {
                first
            } else {
                rest.freeze()
            };
            Ok(Answer {
                status,
                body,
                inside,
            })
        });
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(done);
                }
                let Some(moving) = driver else {
                    return Poll::Pending;
                };
                if moving.as_mut().poll(cx).is_ready() {
                    // Ended: what it still has for `work` is waiting there, or an error is.
                    *driver = None;
                } else {
                    return work.as_mut().poll(cx);
                }
            }
        })
        .await
    }
}
