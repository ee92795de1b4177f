//! The suite for [`BlobStore`].

use std::io::Cursor;

use luthier_types::{Code, Digest};
use tokio::io::AsyncReadExt as _;

use crate::{BlobReader, BlobStore};

fn reader(bytes: &[u8]) -> BlobReader {
    Box::new(Cursor::new(bytes.to_vec()))
}

/// Checks an empty store.
///
/// # Panics
/// At the first breach of the port's guarantees.
#[expect(
    clippy::unwrap_used,
    reason = "a conformance suite reports by panicking"
)]
pub async fn blobs(store: &dyn BlobStore) {
    let blob = store.put(reader(b"hello"), 5).await.unwrap();
    assert_eq!((blob.digest.clone(), blob.size), (Digest::of("hello"), 5));
    assert_eq!(
        store.put(reader(b"hello"), 100).await.unwrap(),
        blob,
        "put is idempotent"
    );

    let mut text = String::new();
    store
        .get(&blob.digest)
        .await
        .unwrap()
        .read_to_string(&mut text)
        .await
        .unwrap();
    assert_eq!(text, "hello");

    let refused = store.put(reader(b"hello!"), 5).await.unwrap_err();
    assert_eq!(refused.code(), Code::TooLarge);
    assert!(
        !store.exists(&Digest::of("hello!")).await.unwrap(),
        "a refused blob leaves nothing"
    );

    assert!(store.exists(&blob.digest).await.unwrap());
    assert_eq!(store.list().await.unwrap(), vec![blob.clone()]);
    store.delete(&blob.digest).await.unwrap();
    store.delete(&blob.digest).await.unwrap();
    assert!(!store.exists(&blob.digest).await.unwrap());
    assert_eq!(store.list().await.unwrap(), []);
    let gone = store
        .get(&blob.digest)
        .await
        .err()
        .expect("a deleted blob is gone");
    assert_eq!(gone.code(), Code::NotFound);
}
