//! Uploads: in one request, or in parts that are put together.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll},
};

use jiff::Timestamp;
use luthier_ports::BlobReader;
use luthier_store::files::{self, File, FileStatus, FileType, Part};
use luthier_types::{Code, Digest, Error, FileId, Result};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use crate::{App, lookup::not_found};

/// Most parts of a file.
const MAX_PARTS: u32 = 10_000;
/// Longest file name.
const MAX_NAME: usize = 1024;

/// The body of a request to begin an upload in parts.
#[derive(Clone, Debug, Deserialize)]
pub struct InitUpload {
    /// The file's name.
    pub filename: String,
}

/// The body of a request to put the parts together.
#[derive(Clone, Debug, Deserialize)]
pub struct CompleteUpload {
    /// The file.
    pub file_id: FileId,
    /// Its parts, in any order.
    pub parts: Vec<PartRef>,
}

/// A part as the client names it.
#[derive(Clone, Debug, Deserialize)]
pub struct PartRef {
    /// Its place, from 1.
    pub number: u32,
    /// What the upload of the part answered.
    #[serde(default)]
    pub id: Value,
}

impl App {
    /// Stores a file that comes in one request.
    ///
    /// # Errors
    /// `TooLarge`; `BadRequest` for the name or when the upload breaks off.
    pub async fn upload_file(&self, filename: String, content: BlobReader) -> Result<File> {
        check_filename(&filename)?;
        let _keep = self.blobs_in_use.read().await;
        let limit = self.deps.settings.max_upload_bytes;
        let blob = self.deps.blobs.put(content, limit).await?;
        let now = Timestamp::now();
        let file = File {
            id: FileId::new(),
            kind: self.kind_of(&blob.digest, &filename).await?,
            filename,
            status: FileStatus::Successful,
            digest: Some(blob.digest),
            size: blob.size,
            created_at: now,
            updated_at: now,
        };
        files::insert(&mut *self.deps.store.read().await?, &file).await?;
        Ok(file)
    }

    /// Begins an upload in parts.
    ///
    /// # Errors
    /// `BadRequest` for the name.
    pub async fn init_upload(&self, request: InitUpload) -> Result<File> {
        check_filename(&request.filename)?;
        let now = Timestamp::now();
        let file = File {
            id: FileId::new(),
            kind: kind_by_name(&request.filename),
            filename: request.filename,
            status: FileStatus::Initiated,
            digest: None,
            size: 0,
            created_at: now,
            updated_at: now,
        };
        files::insert(&mut *self.deps.store.read().await?, &file).await?;
        Ok(file)
    }

    /// Stores a part of a file; one with the same number is replaced. Gives the part's id.
    ///
    /// # Errors
    /// `NotFound` for the file; `BadRequest` for the number or when the upload breaks off;
    /// `TooLarge`; `Conflict` when the file is whole already.
    pub async fn upload_part(
        &self,
        id: FileId,
        number: u32,
        content: BlobReader,
    ) -> Result<String> {
        if !(1..=MAX_PARTS).contains(&number) {
            return Err(
                Error::new(Code::BadRequest, format!("part_number is {number}"))
                    .hint(format!("Number the parts from 1 to {MAX_PARTS}.")),
            );
        }
        let _keep = self.blobs_in_use.read().await;
        self.unfinished(id).await?;
        let limit = self.deps.settings.max_upload_bytes;
        let blob = self.deps.blobs.put(content, limit).await?;
        let part = Part {
            number,
            digest: blob.digest,
            size: blob.size,
        };
        let mut db = self.deps.store.write().await?;
        files::put_part(&mut db, id, &part, Timestamp::now()).await?;
        self.commit(db).await?;
        Ok(part.digest.to_string())
    }

    /// Puts the parts of a file together. Done already, it gives the file.
    ///
    /// # Errors
    /// `NotFound` for the file; `BadRequest` for a part that is missing, unknown or named twice;
    /// `TooLarge`.
    pub async fn complete_upload(&self, request: CompleteUpload) -> Result<File> {
        let keep = self.blobs_in_use.read().await;
        let mut db = self.deps.store.read().await?;
        let mut file = files::get(&mut db, request.file_id)
            .await?
            .ok_or_else(|| not_found("File"))?;
        if file.status == FileStatus::Successful {
            return Ok(file);
        }
        let parts = files::parts(&mut db, file.id).await?;
        drop(db);
        let chosen = choose(&parts, &request.parts)?;
        let total: u64 = chosen.iter().map(|part| part.size).sum();
        let limit = self.deps.settings.max_file_bytes;
        if total > limit {
            return Err(Error::new(
                Code::TooLarge,
                format!("the file has {total} bytes, more than the {limit} the server takes"),
            )
            .hint("Send a smaller file, or have the operator raise the limit."));
        }
        let mut readers = vec![];
        for part in &chosen {
            readers.push(self.deps.blobs.get(&part.digest).await?);
        }
        let whole = Chain(readers.into_iter().rev().collect());
        let blob = self.deps.blobs.put(Box::new(whole), limit).await?;
        file.kind = self.kind_of(&blob.digest, &file.filename).await?;
        file.status = FileStatus::Successful;
        file.digest = Some(blob.digest);
        file.size = blob.size;
        file.updated_at = Timestamp::now();
        let mut db = self.deps.store.write().await?;
        files::update(&mut db, &file).await?;
        files::delete_parts(&mut db, file.id).await?;
        self.commit(db).await?;
        drop(keep);
        let digests = parts.into_iter().map(|part| part.digest).collect();
        self.release_blobs(digests).await?;
        Ok(file)
    }

