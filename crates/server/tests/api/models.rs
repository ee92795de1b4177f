//! Models, their versions, changes and the model factory.

use axum::http::Method;
use serde_json::{Value, json};

use super::{Server, model_body, shape};

#[tokio::test]
async fn a_model_is_whole_in_detail_and_named_in_lists() {
    let server = Server::new().await;
    let id = server.model("risk").await;
    let model = server.get(&format!("/v3/models/{id}")).await;
    insta::assert_snapshot!(
        shape(&without(&model, &["schema", "input_cols", "output_cols", "target_cols"])),
        @r#"{"id":"[id]","name":"risk","version":"v1","project":{"id":"[id]","name":"p-risk"},"organization":{"id":"[id]","name":"luthier"},"input_type":"structured","task":"binary_classification","description":null,"artifact_status":"no_model","is_binary_ranking_model":false,"created_at":"[time]","updated_at":"[time]","created_by":{"id":"[id]","full_name":"Administrator","email":""},"updated_by":{"id":"[id]","full_name":"Administrator","email":""},"task_params":{"binary_classification_threshold":null,"target_class_order":null,"group_by":null,"top_k":null,"class_weights":null,"weighted_ref_histograms":null},"decision_cols":[],"spec":{"schema_version":1,"inputs":["Age","city"],"outputs":["score"],"targets":["label"],"decisions":[],"metadata":[],"custom_features":[]},"event_id_col":"event_id","event_ts_col":"at","event_ts_format":null,"xai_params":null,"artifact_files":[],"metadata_cols":[]}"#);
    insta::assert_snapshot!(model["schema"]["columns"][0], @r#"{"id":"age","name":"Age","data_type":"int","min":0.0,"max":100.0,"categories":null,"bins":[0.0,10.0,20.0,30.0,40.0,50.0,60.0,70.0,80.0,90.0,100.0],"replace_with_nulls":null,"n_dimensions":null}"#);
    assert_eq!(model["schema"]["columns"][1]["bins"], Value::Null);
    let page = server.get("/v3/models").await;
    insta::assert_snapshot!(shape(&page), @r#"{"page_size":50,"total":1,"item_count":1,"page_count":1,"page_index":1,"offset":0,"items":[{"id":"[id]","name":"risk","version":"v1","project":{"id":"[id]","name":"p-risk"},"organization":{"id":"[id]","name":"luthier"},"input_type":"structured","task":"binary_classification","description":null,"artifact_status":"no_model","is_binary_ranking_model":false,"created_at":"[time]","updated_at":"[time]","created_by":{"id":"[id]","full_name":"Administrator","email":""},"updated_by":{"id":"[id]","full_name":"Administrator","email":""}}]}"#);
}

fn without(value: &Value, keys: &[&str]) -> Value {
    let mut value = value.clone();
    for key in keys {
        value.as_object_mut().unwrap().remove(*key);
    }
    value
}

#[tokio::test]
async fn versions_live_side_by_side() {
    let server = Server::new().await;
    let project = server.project("p").await;
    let mut body = model_body("risk", &project);
    let first = server.post("/v3/models", body.clone()).await;
    assert_eq!(first["version"], "v1");
    let again = server
        .refused(Method::POST, "/v3/models", Some(body.clone()))
        .await;
    assert_eq!(again, (409, "Model already exists".to_owned()));
    body["version"] = json!("v2");
    let second = server.post("/v3/models", body).await;
    assert_ne!(first["id"], second["id"]);

    let resolve = "/v1/models/resolve?project=p&model=risk";
    assert_eq!(server.get(resolve).await["id"], first["id"], "the oldest");
    let named = server.get(&format!("{resolve}&version=v2")).await;
    assert_eq!(named["id"], second["id"]);
    for wrong in [
        "project=q&model=risk",
        "project=p&model=x",
        "project=p&model=risk&version=v3",
    ] {
        let path = format!("/v1/models/resolve?{wrong}");
        assert_eq!(server.refused(Method::GET, &path, None).await.0, 404);
    }

    let path = format!("/v3/models/{}", second["id"].as_str().unwrap());
    let taken = server
        .refused(Method::PATCH, &path, Some(json!({ "version": "v1" })))
        .await;
    assert_eq!(taken.0, 409);
    let renamed = server
        .ok(Method::PATCH, &path, Some(json!({ "version": "best" })))
        .await;
    assert_eq!(renamed["version"], "best");
}

#[tokio::test]
async fn a_change_touches_only_the_keys_that_are_there_and_null_is_a_value() {
    let server = Server::new().await;
    let id = server.model("risk").await;
    let path = format!("/v3/models/{id}");
    let before = server.get(&path).await;
    let change = json!({ "description": "about risk", "event_id_col": null });
    let after = server.ok(Method::PATCH, &path, Some(change)).await;
    assert_eq!(after["description"], "about risk");
    assert_eq!(after["event_id_col"], Value::Null);
    for key in ["schema", "spec", "event_ts_col", "version", "xai_params"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    let xai = json!({ "xai_params": { "custom_explain_methods": ["Tree Shap"] } });
    server.ok(Method::PATCH, &path, Some(xai.clone())).await;
    // What add_column sends: the columns without a schema version, and the spec.
    let mut schema = after["schema"].clone();
    schema.as_object_mut().unwrap().remove("schema_version");
    let column = json!({ "name": "Extra", "data_type": "float", "min": 0, "max": 1 });
    schema["columns"].as_array_mut().unwrap().push(column);
    let mut spec = after["spec"].clone();
    spec["metadata"] = json!(["Extra"]);
    let change = json!({ "schema": schema, "spec": spec });
    let after = server.ok(Method::PATCH, &path, Some(change)).await;
    assert_eq!(after["schema"]["columns"][4]["id"], "extra");
    assert_eq!(
        after["schema"]["columns"][4]["bins"]
            .as_array()
            .unwrap()
            .len(),
        11
    );
    assert_eq!(after["xai_params"], xai["xai_params"]);
    assert_eq!(server.get(&path).await, after);
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_and_nothing_changes() {
    let server = Server::new().await;
    let id = server.model("risk").await;
    let path = format!("/v3/models/{id}");
    let before = server.get(&path).await;
    for change in [
        json!({ "name": "other" }),
        json!({ "description": "x", "task": "regression" }),
        json!({ "version": null }),
        json!({ "version": "" }),
        json!({ "version": "x".repeat(65) }),
        json!({ "description": 3 }),
        json!({ "xai_params": "x" }),
        json!({ "spec": { "inputs": ["no such column"] } }),
        json!({ "schema": { "columns": [] } }),
        json!([1]),
    ] {
        let (status, _) = server
            .refused(Method::PATCH, &path, Some(change.clone()))
            .await;
        assert_eq!(status, 400, "{change}");
    }
    assert_eq!(server.get(&path).await, before);
}

#[tokio::test]
async fn schemas_and_specs_that_contradict_themselves_are_refused() {
    let server = Server::new().await;
    let project = server.project("p").await;
    let refuse = async |change: &dyn Fn(&mut Value)| {
        let mut body = model_body("risk", &project);
        change(&mut body);
        let (status, message) = server.refused(Method::POST, "/v3/models", Some(body)).await;
        assert_eq!(status, 400, "{message}");
        message
    };
    let twice = refuse(&|body| body["schema"]["columns"][1]["name"] = json!("Age")).await;
    assert!(twice.contains("`Age` twice"), "{twice}");
    let unknown = refuse(&|body| body["spec"]["targets"] = json!(["nothing"])).await;
    assert!(
        unknown.contains("spec.targets") && unknown.contains("`nothing`"),
        "{unknown}"
    );
    refuse(&|body| body["schema"]["columns"][0]["data_type"] = json!("decimal")).await;
    refuse(&|body| body["schema"]["columns"][0]["min"] = json!(1000)).await;
    refuse(&|body| body["task"] = json!("guessing")).await;
    refuse(&|body| body["project_id"] = json!("p")).await;
    refuse(&|body| {
        body.as_object_mut().unwrap().remove("schema");
    })
    .await;
    let mut body = model_body("risk", &project);
    body["project_id"] = json!(uuid::Uuid::nil());
    let (status, message) = server.refused(Method::POST, "/v3/models", Some(body)).await;
    assert_eq!(
        (status, message.as_str()),
        (404, "Project not found for the given identifier")
    );
}

#[tokio::test]
async fn deleting_a_model_is_a_job() {
    let server = Server::new().await;
    let id = server.model("risk").await;
    let path = format!("/v3/models/{id}");
    let (status, answer) = server.call(Method::DELETE, &path, None).await;
    assert_eq!(status, 202);
    assert_eq!(answer["data"]["job"]["name"], "Deleting model risk");
    server.done(&answer["data"]).await;
    let gone = server.refused(Method::GET, &path, None).await;
    assert_eq!(
        gone,
        (404, "Model not found for the given identifier".to_owned())
    );
    assert_eq!(server.refused(Method::DELETE, &path, None).await.0, 404);
}

#[tokio::test]
async fn the_factory_reads_types_from_text() {
    let server = Server::new().await;
    let csv = b"age,city,ok\n1,Bern,true\n30,Basel,false\n7,Bern,true\n";
    let file = server.upload("data.csv", csv).await;
    let inferred = server
        .post(
            "/v3/model-factory",
            json!({ "file_id": file, "max_cardinality": 5, "sample_size": null, "spec": null }),
        )
        .await;
    let columns = inferred["schema"]["columns"].as_array().unwrap();
    let types: Vec<&str> = columns
        .iter()
        .map(|c| c["data_type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["int", "category", "bool"]);
    assert_eq!(inferred["spec"]["inputs"], json!([]));
    let unknown = json!({ "file_id": uuid::Uuid::nil() });
    let (status, _) = server
        .refused(Method::POST, "/v3/model-factory", Some(unknown))
        .await;
    assert_eq!(status, 404);
    let archive = server.upload("files.tar.gz", &[0x1f, 0x8b, 8, 0]).await;
    let (status, _) = server
        .refused(
            Method::POST,
            "/v3/model-factory",
            Some(json!({ "file_id": archive })),
        )
        .await;
    assert_eq!(status, 400);
}
