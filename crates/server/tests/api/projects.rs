//! Projects.

use axum::http::{Method, header};
use serde_json::json;

use super::{Server, model_body, shape};

#[tokio::test]
async fn a_project_is_made_found_listed_and_deleted() {
    let server = Server::new().await;
    let made = server.post("/v3/projects", json!({ "name": "bank" })).await;
    insta::assert_snapshot!(shape(&made), @r#"{"id":"[id]","name":"bank","organization":{"id":"[id]","name":"luthier"},"created_at":"[time]","updated_at":"[time]"}"#);
    let path = format!("/v3/projects/{}", made["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await, made);
    assert_eq!(server.get("/v3/projects").await["items"], json!([made]));
    server.ok(Method::DELETE, &path, None).await;
    let gone = server.refused(Method::GET, &path, None).await;
    assert_eq!(
        gone,
        (404, "Project not found for the given identifier".to_owned())
    );
    let again = server.refused(Method::DELETE, &path, None).await;
    assert_eq!(again.0, 404);
}

#[tokio::test]
async fn deleting_a_project_takes_its_models_along() {
    let server = Server::new().await;
    let model = server.model("risk").await;
    // The older client's way: by organisation and name.
    let path = "/v2/projects/luthier:p-risk";
    server.ok(Method::DELETE, path, None).await;
    let (status, _) = server
        .refused(Method::GET, &format!("/v3/models/{model}"), None)
        .await;
    assert_eq!(status, 404);
    assert_eq!(server.refused(Method::DELETE, path, None).await.0, 404);
    let elsewhere = "/v2/projects/other:p-risk";
    server.project("p-risk").await;
    assert_eq!(server.refused(Method::DELETE, elsewhere, None).await.0, 404);
    let (status, _) = server
        .refused(Method::DELETE, "/v2/projects/p-risk", None)
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_name_is_taken_once_but_a_repeat_finds_what_it_made() {
    let server = Server::new().await;
    let id = server.project("bank").await;
    let body = json!({ "name": "bank" });
    let taken = server
        .refused(Method::POST, "/v3/projects", Some(body.clone()))
        .await;
    assert_eq!(taken, (409, "Project already exists".to_owned()));
    let repeat = Server::request(Method::POST, "/v3/projects")
        .header("X-Fiddler-Client-Retry", "1")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into())
        .unwrap();
    let (status, answer) = server.send(repeat).await;
    assert_eq!((status.as_u16(), &answer["data"]["id"]), (200, &json!(id)));
}

#[tokio::test]
async fn bad_names_are_refused() {
    let server = Server::new().await;
    for name in ["", "a b", "a/b", &"x".repeat(129)] {
        let body = Some(json!({ "name": name }));
        let (status, _) = server.refused(Method::POST, "/v3/projects", body).await;
        assert_eq!(status, 400, "{name}");
    }
    let project = server.project("p").await;
    let body = Some(model_body("a:b", &project));
    assert_eq!(
        server.refused(Method::POST, "/v3/models", body).await.0,
        400
    );
}
