//! Pages, ordering and the filter language.

use axum::http::Method;
use serde_json::{Value, json};

use super::{Server, events::encode};

/// Projects alpha, beta, gamma in this order.
async fn three() -> Server {
    let server = Server::new().await;
    for name in ["alpha", "beta", "gamma"] {
        server.project(name).await;
    }
    server
}

async fn names(server: &Server, query: &str) -> Vec<String> {
    let page = server.get(&format!("/v3/projects?{query}")).await;
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}

fn filter(value: &Value) -> String {
    format!("filter={}", encode(&value.to_string()))
}

#[tokio::test]
async fn pages_count_as_the_client_counts() {
    let server = three().await;
    let counters = async |query: &str| {
        let page = server.get(&format!("/v3/projects?{query}")).await;
        [
            "page_size",
            "total",
            "item_count",
            "page_count",
            "page_index",
            "offset",
        ]
        .map(|key| page[key].as_u64().unwrap())
    };
    assert_eq!(counters("").await, [50, 3, 3, 1, 1, 0]);
    assert_eq!(counters("limit=2&offset=0").await, [2, 3, 2, 2, 1, 0]);
    assert_eq!(counters("limit=2&offset=2").await, [2, 3, 1, 2, 2, 2]);
    assert_eq!(counters("limit=2&offset=4").await, [2, 3, 0, 2, 3, 4]);
    let none = filter(&json!({ "condition": "AND", "rules": [
        { "field": "name", "operator": "equal", "value": "x" }] }));
    assert_eq!(counters(&none).await, [50, 0, 0, 0, 1, 0]);
}

#[tokio::test]
async fn lists_are_ordered_and_searched() {
    let server = three().await;
    assert_eq!(names(&server, "").await, ["alpha", "beta", "gamma"]);
    assert_eq!(
        names(&server, "ordering=-created_at").await,
        ["gamma", "beta", "alpha"]
    );
    assert_eq!(
        names(&server, "ordering=-name,created_at&limit=1").await,
        ["gamma"]
    );
    assert_eq!(names(&server, "search=ET").await, ["beta"]);
}

#[tokio::test]
async fn every_operator_of_the_filter_language_filters() {
    let server = three().await;
    let all = ["alpha", "beta", "gamma"];
    let cases: Vec<(&str, Value, &[&str])> = vec![
        ("any", Value::Null, &all),
        ("equal", json!("beta"), &["beta"]),
        ("not_equal", json!("beta"), &["alpha", "gamma"]),
        ("in", json!(["alpha", "gamma", "x"]), &["alpha", "gamma"]),
        ("in", json!([]), &[]),
        ("not_in", json!(["alpha", "x"]), &["beta", "gamma"]),
        ("not_in", json!([]), &all),
        ("less", json!("beta"), &["alpha"]),
        ("less_or_equal", json!("beta"), &["alpha", "beta"]),
        ("greater", json!("beta"), &["gamma"]),
        ("greater_or_equal", json!("beta"), &["beta", "gamma"]),
        ("between", json!(["b", "c"]), &["beta"]),
        ("not_between", json!(["b", "c"]), &["alpha", "gamma"]),
        ("begins_with", json!("al"), &["alpha"]),
        ("not_begins_with", json!("al"), &["beta", "gamma"]),
        ("contains", json!("mm"), &["gamma"]),
        ("not_contains", json!("mm"), &["alpha", "beta"]),
        ("ends_with", json!("ta"), &["beta"]),
        ("ends_with", json!(""), &all),
        ("ends_with", json!("longer than any"), &[]),
        ("not_ends_with", json!("ta"), &["alpha", "gamma"]),
        ("is_empty", Value::Null, &[]),
        ("is_not_empty", Value::Null, &all),
        ("is_null", Value::Null, &[]),
        ("is_not_null", Value::Null, &all),
        // The placeholders of LIKE are plain characters.
        ("contains", json!("%"), &[]),
        ("equal", json!("' OR '1'='1"), &[]),
    ];
    for (operator, value, expected) in cases {
        let rule = json!({ "field": "name", "operator": operator, "value": value });
        let query = filter(&json!({ "condition": "AND", "rules": [rule] }));
        assert_eq!(names(&server, &query).await, expected, "{operator} {value}");
    }
}

