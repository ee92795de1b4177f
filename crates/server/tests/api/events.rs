//! Publishing, updating and deleting data, and the environments it makes.

use axum::http::Method;
use luthier_types::JobStatus;
use serde_json::{Value, json};

use super::{Server, shape};

const CSV: &[u8] = b"event_id,at,Age,city,score,label,unrelated\n\
    e1,2024-01-01T00:00:00Z,30,Bern,0.5,1,x\n\
    e2,2024-01-02T00:00:00Z,40,Basel,0.25,0,y\n";

fn from_file(model: &str, file: &str, env: Value, name: Value) -> Value {
    json!({
        "source": { "type": "FILE", "file_id": file },
        "model_id": model, "env_type": env, "env_name": name,
    })
}

fn from_list(model: &str, events: Value) -> Value {
    json!({
        "source": { "type": "EVENTS", "events": events },
        "model_id": model, "env_type": "PRODUCTION", "env_name": null,
    })
}

async fn count(server: &Server, model: &str) -> u64 {
    let id = model.parse().unwrap();
    server.world.app.event_count(id).await.unwrap()
}

#[tokio::test]
async fn a_file_becomes_an_environment() {
    let server = Server::new().await;
    let model = server.model("risk").await;
    let file = server.upload("rows.csv", CSV).await;
    let body = from_file(&model, &file, json!("PRE_PRODUCTION"), json!("train"));
    let started = server.post("/v3/events", body.clone()).await;
    assert_eq!(started["source_type"], "FILE");
    assert_eq!(started["job"]["name"], "Upload dataset");
    server.done(&started).await;
    let id = started["job"]["id"].as_str().unwrap();
    let job = server.get(&format!("/v3/jobs/{id}")).await;
    insta::assert_snapshot!(shape(&job["info"]), @r#"{"resource_type":"DATASET","resource_name":"train","project_name":"p-risk","project":{"id":"[id]","name":"p-risk"},"model":{"id":"[id]","name":"risk","version":"v1"},"model_name":"risk","model_uuid":"[id]","env_type":"PRE_PRODUCTION","env_name":"train"}"#);

    let of_model = format!("/v3/models/{model}/environments?type=PRE_PRODUCTION&limit=50&offset=0");
    let page = server.get(&of_model).await;
    insta::assert_snapshot!(shape(&page["items"]), @r#"[{"model":{"id":"[id]","name":"risk","version":"v1"},"project":{"id":"[id]","name":"p-risk"},"organization":{"id":"[id]","name":"luthier"},"id":"[id]","name":"train","type":"PRE_PRODUCTION","row_count":2,"created_at":"[time]","updated_at":"[time]"}]"#);
    let id = page["items"][0]["id"].as_str().unwrap();
    let one = server.get(&format!("/v3/environments/{id}")).await;
    assert_eq!(one, page["items"][0]);
    let filter = format!(
        r#"{{"condition":"AND","rules":[{{"field":"name","operator":"equal","value":"train"}},{{"field":"model_id","operator":"equal","value":"{model}"}}]}}"#
    );
    let found = server
        .get(&format!("/v3/environments?filter={}", encode(&filter)))
        .await;
    assert_eq!(found["total"], 1);
    let production = format!("/v3/models/{model}/environments?type=PRODUCTION");
    assert_eq!(server.get(&production).await["total"], 0);

    let taken = server.refused(Method::POST, "/v3/events", Some(body)).await;
    assert_eq!(taken.0, 409);
    let hyphen = from_file(&model, &file, json!("PRE-PRODUCTION"), json!("other"));
    let started = server.post("/v3/events", hyphen).await;
    server.done(&started).await;
}

pub(super) fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => (b as char).to_string(),
            b' ' => "+".to_owned(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[tokio::test]
async fn values_that_do_not_fit_fail_the_job_and_make_no_environment() {
    let server = Server::new().await;
    let model = server.model("risk").await;
    let file = server.upload("rows.csv", b"Age,city\nold,Bern\n").await;
    let body = from_file(&model, &file, json!("PRE_PRODUCTION"), json!("train"));
    let started = server.post("/v3/events", body).await;
    let job = server.job(&started).await;
    assert_eq!(job.status, JobStatus::Failure);
    assert!(job.error.unwrap().message().contains("`Age`"));
    let page = server
        .get(&format!("/v3/models/{model}/environments"))
        .await;
    assert_eq!(page["total"], 0);
}

#[tokio::test]
async fn events_are_published_updated_and_deleted() {
    let server = Server::new().await;
    let model = server.model("risk").await;
    let rows = json!([
        { "event_id": "e1", "at": "2024-01-01T00:00:00Z", "Age": 30, "city": "Bern", "score": 0.5 },
        { "event_id": "e2", "at": 1704153600, "Age": 40, "city": null, "score": 0.1 },
        { "Age": 1 },
    ]);
    let stored = server.post("/v3/events", from_list(&model, rows)).await;
    assert_eq!(stored["source_type"], "EVENTS");
    let ids = stored["event_ids"].as_array().unwrap();
    assert_eq!(&ids[..2], [json!("e1"), json!("e2")]);
    assert!(ids[2].is_string());
    assert_eq!(count(&server, &model).await, 3);

    let update = from_list(&model, json!([{ "event_id": "e1", "label": 1 }]));
    server.ok(Method::PATCH, "/v3/events", Some(update)).await;
    let mut db = server.world.store().read().await.unwrap();
    let row = luthier_store::events::row(&mut db, model.parse().unwrap(), "e1")
        .await
        .unwrap();
    drop(db);
    assert_eq!(
        Value::Object(row.unwrap()),
        json!({
            "Age": 30, "city": "Bern", "score": 0.5, "event_id": "e1",
            "at": "2024-01-01T00:00:00Z", "label": 1,
        })
    );

    let by_id = json!({ "model_id": model, "update_metrics": false, "event_ids": ["e2", "no"] });
    let (status, answer) = server.call(Method::DELETE, "/v3/events", Some(by_id)).await;
    assert_eq!(status, 202);
    assert_eq!(answer["data"]["job"]["name"], "Delete events");
    server.done(&answer["data"]).await;
    assert_eq!(count(&server, &model).await, 2);
    let by_time = json!({
        "model_id": model, "update_metrics": true,
        "time_range": { "start_time": "2023-12-31T00:00:00Z", "end_time": "2024-01-02T00:00:00Z" },
    });
    let started = server.ok(Method::DELETE, "/v3/events", Some(by_time)).await;
    server.done(&started).await;
    assert_eq!(
        count(&server, &model).await,
        1,
        "the one without a time is of now"
    );
}

#[tokio::test]
async fn a_file_of_events_is_stored_once_however_often_it_is_published() {
    let server = Server::new().await;
    let model = server.model("risk").await;
    let file = server.upload("rows.csv", CSV).await;
    let body = from_file(&model, &file, json!("PRODUCTION"), Value::Null);
    for _ in 0..2 {
        let started = server.post("/v3/events", body.clone()).await;
        assert_eq!(started["job"]["name"], "Publish events");
        server.done(&started).await;
    }
    assert_eq!(count(&server, &model).await, 2);
    let changes = server.upload("c.csv", b"event_id,label\ne1,0\n").await;
    let body = from_file(&model, &changes, json!("PRODUCTION"), Value::Null);
    let started = server.ok(Method::PATCH, "/v3/events", Some(body)).await;
    server.done(&started).await;
    let mut db = server.world.store().read().await.unwrap();
    let row = luthier_store::events::row(&mut db, model.parse().unwrap(), "e1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&row["label"], &row["city"]), (&json!(0), &json!("Bern")));
}

#[tokio::test]
async fn what_is_refused_stores_nothing() {
    let server = Server::new().await;
    let model = server.model("risk").await;
    let known = from_list(&model, json!([{ "event_id": "e1", "Age": 1 }]));
    server.post("/v3/events", known).await;
    for rows in [
        json!([]),
        json!([3]),
        json!([{ "nothing": 1 }]),
        json!([{ "Age": 2 }, { "Age": "old" }]),
        json!([{ "Age": 2, "at": "yesterday" }]),
    ] {
        let body = Some(from_list(&model, rows.clone()));
        let (status, _) = server.refused(Method::POST, "/v3/events", body).await;
        assert_eq!(status, 400, "{rows}");
    }
    for rows in [
        json!([{ "Age": 2 }]),
        json!([{ "event_id": "e1", "Age": 7 }, { "event_id": "e9", "Age": 2 }]),
    ] {
        let body = Some(from_list(&model, rows.clone()));
        let (status, _) = server.refused(Method::PATCH, "/v3/events", body).await;
        assert_eq!(status, 400, "{rows}");
    }
    assert_eq!(count(&server, &model).await, 1);
    let mut db = server.world.store().read().await.unwrap();
    let row = luthier_store::events::row(&mut db, model.parse().unwrap(), "e1")
        .await
        .unwrap();
    drop(db);
    assert_eq!(row.unwrap()["Age"], 1, "half an update was not kept");

    let nil = uuid::Uuid::nil().to_string();
    let archive = server.upload("files.tar.gz", &[0x1f, 0x8b, 8, 0]).await;
    let file = server.upload("rows.csv", CSV).await;
    let pre = json!("PRE_PRODUCTION");
    for (body, expected) in [
        (from_file(&nil, &file, pre.clone(), json!("d")), 404),
        (from_file(&model, &nil, pre.clone(), json!("d")), 404),
        (from_file(&model, &file, pre.clone(), Value::Null), 400),
        (from_file(&model, &archive, pre.clone(), json!("d")), 400),
        (from_file(&model, &file, json!("STAGING"), json!("d")), 400),
    ] {
        let (status, _) = server
            .refused(Method::POST, "/v3/events", Some(body.clone()))
            .await;
        assert_eq!(status, expected, "{body}");
    }
    let mut list = from_list(&model, json!([{ "Age": 1 }]));
    list["env_type"] = pre;
    list["env_name"] = json!("d");
    assert_eq!(
        server
            .refused(Method::POST, "/v3/events", Some(list))
            .await
            .0,
        400
    );
    for body in [
        json!({ "model_id": model }),
        json!({ "model_id": model, "event_ids": [] }),
        json!({ "model_id": model, "event_ids": ["a"], "time_range": {} }),
        json!({ "model_id": model, "time_range": { "start_time": "soon" } }),
        json!({ "model_id": model, "time_range": { "start_time": "2024-02-01T00:00:00Z", "end_time": "2024-01-01T00:00:00Z" } }),
    ] {
        let (status, _) = server
            .refused(Method::DELETE, "/v3/events", Some(body.clone()))
            .await;
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(server.world.queue().list(10).await.unwrap().len(), 0);
}