    /// The blob of a file that is whole.
    pub(crate) async fn whole_file(&self, id: FileId) -> Result<Digest> {
        let mut db = self.deps.store.read().await?;
        let file = files::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("File"))?;
        file.digest
            .filter(|_| file.status == FileStatus::Successful)
            .ok_or_else(|| {
                Error::new(
                    Code::BadRequest,
                    format!("the upload of `{}` is not complete", file.filename),
                )
                .hint("Upload every part, then complete the upload.")
            })
    }

    async fn unfinished(&self, id: FileId) -> Result<()> {
        let mut db = self.deps.store.read().await?;
        let file = files::get(&mut db, id)
            .await?
            .ok_or_else(|| not_found("File"))?;
        if file.status == FileStatus::Initiated {
            return Ok(());
        }
        Err(Error::new(
            Code::Conflict,
            format!("the upload of `{}` is complete", file.filename),
        )
        .hint("Begin a new upload."))
    }

    async fn kind_of(&self, digest: &Digest, filename: &str) -> Result<FileType> {
        let mut head = [0; 4];
        let mut blob = self.deps.blobs.get(digest).await?;
        let mut length = 0;
        while length < head.len() {
            match blob.read(&mut head[length..]).await {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(e) => return Err(Error::internal("reading a blob", e)),
            }
        }
        Ok(match &head[..length] {
            b"PAR1" => FileType::Parquet,
            [0x1f, 0x8b, ..] => FileType::TarGz,
            _ => match kind_by_name(filename) {
                // Neither is what its name says without the bytes above.
                FileType::Parquet | FileType::Csv => FileType::Csv,
                FileType::TarGz => FileType::TarGz,
            },
        })
    }
}

/// The parts the client names, in order.
fn choose(parts: &[Part], named: &[PartRef]) -> Result<Vec<Part>> {
    let refuse = |cause: String| {
        Err(Error::new(Code::BadRequest, cause)
            .hint("Upload every part and name each once, with the id its upload answered."))
    };
    let stored: BTreeMap<u32, &Part> = parts.iter().map(|part| (part.number, part)).collect();
    let mut chosen = BTreeMap::new();
    for PartRef { number, id } in named {
        let Some(part) = stored.get(number) else {
            return refuse(format!("part {number} was not uploaded"));
        };
        if id.as_str().is_some_and(|id| id != part.digest.as_str()) {
            return refuse(format!("part {number} was uploaded again since"));
        }
        if chosen.insert(*number, (*part).clone()).is_some() {
            return refuse(format!("part {number} is named twice"));
        }
    }
    if chosen.is_empty() {
        return refuse("no part is named".to_owned());
    }
    for (place, number) in (1..).zip(chosen.keys()) {
        if place != *number {
            return refuse(format!("part {place} is missing"));
        }
    }
    if let Some(left) = stored.keys().find(|number| !chosen.contains_key(number)) {
        return refuse(format!("part {left} was uploaded but is not named"));
    }
    Ok(chosen.into_values().collect())
}

fn kind_by_name(filename: &str) -> FileType {
    let name = filename.to_ascii_lowercase();
    if name.ends_with(".parquet") || name.ends_with(".pq") {
        FileType::Parquet
    } else if name.ends_with(".gz") || name.ends_with(".tgz") || name.ends_with(".tar") {
        FileType::TarGz
    } else {
        FileType::Csv
    }
}

fn check_filename(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::new(
            Code::BadRequest,
            format!("the file name has {} bytes", name.len()),
        )
        .hint(format!("Use 1 to {MAX_NAME} bytes.")));
    }
    Ok(())
}

/// Readers one after the other; the first is last.
struct Chain(Vec<BlobReader>);

impl AsyncRead for Chain {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        while let Some(reader) = self.0.last_mut() {
            match Pin::new(reader).poll_read(context, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() == before => {
                    self.0.pop();
                }
                other => return other,
            }
        }
        Poll::Ready(Ok(()))
    }
}
