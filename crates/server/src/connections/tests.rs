//! What clients that are silent, too many or gone cost: nothing for long.

use std::{sync::OnceLock, time::Instant};

use axum::routing::{get, post};
use tokio::sync::oneshot;

use super::*;

/// A server of its own.
struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

const PATIENCE: Duration = Duration::from_millis(300);
/// Longer than the kernel holds of what is sent and not read.
const LONG: usize = 64 << 20;

async fn served(most: usize) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    static ANSWER: OnceLock<Bytes> = OnceLock::new();
    let long = || async { ANSWER.get_or_init(|| vec![b'x'; LONG].into()).clone() };
    let router = Router::new()
        .route("/", get(|| async { "ok" }))
        .route("/slow", get(|| async { sleep(3 * PATIENCE).await }))
        .route("/long", get(long))
        .route(
            "/read",
            post(|body: Body| async {
                match axum::body::to_bytes(body, usize::MAX).await {
                    Ok(body) => format!("{} bytes", body.len()),
                    Err(error) if fell_silent(&error) => "silent".to_owned(),
                    Err(error) => error.to_string(),
                }
            }),
        );
    let limits = Limits {
        most,
        patience: PATIENCE,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(serve(listener, router, limits, async {
        let _ = stopped.await;
    }));
    Served {
        address,
        stop,
        task,
    }
}

async fn connected(served: &Served, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// What comes until the other side closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = vec![];
    let read = timeout(20 * PATIENCE, stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Ends the server, which must take no longer than its last answers.
async fn end(served: Served) {
    let _ = served.stop.send(());
    timeout(10 * PATIENCE, served.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let served = served(8).await;
    for head in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: s\r\nX: "] {
        let began = Instant::now();
        rest(connected(&served, head).await).await;
        assert!(began.elapsed() >= PATIENCE, "{head:?}");
    }
    end(served).await;
}

#[tokio::test]
async fn who_waits_for_the_server_may_be_silent() {
    let served = served(8).await;
    let asked = "GET /slow HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";
    let answer = rest(connected(&served, asked).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    end(served).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_told_apart() {
    let served = served(8).await;
    let head = "POST /read HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Length: 10\r\n\r\n";
    let answer = rest(connected(&served, &format!("{head}12345")).await).await;
    assert!(answer.ends_with("silent"), "{answer}");
    let answer = rest(connected(&served, &format!("{head}1234567890")).await).await;
    assert!(answer.ends_with("10 bytes"), "{answer}");
    end(served).await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let served = served(1).await;
    let deaf = connected(&served, "GET /long HTTP/1.1\r\nHost: s\r\n\r\n").await;
    deaf.readable().await.unwrap();
    // The only place is free again without its client having done anything.
    let asked = "GET / HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";
    let free = async {
        while !rest(connected(&served, asked).await)
            .await
            .starts_with("HTTP/1.1 200 ")
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), free).await.unwrap();
    drop(deaf);
    end(served).await;
}

#[tokio::test]
async fn past_the_limit_one_is_told_so() {
    let served = served(2).await;
    let asked = "GET / HTTP/1.1\r\nHost: s\r\n\r\n";
    let mut kept = vec![];
    for _ in 0..2 {
        let stream = connected(&served, asked).await;
        stream.readable().await.unwrap();
        kept.push(stream);
    }
    let refused = rest(connected(&served, asked).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let (_, body) = refused.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["errors"][0]["reason"], "Overloaded");
    drop(kept);
    end(served).await;
}

#[tokio::test]
async fn the_stop_waits_for_what_is_under_way_and_not_for_who_is_idle() {
    let served = served(8).await;
    let idle = connected(&served, "").await;
    let waiting = connected(&served, "GET /slow HTTP/1.1\r\nHost: s\r\n\r\n").await;
    // Both are known to the server once a third, that came later, is answered.
    let third = "GET / HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";
    rest(connected(&served, third).await).await;
    end(served).await;
    let answer = rest(waiting).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    rest(idle).await;
}

#[test]
fn open_files_are_asked_for() {
    let limits = Limits::new(16, PATIENCE);
    assert_eq!(limits.most, 16);
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(raise_open_files(16) >= soft.min(OPEN_FILES));
}
