//! Predict in every form of rows: what is negotiated, what comes back, and what is refused.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int8Array, Int64Array, NullArray, RecordBatch,
    StringArray, types::Int8Type,
};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, StatusCode, header},
};
use http_body_util::BodyExt as _;
use luthier_data::{Format, RowParser, read_table, write_table};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Server, model_body, refusal};

const TABLES: [Format; 4] = [
    Format::ArrowStream,
    Format::ArrowFile,
    Format::Parquet,
    Format::Csv,
];

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

fn ages(ages: Vec<Option<i64>>) -> RecordBatch {
    let rows = ages.len();
    table(vec![
        ("extra", Arc::new(Int64Array::from(vec![1; rows]))),
        ("city", Arc::new(StringArray::from(vec!["Zürich"; rows]))),
        ("Age", Arc::new(Int64Array::from(ages))),
    ])
}

fn bytes(batch: &RecordBatch, format: Format) -> Bytes {
    let mut out = vec![];
    write_table(batch, format, &mut out).unwrap();
    out.into()
}

async fn send(
    server: &Server,
    path: &str,
    headers: &[(header::HeaderName, &str)],
    body: impl Into<Body>,
) -> (StatusCode, HeaderMap, Bytes) {
    let mut request = Server::request(Method::POST, path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let request = request.body(body.into()).unwrap();
    let response = server.router.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, body)
}

/// Sends a table and reads the scores from the answer, which has the form asked for.
async fn scores(
    server: &Server,
    path: &str,
    batch: &RecordBatch,
    sent: Format,
    accept: Option<Format>,
) -> Vec<Option<f64>> {
    let mut headers = vec![(header::CONTENT_TYPE, sent.media_type())];
    headers.extend(accept.map(|format| (header::ACCEPT, format.media_type())));
    let (status, headers, body) = send(server, path, &headers, bytes(batch, sent)).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let got = accept.unwrap_or(sent);
    assert_eq!(headers[header::CONTENT_TYPE], got.media_type());
    if got == Format::Json {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let rows = body["data"]["predictions"].as_array().unwrap();
        return rows.iter().map(|row| row["score"].as_f64()).collect();
    }
    let column = serde_json::from_value(json!({ "name": "score", "data_type": "float" })).unwrap();
    let parser = RowParser::new(&[&column], luthier_data::Missing::Reject);
    let back = read_table(body, got, &parser, luthier_data::Bounds::default()).unwrap();
    let column = back.column(0).as_any().downcast_ref::<Float64Array>();
    column.unwrap().iter().collect()
}

