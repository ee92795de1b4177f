//! Runners that say what no runner would: what answers on a replica's socket is the package's code
//! as soon as that wants to be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use luthier_gateway::{Options, client};
use luthier_types::{Code, RunnerAddress};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::{
    rows,
    runner::{Answer, Runner},
    serving, soon,
};

/// A socket that answers everything with `head` and then `piece`, for as long as it is listened to.
struct Endless {
    _dir: TempDir,
    address: RunnerAddress,
    sent: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Endless {
    fn start(head: &'static str, piece: &'static str) -> Self {
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = sent.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(talk(stream, head, piece, counter.clone()));
            }
        });
        Self {
            _dir: dir,
            address: RunnerAddress::Unix(socket),
            sent,
            task,
        }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn talk(mut stream: UnixStream, head: &str, piece: &str, sent: Arc<AtomicUsize>) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    if stream.write_all(head.as_bytes()).await.is_err() || piece.is_empty() {
        return;
    }
    let many = piece.repeat(1 + 4096 / piece.len());
    while stream.write_all(many.as_bytes()).await.is_ok() {
        sent.fetch_add(many.len(), Ordering::Relaxed);
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

#[tokio::test]
async fn no_more_is_read_than_an_answer_has_reason_to_be() {
    for (head, piece) in [
        // A body without an end, and one that claims to be the whole memory.
        ("HTTP/1.1 200 OK\r\n\r\n", "{\"phase\": \"ready\""),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
            "x",
        ),
        ("HTTP/1.1 500 No\r\n\r\n", "x"),
        // Heads without an end.
        (OK, "X-Header: of many\r\n"),
        ("HTTP/1.1 200 OK\r\nX-Header: ", "long"),
        ("HTTP/1.1 200 ", "long"),
        // Chunks without an end.
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "10\r\nsixteen bytes of\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
            "extension",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            "Trailer: of many\r\n",
        ),
    ] {
        let hostile = Endless::start(head, piece);
        let deadline = Instant::now() + Duration::from_secs(60);
        let error = client::ready(&hostile.address, deadline).await.unwrap_err();
        // It is a bound that ended it, not the deadline.
        assert_ne!(error.code(), Code::PredictTimeout, "{head}{piece}");
        let sent = hostile.sent.load(Ordering::Relaxed);
        assert!(sent < 4 << 20, "{head}{piece}: {sent}");
    }
}

#[tokio::test]
async fn what_never_comes_to_the_point_ends_at_the_deadline() {
    for (head, piece) in [
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"),
        // So little at a time that the bound of bytes is far.
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"),
    ] {
        let hostile = Endless::start(head, piece);
        let deadline = Instant::now() + Duration::from_millis(300);
        let error = client::live(&hostile.address, deadline).await.unwrap_err();
        let expected = [Code::PredictTimeout, Code::ModelUnavailable];
        assert!(expected.contains(&error.code()), "{error:?}");
    }
}

#[tokio::test]
async fn lengths_that_are_wrong_are_no_answers() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
        "SSH-2.0-OpenSSH\r\n",
        "",
    ] {
        let hostile = Endless::start(head, "");
        let error = client::live(&hostile.address, soon()).await.unwrap_err();
        assert_eq!(error.code(), Code::ModelUnavailable, "{head}: {error:?}");
    }
}

#[tokio::test]
async fn a_long_refusal_is_cut_and_a_longer_one_not_read() {
    for (length, code) in [
        (100_000, Code::ModelServeError),
        (2 << 20, Code::InvalidPrediction),
    ] {
        let runner = Runner::start(Answer::Rant(length)).await;
        let (gateway, model) = serving(Options::default(), &[&runner]);
        let error = gateway
            .predict(model, rows(&[1.0]), soon())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert!(error.public_text().len() < 40_000);
    }
}
