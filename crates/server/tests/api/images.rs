//! The native routes of images and environments.

use axum::http::Method;
use luthier_testkit::{GOOD_PACKAGE, IMAGE, NEW_IMAGE, OLD_IMAGE, archive};
use serde_json::{Value, json};

use super::Server;

/// A deployed model.
async fn deployed(server: &Server, name: &str) -> String {
    let model = server.model(name).await;
    let content = archive(&[("package.py", GOOD_PACKAGE)]);
    let file = server.upload("files.tar.gz", &content).await;
    let path = format!("/v3/models/{model}/deploy-artifact");
    let answer = server.post(&path, json!({ "file_id": file })).await;
    server.done(&answer).await;
    model
}

fn find<'a>(answer: &'a Value, uri: &str) -> &'a Value {
    let mut items = answer["items"].as_array().unwrap().iter();
    items.find(|item| item["uri"] == uri).unwrap()
}

#[tokio::test]
async fn images_are_listed_with_their_state_and_deployments() {
    let server = Server::new().await;
    let model = deployed(&server, "m").await;
    let images = server.get("/v1/images").await;
    assert_eq!(find(&images, IMAGE)["deployments"][0]["model_id"], model);
    assert_eq!(find(&images, IMAGE)["default"], true);
    assert_eq!(find(&images, OLD_IMAGE)["status"], "deprecated");
    assert_eq!(find(&images, OLD_IMAGE)["single_version"], true);
}

#[tokio::test]
async fn a_deployment_is_moved_and_moved_back() {
    let server = Server::new().await;
    let model = deployed(&server, "m").await;
    let path = format!("/v1/models/{model}/move");
    for (body, image) in [
        (json!({ "image_uri": NEW_IMAGE }), NEW_IMAGE),
        (json!({ "back": true }), IMAGE),
    ] {
        let answer = server.post(&path, body).await;
        server.done(&answer).await;
        let shown = server.get(&format!("/v3/models/{model}/deployment")).await;
        assert_eq!(shown["image_uri"], image);
        assert_eq!(shown["image_replaced_by"], Value::Null);
    }
    for body in [json!({}), json!({ "image": IMAGE }), json!([])] {
        let (status, _) = server.refused(Method::POST, &path, Some(body)).await;
        assert_eq!(status, 400);
    }
}

#[tokio::test]
async fn environments_are_listed_told_of_and_collected() {
    let server = Server::new().await;
    let model = deployed(&server, "m").await;
    let envs = server.get("/v1/environments").await;
    let env = &envs["items"][0];
    assert_eq!(env["models"][0]["model_id"], model);
    let id = env["id"].as_str().unwrap();
    let sbom = server.get(&format!("/v1/environments/{id}/sbom")).await;
    assert_eq!(sbom["bomFormat"], "CycloneDX");
    let missing = "/v1/environments/0000/sbom";
    assert_eq!(server.refused(Method::GET, missing, None).await.0, 404);

    let collect = "/v1/environments/collect";
    let dry = server.post(collect, json!({ "dry_run": true })).await;
    assert_eq!(dry["items"], json!([]));
    let answer = server
        .ok(Method::DELETE, &format!("/v3/models/{model}"), None)
        .await;
    server.done(&answer).await;
    let dry = server.post(collect, json!({ "dry_run": true })).await;
    assert_eq!(dry["items"][0]["id"], id);
    let answer = server.post(collect, json!({})).await;
    server.done(&answer).await;
    assert_eq!(server.get("/v1/environments").await["items"], json!([]));
}
