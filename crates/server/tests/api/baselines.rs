//! Baselines.

use axum::http::Method;
use serde_json::{Value, json};

use super::{Server, shape};

#[tokio::test]
async fn a_baseline_is_kept_and_echoed() {
    let server = Server::new().await;
    let model = server.model("risk").await;
    let file = server.upload("rows.csv", b"Age,city\n3,Bern\n").await;
    let publish = json!({
        "source": { "type": "FILE", "file_id": file },
        "model_id": model, "env_type": "PRE_PRODUCTION", "env_name": "train",
    });
    let started = server.post("/v3/events", publish).await;
    server.done(&started).await;
    let page = server
        .get(&format!("/v3/models/{model}/environments"))
        .await;
    let dataset = page["items"][0]["id"].clone();

    let body = json!({
        "name": "base", "model_id": model, "type": "STATIC", "env_type": "PRE_PRODUCTION",
        "env_id": dataset, "start_time": null, "end_time": null, "offset_delta": null,
        "window_bin_size": null,
    });
    let made = server.post("/v3/baselines", body.clone()).await;
    insta::assert_snapshot!(shape(&made), @r#"{"model":{"id":"[id]","name":"risk","version":"v1"},"project":{"id":"[id]","name":"p-risk"},"organization":{"id":"[id]","name":"luthier"},"id":"[id]","name":"base","type":"STATIC","start_time":null,"end_time":null,"offset_delta":null,"window_bin_size":null,"row_count":1,"environment":{"id":"[id]","name":"train","type":"PRE_PRODUCTION"},"created_at":"[time]","updated_at":"[time]"}"#);
    let id = made["id"].as_str().unwrap();
    let path = format!("/v3/baselines/{id}");
    assert_eq!(server.get(&path).await, made);
    let taken = server
        .refused(Method::POST, "/v3/baselines", Some(body.clone()))
        .await;
    assert_eq!(taken, (409, "Baseline already exists".to_owned()));

    let rolling = json!({
        "name": "moving", "model_id": model, "type": "ROLLING", "env_type": "PRODUCTION",
        "start_time": 1, "end_time": 2, "offset_delta": 3, "window_bin_size": "Week",
    });
    let rolling = server.post("/v3/baselines", rolling).await;
    assert_eq!(rolling["environment"]["type"], "PRODUCTION");
    assert_eq!(rolling["window_bin_size"], "Week");
    let filter = super::events::encode(
        r#"{"condition":"AND","rules":[{"field":"type","operator":"equal","value":"STATIC"},{"field":"environment_type","operator":"equal","value":"PRE_PRODUCTION"}]}"#,
    );
    let list = server
        .get(&format!("/v3/models/{model}/baselines?filter={filter}"))
        .await;
    assert_eq!(list["items"], json!([made]));

    server.ok(Method::DELETE, &path, None).await;
    let gone = server.refused(Method::GET, &path, None).await;
    assert_eq!(
        gone,
        (
            404,
            "Baseline not found for the given identifier".to_owned()
        )
    );

    let nil = uuid::Uuid::nil();
    for (change, expected) in [
        (json!({ "env_id": Value::Null }), 400),
        (json!({ "env_id": nil }), 404),
        (json!({ "model_id": nil }), 404),
        (json!({ "type": "MOVING" }), 400),
        (json!({ "window_bin_size": "Year" }), 400),
        (json!({ "start_time": "2024-01-01" }), 400),
        (json!({ "start_time": 2, "end_time": 1 }), 400),
        (json!({ "name": "" }), 400),
    ] {
        let mut wrong = body.clone();
        wrong["name"] = json!("other");
        for (key, value) in change.as_object().unwrap() {
            wrong[key] = value.clone();
        }
        let (status, _) = server
            .refused(Method::POST, "/v3/baselines", Some(wrong))
            .await;
        assert_eq!(status, expected, "{change}");
    }
}
