//! Multipart uploads: the file streamed into the app while it arrives, other fields kept.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Bytes,
    extract::{FromRequest, Multipart, Request, multipart::Field, multipart::MultipartError},
    http::StatusCode,
};
use luthier_ports::BlobReader;
use luthier_types::{Code, Error, Result};
use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::mpsc,
};

use crate::{
    connections::fell_silent,
    envelope::Failure,
    extract::{check_length, silent, too_large},
};

/// Chunks between the connection and the blob store.
const CHUNKS: usize = 16;

/// The fields of a form, by name.
pub(crate) type Fields = HashMap<String, String>;

/// A multipart body.
pub(crate) struct Upload(Multipart);

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        check_length(&request)?;
        let body = Multipart::from_request(request, state).await;
        body.map(Self).map_err(|e| {
            Error::new(
                Code::BadRequest,
                format!("the body is not multipart/form-data: {}", e.body_text()),
            )
            .hint("Send the file as the multipart field `file`.")
            .into()
        })
    }
}

// === impl Upload ===

impl Upload {
    /// Reads fields up to the one called `file`, then hands the fields before it, the file's name
    /// and its bytes to `store` while they arrive. `None` when there is no `file`.
    pub(crate) async fn file<T, F>(
        mut self,
        store: impl FnOnce(Fields, Option<String>, BlobReader) -> F,
    ) -> Result<Option<T>>
    where
        F: Future<Output = Result<T>>,
    {
        let mut fields = Fields::new();
        while let Some(field) = self.0.next_field().await.map_err(broken)? {
            let name = field.name().unwrap_or_default().to_owned();
            if name == "file" {
                let filename = field.file_name().map(str::to_owned);
                let (sender, receiver) = mpsc::channel(CHUNKS);
                let reader: BlobReader = Box::new(Receiving {
                    receiver,
                    chunk: Bytes::new(),
                });
                let (stored, sent) =
                    tokio::join!(store(fields, filename, reader), forward(field, sender));
                // What broke the upload off says more than that it broke off.
                sent?;
                return stored.map(Some);
            }
            fields.insert(name, field.text().await.map_err(broken)?);
        }
        Ok(None)
    }
}

/// Passes a field's bytes on. When the connection breaks, the reader is told so, lest it took a part
/// for the whole.
async fn forward(mut field: Field<'_>, sender: mpsc::Sender<io::Result<Bytes>>) -> Result<()> {
    loop {
        match field.chunk().await {
            Ok(Some(chunk)) => {
                if sender.send(Ok(chunk)).await.is_err() {
                    // The reader has refused the file, and says why.
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                let _ = sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await;
                return Err(broken(error));
            }
        }
    }
}

fn broken(error: MultipartError) -> Error {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    if fell_silent(&error) {
        return silent();
    }
    Error::new(
        Code::BadRequest,
        format!("the upload is malformed: {}", error.body_text()),
    )
    .hint("Send multipart/form-data with the file as the field `file`.")
}

/// The receiving end as a reader.
struct Receiving {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl AsyncRead for Receiving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match self.receiver.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Some(Ok(chunk))) => self.chunk = chunk,
            }
        }
        let length = buf.remaining().min(self.chunk.len());
        buf.put_slice(&self.chunk.split_to(length));
        Poll::Ready(Ok(()))
    }
}
