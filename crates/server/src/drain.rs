//! Reads what a refused request still sends. A client that is cut off while sending sees a broken
//! connection instead of the answer, and sends everything again.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};

/// Most bytes that are read and dropped.
const MOST: u64 = 512 * 1024 * 1024;
/// Longest time this may take.
const LONGEST: Duration = Duration::from_secs(30);
/// A client that sends nothing for so long is taken to wait for the answer.
const LULL: Duration = Duration::from_secs(1);

/// A body that can be taken back from whoever stopped reading it.
struct Lent(Arc<Mutex<Body>>);

/// Answers refused requests once their bodies have been read.
pub(crate) async fn drain_refused(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = Arc::new(Mutex::new(body));
    let lent = Body::new(Lent(Arc::clone(&body)));
    let response = next.run(Request::from_parts(parts, lent)).await;
    if !response.status().is_success() {
        let rest = Lent(body);
        // Whoever sends more or slower than this is cut off after all.
        let _ = tokio::time::timeout(LONGEST, discard(rest)).await;
    }
    response
}

async fn discard(mut rest: Lent) {
    let mut bytes = 0;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(LULL, rest.frame()).await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > MOST {
            return;
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body.size_hint()
    }
}
