//! Uploads, whole and in parts.

use axum::http::Method;
use serde_json::json;

use super::{Server, form, refusal, shape};

#[tokio::test]
async fn a_file_in_one_request_is_told_by_its_content() {
    let server = Server::new().await;
    let (status, answer) = server
        .send_form("/v3/files/upload", &[], Some(("rows.txt", b"a,b\n1,2\n")))
        .await;
    assert_eq!(status, 200);
    insta::assert_snapshot!(shape(&answer["data"]), @r#"{"id":"[id]","filename":"rows.txt","status":"SUCCESSFUL","type":"CSV","created_at":"[time]","updated_at":"[time]","created_by":{"id":"[id]","full_name":"Administrator","email":""},"updated_by":{"id":"[id]","full_name":"Administrator","email":""}}"#);
    for (name, content, kind) in [
        ("a.csv", &b"PAR1...."[..], "PARQUET"),
        ("a.csv", &[0x1f, 0x8b, 8, 0][..], "TAR_GZ"),
        ("a.parquet", b"a,b\n", "CSV"),
        ("a.csv", b"", "CSV"),
    ] {
        let (_, answer) = server
            .send_form("/v3/files/upload", &[], Some((name, content)))
            .await;
        assert_eq!(answer["data"]["type"], kind, "{name}");
    }
}

#[tokio::test]
async fn parts_come_in_any_order_and_a_repeated_one_is_replaced() {
    let server = Server::new().await;
    let begun = server
        .post("/v3/files/multipart-init", json!({ "filename": "d.csv" }))
        .await;
    assert_eq!(begun["status"], "INITIATED");
    let id = begun["id"].as_str().unwrap();
    let part = async |number: &str, content: &[u8]| {
        let fields = [("file_id", id), ("part_number", number)];
        let (status, answer) = server
            .send_form(
                "/v3/files/multipart-upload",
                &fields,
                Some(("part", content)),
            )
            .await;
        assert_eq!(status, 200, "{answer}");
        answer["data"]["part_id"].clone()
    };
    let complete = async |parts: serde_json::Value| {
        let body = json!({ "file_id": id, "parts": parts });
        server
            .call(Method::POST, "/v3/files/multipart-complete", Some(body))
            .await
    };
    let third = part("3", b"\nx,9\n").await;
    let old = part("1", b"wrong").await;
    let first = part("1", b"city,").await;

    for parts in [
        json!([]),
        json!([{ "number": 1, "id": first }, { "number": 3, "id": third }]),
        json!([{ "number": 1, "id": first }, { "number": 2, "id": "x" }, { "number": 3, "id": third }]),
        json!([{ "number": 1, "id": first }]),
    ] {
        let (status, answer) = complete(parts).await;
        assert_eq!(refusal(status, &answer).0, 400);
    }
    let second = part("2", b"age").await;
    let (status, answer) = complete(json!([
        { "number": 1, "id": old }, { "number": 2, "id": second }, { "number": 3, "id": third },
    ]))
    .await;
    assert_eq!(refusal(status, &answer).0, 400, "a part that was replaced");

    let all = json!([
        { "number": 3, "id": third }, { "number": 1, "id": first }, { "number": 2, "id": second },
    ]);
    let (status, whole) = complete(all.clone()).await;
    assert_eq!(
        (status.as_u16(), &whole["data"]["status"]),
        (200, &json!("SUCCESSFUL"))
    );
    assert_eq!(
        complete(all).await.1,
        whole,
        "completing again changes nothing"
    );
    let inferred = server
        .post("/v3/model-factory", json!({ "file_id": id }))
        .await;
    assert_eq!(inferred["schema"]["columns"][1]["name"], "age");
    assert_eq!(inferred["schema"]["columns"][1]["min"], 9.0);

    let fields = [("file_id", id), ("part_number", "4")];
    let (status, answer) = server
        .send_form(
            "/v3/files/multipart-upload",
            &fields,
            Some(("part", b"late")),
        )
        .await;
    assert_eq!(refusal(status, &answer).0, 409);
}

#[tokio::test]
async fn a_file_whose_parts_are_not_together_yet_is_no_table() {
    let server = Server::new().await;
    let begun = server
        .post("/v3/files/multipart-init", json!({ "filename": "d.csv" }))
        .await;
    let body = Some(json!({ "file_id": begun["id"] }));
    let refused = server
        .refused(Method::POST, "/v3/model-factory", body)
        .await;
    assert_eq!(refused.0, 400);
}

#[tokio::test]
async fn malformed_uploads_are_refused_in_the_envelope() {
    let server = Server::new().await;
    let upload = "/v3/files/upload";
    let whole = form(&[], Some(("a.csv", b"a,b\n1,2\n")));
    let torn = whole[..whole.len() - 20].to_vec();
    for body in [vec![], b"no form".to_vec(), torn, form(&[("x", "y")], None)] {
        let (status, answer) = server.send_raw_form(upload, body).await;
        assert_eq!(refusal(status, &answer).0, 400);
    }
    let (status, answer) = server.call(Method::POST, upload, Some(json!({}))).await;
    assert_eq!(refusal(status, &answer).0, 400, "JSON instead of a form");

    let part = "/v3/files/multipart-upload";
    let nil = uuid::Uuid::nil().to_string();
    for (fields, expected) in [
        (vec![], 400),
        (vec![("file_id", nil.as_str())], 400),
        (vec![("file_id", "x"), ("part_number", "1")], 400),
        (vec![("file_id", nil.as_str()), ("part_number", "0")], 400),
        (vec![("file_id", nil.as_str()), ("part_number", "1")], 404),
    ] {
        let (status, answer) = server.send_form(part, &fields, Some(("p", b"x"))).await;
        assert_eq!(refusal(status, &answer).0, expected, "{fields:?}");
    }
    let body = json!({ "file_id": nil, "parts": [] });
    let refused = server
        .refused(Method::POST, "/v3/files/multipart-complete", Some(body))
        .await;
    assert_eq!(refused.0, 404);
}

#[tokio::test]
async fn an_upload_above_the_limit_is_refused_and_one_at_the_clients_size_is_not() {
    let server = Server::new().await;
    // What the stock client sends in one request, nearly.
    let content = vec![b'x'; 104_857_599];
    let (status, answer) = server
        .send_form("/v3/files/upload", &[], Some(("big.csv", &content)))
        .await;
    assert_eq!(status, 200, "{answer}");
    let content = vec![b'x'; 128 * 1024 * 1024 + 1];
    let (status, answer) = server
        .send_form("/v3/files/upload", &[], Some(("big.csv", &content)))
        .await;
    assert_eq!(refusal(status, &answer).0, 413);
}
