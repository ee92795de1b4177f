//! Panics come in the envelope.

use axum::{
    body::Body,
    http::{Request, StatusCode},
    response::Response,
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;

#[tokio::test]
async fn a_panic_comes_in_the_envelope_without_its_words() {
    let router: Router = Router::new()
        .route(
            "/",
            get(|| async {
                assert!(std::env::args().count() == 0, "a secret");
                Response::new(Body::empty())
            }),
        )
        .layer(CatchPanicLayer::custom(panicked));
    let request = Request::get("/").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["error"]["errors"][0]["reason"], "Internal");
    assert!(!answer.to_string().contains("secret"), "{answer}");
}
