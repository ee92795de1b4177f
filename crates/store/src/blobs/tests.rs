//! Local blobs keep the port's guarantees and leave nothing half-written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::*;

fn files_below(dir: &Path) -> usize {
    fs_err::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files_below(&path) } else { 1 }
        })
        .sum()
}

#[tokio::test]
async fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    luthier_ports::conformance::blobs(&LocalBlobs::new(dir.path()).unwrap()).await;
    assert_eq!(files_below(dir.path()), 0, "nothing is left behind");
}

/// Gives some bytes, then breaks off.
struct Torn(bool);

impl AsyncRead for Torn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(Err(io::Error::other("torn")));
        }
        buf.put_slice(b"half");
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_torn_upload_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = LocalBlobs::new(dir.path()).unwrap();
    let error = blobs.put(Box::new(Torn(false)), 100).await.unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);
    assert_eq!(files_below(dir.path()), 0);
}

#[tokio::test]
async fn blobs_outlive_the_store_and_staging_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let blob = LocalBlobs::new(dir.path())
        .unwrap()
        .put(Box::new(&b"kept"[..]), 100)
        .await
        .unwrap();
    fs_err::write(dir.path().join("staging/left-by-a-killed-server"), "half").unwrap();
    let blobs = LocalBlobs::new(dir.path()).unwrap();
    assert!(blobs.exists(&blob.digest).await.unwrap());
    assert_eq!(files_below(dir.path()), 1);
}
