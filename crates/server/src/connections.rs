//! Takes connections: as many as there are descriptors for, and none for longer than its client
//! takes part.
//!
//! A client that is silent where it is its turn is cut off: while it should send a request or the
//! rest of one, and while it should read its answer. Who waits for the server may be silent for as
//! long as the answer takes. Past [`Limits::most`] a connection is told so and closed, so that
//! those that are open, the database and the models keep the descriptors they need.

use std::{
    convert::Infallible,
    error::Error as StdError,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{ConnectInfo, Request},
    response::Response,
};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{setsockopt, sockopt},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Sleep, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

/// Bounds of the connections of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most that are served at a time.
    pub(crate) most: usize,
    /// How long a client may be silent when it is its turn.
    pub(crate) patience: Duration,
}

/// Open files that are asked for: more than enough for the connections and the rest.
const OPEN_FILES: u64 = 65_536;
/// Of every so many descriptors one is kept from connections.
const KEPT_SHARE: usize = 4;
/// Bytes of a connection that are held at once: bounds the head of a request.
const BUFFER: usize = 128 * 1024;
/// Connections that are turned away politely at a time; past it they are just closed.
const TURNED_AWAY: usize = 64;
/// How long it may take to turn one away.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long to leave alone a listener that cannot accept.
const PAUSE: Duration = Duration::from_millis(100);
/// How long requests under way may take to end when the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// What a connection past the limit is told.
const FULL: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\n",
    "Content-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n",
    r#"{"error":{"code":503,"message":"the server has as many connections as it takes. "#,
    r#"Close idle connections, or have the operator raise --max-connections.","#,
    r#""errors":[{"reason":"Overloaded","#,
    r#""message":"the server has as many connections as it takes","#,
    r#""help":"Close idle connections, or have the operator raise --max-connections."}]},"#,
    r#""api_version":"3.0","kind":"ERROR"}"#,
);

// === impl Limits ===

impl Limits {
    /// At most `most` connections, and fewer if the machine does not grant enough open files for
    /// them, after asking for these.
    pub(crate) fn new(most: usize, patience: Duration) -> Self {
        let files = usize::try_from(raise_open_files(most)).unwrap_or(usize::MAX);
        let room = files - files / KEPT_SHARE;
        if room < most {
            tracing::warn!(
                open_files = files,
                connections = room,
                "the limit of open files allows fewer connections than are set"
            );
        }
        Self {
            most: most.min(room),
            patience,
        }
    }
}

/// Raises the limit of open files as far as it is needed and granted; gives what it is then.
fn raise_open_files(connections: usize) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    let wanted = (connections as u64 * 2).max(OPEN_FILES);
    if soft >= wanted {
        return soft;
    }
    // Root may raise the hard limit as well, unless the machine forbids it.
    for (soft, hard) in [(wanted, hard.max(wanted)), (hard.min(wanted), hard)] {
        if setrlimit(Resource::RLIMIT_NOFILE, soft, hard).is_ok() {
            return soft;
        }
    }
    soft
}

// === serving ===

/// Serves `router` until `stop` ends, then lets requests under way end within a bound.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(limits.most));
    let farewells = Arc::new(Semaphore::new(TURNED_AWAY));
    let stopping = CancellationToken::new();
    let open = TaskTracker::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Of the connection, which is gone, or of this machine, such as no descriptors.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            let (router, stopping) = (router.clone(), stopping.clone());
            open.spawn(async move {
                connection(stream, peer, router, limits.patience, stopping).await;
                drop(slot);
            });
        } else if let Ok(farewell) = Arc::clone(&farewells).try_acquire_owned() {
            tokio::spawn(async move {
                let _ = timeout(FAREWELL, turn_away(stream)).await;
                drop(farewell);
            });
        }
    }
    drop(listener);
    stopping.cancel();
    open.close();
    if timeout(LAST_ANSWERS, open.wait()).await.is_err() {
        tracing::warn!("some requests did not end in time and were left");
    }
}

/// Serves one connection to its end.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    patience: Duration,
    stopping: CancellationToken,
) {
    if let Err(error) = set_options(&stream, patience) {
        tracing::debug!(%error, "cannot set the options of a connection");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        answer(request, peer, router.clone(), patience)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke off");
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    router: Router,
    patience: Duration,
) -> Result<Response, Infallible> {
    let mut request: Request = request.map(|body| {
        Body::new(Patient {
            body,
            patience,
            alarm: None,
        })
    });
    request.extensions_mut().insert(ConnectInfo(peer));
    router.oneshot(request).await
}

/// Small answers go out at once instead of waiting for more. A client that does not take its
/// answer, or is no longer there, is given up by the kernel.
fn set_options(stream: &TcpStream, patience: Duration) -> nix::Result<()> {
    setsockopt(stream, sockopt::TcpNoDelay, &true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::TcpUserTimeout, &milliseconds)
}

/// Tells a connection that there is no room for it.
async fn turn_away(mut stream: TcpStream) {
    if stream.write_all(FULL.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
        // Closed with something unread, the answer would be lost on its way.
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    }
}

// === bodies ===

/// The rest of a request did not come.
#[derive(Debug)]
struct Silent;

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the client stopped sending in the middle of the request")
    }
}

impl StdError for Silent {}

/// Whether reading a body failed because the client fell silent.
pub(crate) fn fell_silent(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<Silent>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A body that fails when its sender is silent for too long.
struct Patient<B> {
    body: B,
    patience: Duration,
    /// Set while more is waited for.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<B> HttpBody for Patient<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.alarm = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        let patience = self.patience;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(patience)));
        alarm
            .as_mut()
            .poll(context)
            .map(|()| Some(Err(axum::Error::new(Silent))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