/// Sends a body that is refused in the envelope; gives the status and the message.
async fn refused(server: &Server, path: &str, sent: &str, body: impl Into<Body>) -> (u16, String) {
    let headers = [(header::CONTENT_TYPE, sent), (header::ACCEPT, "*/*")];
    let (status, _, body) = send(server, path, &headers, body).await;
    refusal(status, &serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn every_form_comes_and_goes_by_every_address() {
    let (server, model, _runner) = Server::serving().await;
    let batch = ages(vec![Some(50), None, Some(7)]);
    let expected = vec![Some(0.5), None, Some(0.07)];
    for path in [
        format!("/v3/predict?model_id={model}"),
        "/v3/predict?model=p/m:v1".to_owned(),
        format!("/v1/models/{model}/predict"),
        "/v1/models/p/m/predict".to_owned(),
        "/v1/models/p/m:v1/predict?chunk_size=1".to_owned(),
    ] {
        for sent in TABLES {
            assert_eq!(scores(&server, &path, &batch, sent, None).await, expected);
        }
    }
    let path = format!("/v1/models/{model}/predict");
    for sent in TABLES {
        for accept in Format::ALL {
            let got = scores(&server, &path, &batch, sent, Some(accept)).await;
            assert_eq!(got, expected, "{sent:?} {accept:?}");
        }
    }
}

#[tokio::test]
async fn json_names_its_model_in_the_body_or_beside_it() {
    let (server, model, _runner) = Server::serving().await;
    let data = json!([{ "Age": 50, "city": "x" }]);
    let expected = json!({ "predictions": [{ "score": 0.5 }] });
    for (path, body) in [
        (
            "/v3/predict".to_owned(),
            json!({ "model_id": model, "data": data }),
        ),
        (
            format!("/v3/predict?model_id={model}"),
            json!({ "data": data }),
        ),
        ("/v1/models/p/m/predict".to_owned(), json!({ "data": data })),
        (
            format!("/v1/models/{model}/predict"),
            json!({ "data": data, "model_id": model, "chunk_size": 7 }),
        ),
    ] {
        assert_eq!(server.post(&path, body).await, expected, "{path}");
    }
    let csv = [(header::ACCEPT, "text/csv")];
    let body = json!({ "model_id": model, "data": data }).to_string();
    let (_, headers, body) = send(&server, "/v3/predict", &csv, body).await;
    assert_eq!(headers[header::CONTENT_TYPE], "text/csv");
    assert_eq!(body, "score\n0.5\n");

    let other = json!({ "model_id": uuid::Uuid::new_v4(), "data": data });
    let path = "/v1/models/p/m/predict";
    let (status, text) = server.refused(Method::POST, path, Some(other)).await;
    assert_eq!(status, 400);
    assert!(text.contains("another model"), "{text}");
    for (path, expected) in [
        ("/v3/predict", 400),
        ("/v3/predict?model=m", 400),
        ("/v3/predict?model_id=m", 400),
        ("/v1/models/p/other/predict", 404),
        ("/v1/models/other/m/predict", 404),
        ("/v1/models/p/m:v2/predict", 404),
        ("/v1/models/m/predict", 404),
    ] {
        let body = json!({ "data": data });
        let (status, text) = server.refused(Method::POST, path, Some(body)).await;
        assert_eq!(status, expected, "{path}: {text}");
    }
}

#[tokio::test]
async fn no_row_and_many_rows_are_tables_too() {
    let (server, model, runner) = Server::serving().await;
    let path = format!("/v1/models/{model}/predict");
    let before = runner.calls();
    for sent in TABLES {
        for accept in Format::ALL {
            let none = scores(&server, &path, &ages(vec![]), sent, Some(accept)).await;
            assert_eq!(none, []);
        }
    }
    assert_eq!(runner.calls(), before);
    let many: Vec<Option<i64>> = (0..25_000).map(Some).collect();
    let expected: Vec<Option<f64>> = (0..25_000).map(|n| Some(f64::from(n) / 100.0)).collect();
    for sent in [Format::ArrowStream, Format::Parquet] {
        assert_eq!(
            scores(&server, &path, &ages(many.clone()), sent, None).await,
            expected
        );
    }
}

#[tokio::test]
async fn forms_that_are_not_there_are_refused_with_those_that_are() {
    let (server, model, _runner) = Server::serving().await;
    let path = format!("/v1/models/{model}/predict");
    let (status, text) = refused(&server, &path, "application/xml", "<rows/>").await;
    assert_eq!(status, 415);
    for format in Format::ALL {
        assert!(text.contains(format.media_type()), "{text}");
    }
    let accept = [(header::ACCEPT, "image/png")];
    let (status, _, body) = send(&server, &path, &accept, "{\"data\":[]}").await;
    let (status, text) = refusal(status, &serde_json::from_slice(&body).unwrap());
    assert_eq!(status, 406);
    assert!(text.contains("text/csv"), "{text}");
    let gzip = [(header::CONTENT_ENCODING, "gzip")];
    let (status, _, body) = send(&server, &path, &gzip, "{\"data\":[]}").await;
    let (status, text) = refusal(status, &serde_json::from_slice(&body).unwrap());
    assert_eq!(status, 415);
    assert!(text.contains("Content-Encoding"), "{text}");
}

#[tokio::test]
async fn tables_that_do_not_fit_are_refused_in_the_envelope() {
    let (server, model, runner) = Server::serving().await;
    let before = runner.calls();
    let path = format!("/v1/models/{model}/predict");
    let lacking = table(vec![("city", Arc::new(StringArray::from(vec!["x"])))]);
    let wrong = table(vec![
        ("Age", Arc::new(StringArray::from(vec!["7", "old"]))),
        ("city", Arc::new(StringArray::from(vec!["x", "x"]))),
    ]);
    for format in TABLES {
        let name = format.media_type();
        let (status, text) = refused(&server, &path, name, bytes(&lacking, format)).await;
        assert_eq!(status, 400);
        assert!(
            text.contains("lacks the column `Age`"),
            "{format:?}: {text}"
        );
        let (status, text) = refused(&server, &path, name, bytes(&wrong, format)).await;
        assert_eq!(status, 400);
        assert!(
            text.contains("row 1: column `Age` is \"old\""),
            "{format:?}: {text}"
        );
        if format != Format::Csv {
            let half = bytes(&ages(vec![Some(1); 100]), format);
            let half = half.slice(..half.len() / 2);
            assert_eq!(refused(&server, &path, name, half).await.0, 400);
        }
    }
    assert_eq!(runner.calls(), before);
}

#[tokio::test]
async fn small_bodies_that_unpack_to_much_are_refused() {
    let (server, model, _runner) = Server::serving().await;
    let path = format!("/v1/models/{model}/predict");
    let arrow = Format::ArrowStream;
    let endless: ArrayRef = Arc::new(NullArray::new(1 << 40));
    let endless = table(vec![("Age", endless.clone()), ("city", endless)]);
    let word = StringArray::from(vec!["x".repeat(1 << 20)]);
    let keys = Int8Array::from(vec![0; 10_000]);
    let words = table(vec![
        ("Age", Arc::new(Int64Array::from(vec![1; 10_000]))),
        (
            "city",
            Arc::new(DictionaryArray::<Int8Type>::new(keys, Arc::new(word))),
        ),
    ]);
    for (batch, named) in [(endless, "rows"), (words, "MiB")] {
        let body = bytes(&batch, arrow);
        assert!(body.len() < 1 << 21);
        let (status, text) = refused(&server, &path, arrow.media_type(), body).await;
        assert_eq!(status, 413);
        assert!(text.contains(named), "{text}");
    }
}

#[tokio::test]
async fn a_name_stands_for_what_is_there_now() {
    let (server, model, _runner) = Server::serving().await;
    let body = json!({ "data": [] });
    let path = "/v1/models/p/m/predict";
    server.post(path, body.clone()).await;
    let job = server
        .ok(Method::DELETE, &format!("/v3/models/{model}"), None)
        .await;
    server.done(&job).await;
    let (status, _) = server.refused(Method::POST, path, Some(body.clone())).await;
    assert_eq!(status, 404);
    let project = server.get("/v3/projects").await["items"][0]["id"].clone();
    let again = model_body("m", project.as_str().unwrap());
    server.post("/v3/models", again).await;
    server.post(path, body).await;
}
