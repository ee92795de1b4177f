//! Uploads.

use std::{str::FromStr, sync::Arc};

use axum::{Router, extract::State, routing::post};
use luthier_app::{
    App,
    files::{CompleteUpload, InitUpload},
};
use luthier_types::{Code, Error, FileId, Result};
use serde_json::json;

use crate::{
    envelope::{Answer, data},
    extract::{Json, bounded},
    upload::{Fields, Upload},
    views,
};

/// Room for the fields beside the file.
const OVERHEAD: u64 = 1024 * 1024;

pub(crate) fn routes(app: &App) -> Router<Arc<App>> {
    let limit = app.settings().max_upload_bytes.saturating_add(OVERHEAD);
    let uploads = Router::new()
        .route("/v3/files/upload", post(upload))
        .route("/v3/files/multipart-upload", post(upload_part));
    bounded(uploads, limit)
        .route("/v3/files/multipart-init", post(init))
        .route("/v3/files/multipart-complete", post(complete))
}

async fn upload(State(app): State<Arc<App>>, body: Upload) -> Answer {
    let file = body
        .file(async |_, name, content| {
            let name = name.ok_or_else(|| missing("the file's name"))?;
            app.upload_file(name, content).await
        })
        .await?
        .ok_or_else(|| missing("the field `file`"))?;
    Ok(data(views::file(&file)))
}

async fn upload_part(State(app): State<Arc<App>>, body: Upload) -> Answer {
    let part = body
        .file(async |fields, _, content| {
            let file: FileId = field(&fields, "file_id")?;
            let number = field(&fields, "part_number")?;
            app.upload_part(file, number, content).await
        })
        .await?
        .ok_or_else(|| missing("the field `file`"))?;
    Ok(data(json!({ "part_id": part })))
}

async fn init(State(app): State<Arc<App>>, Json(request): Json<InitUpload>) -> Answer {
    Ok(data(views::file(&app.init_upload(request).await?)))
}

async fn complete(State(app): State<Arc<App>>, Json(request): Json<CompleteUpload>) -> Answer {
    Ok(data(views::file(&app.complete_upload(request).await?)))
}

fn field<T: FromStr>(fields: &Fields, name: &str) -> Result<T> {
    let text = fields
        .get(name)
        .ok_or_else(|| missing(&format!("the field `{name}`")))?;
    text.trim().parse().map_err(|_| {
        Error::new(Code::BadRequest, format!("`{text}` is no {name}"))
            .hint("Send the fields file_id and part_number before the file.")
    })
}

fn missing(what: &str) -> Error {
    Error::new(Code::BadRequest, format!("the upload lacks {what}"))
        .hint("Send multipart/form-data with the file as the last field, `file`.")
}