#[tokio::test]
async fn conditions_nest_and_an_empty_one_restricts_nothing() {
    let server = three().await;
    let rule = |operator: &str, value: &str| json!({ "field": "name", "operator": operator, "value": value });
    let empty = json!({ "condition": "AND", "rules": [] });
    assert_eq!(names(&server, &filter(&empty)).await.len(), 3);
    let nested = json!({ "condition": "AND", "rules": [
        rule("contains", "a"),
        { "condition": "OR", "rules": [rule("equal", "alpha"), rule("equal", "gamma")] },
        empty,
    ] });
    assert_eq!(names(&server, &filter(&nested)).await, ["alpha", "gamma"]);
    let time = json!({ "condition": "AND", "rules": [
        { "field": "created_at", "operator": "greater", "value": "2020-01-01T00:00:00Z" },
        { "field": "created_at", "operator": "less", "value": "2020-01-01 00:00:00" },
    ] });
    assert!(names(&server, &filter(&time)).await.is_empty());
    // As the older client writes it.
    let spaced = r#"{"condition": "AND", "rules": [{"field": "name", "operator": "equal", "value": "beta"}]}"#;
    assert_eq!(
        names(&server, &format!("filter={}", encode(spaced))).await,
        ["beta"]
    );
}

#[tokio::test]
async fn what_is_no_list_query_is_refused() {
    let server = three().await;
    let deep = (0..40).fold(
        json!({ "condition": "AND", "rules": [] }),
        |inner, _| json!({ "condition": "AND", "rules": [inner] }),
    );
    let rule = |rule: Value| filter(&json!({ "condition": "AND", "rules": [rule] }));
    for query in [
        "filter=%7B".to_owned(),
        "filter=3".to_owned(),
        filter(&json!({ "condition": "XOR", "rules": [] })),
        filter(&deep),
        rule(json!({ "field": "secret", "operator": "equal", "value": 1 })),
        rule(json!({ "field": "name; DROP TABLE projects", "operator": "equal", "value": 1 })),
        rule(json!({ "field": "name", "operator": "resembles", "value": "x" })),
        rule(json!({ "field": "name", "operator": "in", "value": "x" })),
        rule(json!({ "field": "name", "operator": "between", "value": ["x"] })),
        rule(json!({ "field": "name", "operator": "contains", "value": [1] })),
        rule(json!({ "field": "name", "operator": "equal", "value": {} })),
        rule(json!({ "field": "created_at", "operator": "less", "value": "soon" })),
        "ordering=secret".to_owned(),
        "limit=0".to_owned(),
        "limit=100000".to_owned(),
        "limit=many".to_owned(),
        "offset=-1".to_owned(),
    ] {
        let path = format!("/v3/projects?{query}");
        let (status, _) = server.refused(Method::GET, &path, None).await;
        assert_eq!(status, 400, "{query}");
    }
}

#[tokio::test]
async fn the_newer_clients_lookups_find_the_oldest_and_the_latest_version() {
    let server = Server::new().await;
    let project = server.project("p").await;
    for version in ["v1", "v2", "v3"] {
        let mut body = super::model_body("risk", &project);
        body["version"] = json!(version);
        server.post("/v3/models", body).await;
    }
    let rules = json!([
        { "field": "name", "operator": "equal", "value": "risk" },
        { "field": "project_id", "operator": "equal", "value": project },
    ]);
    let filter = filter(&json!({ "condition": "AND", "rules": rules }));
    for (ordering, version) in [
        ("", "v1"),
        ("&limit=1&ordering=created_at", "v1"),
        ("&limit=1&ordering=-created_at", "v3"),
    ] {
        let page = server.get(&format!("/v3/models?{filter}{ordering}")).await;
        assert_eq!(page["total"], 3);
        assert_eq!(page["items"][0]["version"], version, "{ordering}");
    }
    let other = uuid::Uuid::nil();
    let page = server.get(&format!("/v3/models?project_id={other}")).await;
    assert_eq!(page["total"], 0);
}
