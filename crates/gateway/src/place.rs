//! A place in a replica, and the exchange that is made in it.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use luthier_types::ReplicaId;

use crate::{
    connection::{Answer, Connection, Failure, HangUp},
    model::Model,
    replica::Replica,
};

/// One of the places that a replica has, given back on drop.
pub(crate) struct Place {
    model: Arc<Model>,
    replica: Arc<Replica>,
    small: bool,
    /// Requests that the call is for.
    entries: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.replica.leave(self.small);
        if self.small {
            self.model.ended(&self.replica, self.entries);
        }
        self.model.dispatch();
    }
}

type Exchanged = Result<Answer, Failure>;
type Work = Pin<Box<dyn Future<Output = (Connection, Place, Exchanged)> + Send>>;

/// An exchange under way. A call of Python code cannot be interrupted: when the asker leaves, the
/// replica is told, so that it does not begin, and the place stays taken until the call has ended.
/// Otherwise clients that ask and leave would fill a replica with calls that nobody waits for.
struct Underway {
    /// `None` once it has ended.
    work: Option<Work>,
    hang_up: HangUp,
    linger: Duration,
}

impl Place {
    /// Takes one of `limit` places, for a call that could be joined if it is `small`; `None` when
    /// all are taken.
    pub(crate) fn take(
        model: &Arc<Model>,
        replica: &Arc<Replica>,
        limit: usize,
        small: bool,
    ) -> Option<Self> {
        replica.enter(limit, small).then(|| Self {
            model: model.clone(),
            replica: replica.clone(),
            small,
            entries: 1,
        })
    }

    /// Makes it one for so many requests.
    pub(crate) fn hold(&mut self, entries: usize) {
        self.entries = entries;
    }

    /// The replica it is in.
    pub(crate) fn id(&self) -> ReplicaId {
        self.replica.id
    }

    /// The same, to be told of what comes of it.
    pub(crate) fn replica(&self) -> Arc<Replica> {
        self.replica.clone()
    }

    /// Sends a request and reads the answer, at most `limit` bytes of it. When this is dropped
    /// before, the place is given back after the replica has answered, but after `linger` at most.
    pub(crate) async fn exchange(
        self,
        request: Request<Full<Bytes>>,
        limit: usize,
        linger: Duration,
    ) -> Exchanged {
        let mut connection = match self.replica.connection().await {
            Ok(connection) => connection,
            Err(failure) => {
                self.replica.met(Some(&failure));
                return Err(failure);
            }
        };
        let hang_up = connection.hang_up();
        let work = async move {
            let result = connection.exchange(request, limit).await;
            (connection, self, result)
        };
        let underway = Underway {
            work: Some(Box::pin(work)),
            hang_up,
            linger,
        };
        underway.await
    }
}

impl Future for Underway {
    type Output = Exchanged;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Exchanged> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let Poll::Ready((connection, place, result)) = work.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        self.work = None;
        // Before the place is free: who gets it next shall know.
        place.replica.met(result.as_ref().err());
        if result.is_ok() {
            place.replica.keep(connection);
        }
        Poll::Ready(result)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else {
            return;
        };
        self.hang_up.now();
        // Without a runtime everything is at its end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(self.linger, work));
        }
    }
}
