//! Connecting, and what is refused: always in the envelope.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use luthier_testkit::World;
use serde_json::json;
use tower::ServiceExt as _;

use super::{Server, refusal, shape};

#[tokio::test]
async fn connecting_finds_a_server_that_opens_every_method() {
    let server = Server::new().await;
    let info = server.get("/v3/server-info").await;
    insta::assert_snapshot!(shape(&info), @r#"{"server_version":"25.2.0","feature_flags":{},"organization":{"id":"[id]","name":"luthier"}}"#);
    server
        .get("/v3/version-compatibility?client_version=3.14.1&client_name=python-sdk")
        .await;
}

#[tokio::test]
async fn nothing_but_health_is_open() {
    let server = Server::new().await;
    let send = async |path: &str, token: Option<&str>| {
        let mut request = Request::builder().uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Body::empty()).unwrap();
        server.router.clone().oneshot(request).await.unwrap()
    };
    assert_eq!(send("/healthz", None).await.status(), StatusCode::OK);
    let good = format!("Bearer {}", World::TOKEN);
    assert_eq!(send("/v3/projects", Some(&good)).await.status(), 200);
    for path in [
        "/v3/projects",
        "/v3/server-info",
        "/no/such/path",
        "/v3/segments",
        "/v1/jobs",
    ] {
        for token in [
            None,
            Some("Bearer wrong"),
            Some("Bearer "),
            Some(World::TOKEN),
            Some("Basic test-token"),
        ] {
            let response = send(path, token).await;
            assert_eq!(response.status(), 401, "{path} {token:?}");
            assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let answer = serde_json::from_slice(&body).unwrap();
            refusal(StatusCode::UNAUTHORIZED, &answer);
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_and_ids_come_in_the_envelope() {
    let server = Server::new().await;
    let nil = uuid::Uuid::nil();
    for (method, path, expected) in [
        (Method::GET, "/".to_owned(), 404),
        (Method::GET, "/v3/nothing".to_owned(), 404),
        (Method::PUT, "/v3/projects".to_owned(), 405),
        (Method::POST, "/v3/server-info".to_owned(), 405),
        (Method::GET, format!("/v3/projects/{nil}"), 404),
        (Method::GET, "/v3/projects/not-an-id".to_owned(), 404),
        (Method::GET, format!("/v3/models/{nil}"), 404),
        (Method::DELETE, format!("/v3/models/{nil}"), 404),
        (Method::GET, format!("/v3/environments/{nil}"), 404),
        (Method::GET, format!("/v3/models/{nil}/environments"), 404),
        (Method::GET, format!("/v3/baselines/{nil}"), 404),
        (Method::GET, format!("/v3/models/{nil}/baselines"), 404),
        (Method::DELETE, format!("/v3/baselines/{nil}"), 404),
        (Method::GET, format!("/v3/jobs/{nil}"), 404),
        (
            Method::POST,
            format!("/v3/models/{nil}/deploy-surrogate"),
            501,
        ),
        (Method::POST, "/v3/analytics/fairness".to_owned(), 501),
        (
            Method::POST,
            "/v3/analytics/feature-impact/precomputed".to_owned(),
            501,
        ),
        (
            Method::PUT,
            "/v3/analytics/precompute-predictions".to_owned(),
            501,
        ),
        (Method::POST, "/v3/slice-query/fetch".to_owned(), 501),
        (Method::GET, "/v3/segments".to_owned(), 501),
        (Method::GET, format!("/v3/models/{nil}/segments"), 501),
        (Method::GET, "/v2/alert-configs".to_owned(), 501),
        (
            Method::POST,
            format!("/v3/alert-rules/{nil}/notification"),
            501,
        ),
        (Method::DELETE, format!("/v2/webhooks/{nil}"), 501),
    ] {
        let (status, _) = server.refused(method.clone(), &path, None).await;
        assert_eq!(status, expected, "{method} {path}");
    }
    let (_, answer) = server
        .call(Method::GET, &format!("/v3/projects/{nil}"), None)
        .await;
    insta::assert_snapshot!(answer, @r#"{"error":{"code":404,"message":"Project not found for the given identifier","errors":[{"reason":"ObjectNotFound","message":"Project not found for the given identifier","help":"Check the identifier; it may have been deleted."}]},"api_version":"3.0","kind":"ERROR"}"#);
}

#[tokio::test]
async fn malformed_json_is_refused_with_its_place() {
    let server = Server::new().await;
    for (body, place) in [
        (r#"{"name": "#, "line 1 column 9"),
        ("", "no body"),
        ("name=x", "line 1"),
        (r#"{"title": "x"}"#, "`name`"),
        (r#"{"name": 3}"#, "string"),
        ("[]", "line 1"),
    ] {
        let request = Server::request(Method::POST, "/v3/projects")
            .body(Body::from(body))
            .unwrap();
        let (status, answer) = server.send(request).await;
        let (status, message) = refusal(status, &answer);
        assert_eq!(status, 400, "{body}");
        assert!(message.contains(place), "{body}: {message}");
    }
    let big = "x".repeat(64 * 1024 * 1024 + 1);
    let request = Server::request(Method::POST, "/v3/projects")
        .body(Body::from(json!({ "name": big }).to_string()))
        .unwrap();
    let (status, answer) = server.send(request).await;
    assert_eq!(refusal(status, &answer).0, 413);
}

#[tokio::test]
async fn an_empty_body_with_a_json_content_type_is_no_body() {
    let server = Server::new().await;
    // The older client says application/json on every request.
    let request = Server::request(Method::GET, "/v3/projects")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::empty())
        .unwrap();
    assert_eq!(server.send(request).await.0, 200);
}

#[tokio::test]
async fn a_client_that_is_still_sending_gets_the_answer() {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };
    let server = Server::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let body = vec![b'x'; 80 * 1024 * 1024];
    for (token, expected) in [("wrong", "401"), (World::TOKEN, "413")] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v3/predict HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        client.write_all(head.as_bytes()).await.unwrap();
        // Like the stock client, it sends all before it reads.
        client.write_all(&body).await.unwrap();
        let mut start = [0; 12];
        client.read_exact(&mut start).await.unwrap();
        assert_eq!(&start[9..], expected.as_bytes());
    }
    serving.abort();
}
