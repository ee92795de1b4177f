//! Uploaded files and the parts they are put together from.

use jiff::Timestamp;
use luthier_types::{Digest, FileId, ModelId, Result};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    failed,
    values::{from_micros, from_word, to_micros, to_word},
};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FileType {
    /// Comma-separated text.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// A gzipped tar archive.
    TarGz,
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FileStatus {
    /// Parts are being uploaded.
    Initiated,
    /// It is whole.
    Successful,
    /// It will never be whole.
    Failed,
}

/// An uploaded file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Its id.
    pub id: FileId,
    /// Its name, as the user gave it.
    pub filename: String,
    /// What it is.
    pub kind: FileType,
    /// How far its upload is.
    pub status: FileStatus,
    /// The blob with its bytes, once whole.
    pub digest: Option<Digest>,
    /// Number of bytes, once whole.
    pub size: u64,
    /// When its upload began.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its place, from 1.
    pub number: u32,
    /// The blob with its bytes.
    pub digest: Digest,
    /// Number of bytes.
    pub size: u64,
}

/// Inserts a file.
///
/// # Errors
/// `Internal`.
pub async fn insert(db: &mut SqliteConnection, f: &File) -> Result<()> {
    sqlx::query(
        "INSERT INTO files (id, filename, kind, status, digest, size, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(f.id.to_string())
    .bind(&f.filename)
    .bind(to_word(&f.kind)?)
    .bind(to_word(&f.status)?)
    .bind(f.digest.as_ref().map(Digest::as_str))
    .bind(signed(f.size))
    .bind(to_micros(f.created_at))
    .bind(to_micros(f.updated_at))
    .execute(db)
    .await
    .map_err(failed("storing a file"))?;
    Ok(())
}

/// Writes what changes when a file becomes whole.
///
/// # Errors
/// `Internal`.
pub async fn update(db: &mut SqliteConnection, f: &File) -> Result<()> {
    sqlx::query(
        "UPDATE files SET kind = ?, status = ?, digest = ?, size = ?, updated_at = ? WHERE id = ?",
    )
    .bind(to_word(&f.kind)?)
    .bind(to_word(&f.status)?)
    .bind(f.digest.as_ref().map(Digest::as_str))
    .bind(signed(f.size))
    .bind(to_micros(f.updated_at))
    .bind(f.id.to_string())
    .execute(db)
    .await
    .map_err(failed("changing a file"))?;
    Ok(())
}

/// A file by id.
///
/// # Errors
/// `Internal`.
pub async fn get(db: &mut SqliteConnection, id: FileId) -> Result<Option<File>> {
    let row = sqlx::query("SELECT * FROM files WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .map_err(failed("reading a file"))?;
    row.as_ref().map(read).transpose()
}

/// Records a part, which comes at `at`; one with the same number is replaced.
///
/// # Errors
/// `Internal`.
pub async fn put_part(
    db: &mut SqliteConnection,
    file: FileId,
    part: &Part,
    at: Timestamp,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO file_parts (file_id, number, digest, size) VALUES (?, ?, ?, ?)
         ON CONFLICT (file_id, number) DO UPDATE SET digest = excluded.digest, size = excluded.size",
    )
    .bind(file.to_string())
    .bind(part.number)
    .bind(part.digest.as_str())
    .bind(signed(part.size))
    .execute(&mut *db)
    .await
    .map_err(failed("storing a part"))?;
    sqlx::query("UPDATE files SET updated_at = ? WHERE id = ?")
        .bind(to_micros(at))
        .bind(file.to_string())
        .execute(db)
        .await
        .map_err(failed("storing a part"))?;
    Ok(())
}

/// Forgets the files that have not changed since `before`, and gives how many.
///
/// # Errors
/// `Internal`.
pub async fn expire(db: &mut SqliteConnection, before: Timestamp) -> Result<u64> {
    let done = sqlx::query("DELETE FROM files WHERE updated_at < ?")
        .bind(to_micros(before))
        .execute(db)
        .await
        .map_err(failed("forgetting old files"))?;
    Ok(done.rows_affected())
}

/// Forgets the files that the artifacts of a model were deployed from, and gives their blobs.
///
/// # Errors
/// `Internal`.
pub async fn delete_deployed(db: &mut SqliteConnection, model: ModelId) -> Result<Vec<Digest>> {
    let digests: Vec<Option<String>> = sqlx::query_scalar(
        "DELETE FROM files WHERE id IN (
             SELECT json_extract(payload, '$.file_id') FROM jobs WHERE exclusive_key = ?)
         RETURNING digest",
    )
    .bind(model.to_string())
    .fetch_all(db)
    .await
    .map_err(failed("forgetting the files of a model"))?;
    let digests = digests.iter().flatten();
    digests.map(|digest| from_word(digest)).collect()
}

/// The parts of a file, in order.
///
/// # Errors
/// `Internal`.
pub async fn parts(db: &mut SqliteConnection, file: FileId) -> Result<Vec<Part>> {
    let rows = sqlx::query("SELECT * FROM file_parts WHERE file_id = ? ORDER BY number")
        .bind(file.to_string())
        .fetch_all(db)
        .await
        .map_err(failed("reading a file's parts"))?;
    rows.iter()
        .map(|row| {
            Ok(Part {
                number: row.get("number"),
                digest: from_word(row.get("digest"))?,
                size: unsigned(row.get("size")),
            })
        })
        .collect()
}

/// Forgets the parts of a file.
///
/// # Errors
/// `Internal`.
pub async fn delete_parts(db: &mut SqliteConnection, file: FileId) -> Result<()> {
    sqlx::query("DELETE FROM file_parts WHERE file_id = ?")
        .bind(file.to_string())
        .execute(db)
        .await
        .map_err(failed("deleting a file's parts"))?;
    Ok(())
}

/// The blobs that a model's datasets, archive and revisions refer to.
///
/// # Errors
/// `Internal`.
pub async fn blobs_of_model(db: &mut SqliteConnection, model: ModelId) -> Result<Vec<Digest>> {
    let digests: Vec<String> = sqlx::query_scalar(
        "SELECT digest FROM datasets WHERE model_id = ?1
         UNION SELECT digest FROM artifacts WHERE model_id = ?1
         UNION SELECT validation FROM revisions WHERE model_id = ?1
         UNION SELECT archive FROM rollouts WHERE model_id = ?1 AND archive IS NOT NULL
         UNION SELECT sample FROM rollouts WHERE model_id = ?1 AND sample IS NOT NULL",
    )
    .bind(model.to_string())
    .fetch_all(db)
    .await
    .map_err(failed("listing the blobs of a model"))?;
    digests.iter().map(|digest| from_word(digest)).collect()
}

/// Whether anything refers to the blob, an unfinished job included.
///
/// # Errors
/// `Internal`.
pub async fn blob_in_use(db: &mut SqliteConnection, digest: &Digest) -> Result<bool> {
    let uses: i64 = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM files WHERE digest = ?1)
             OR EXISTS (SELECT 1 FROM file_parts WHERE digest = ?1)
             OR EXISTS (SELECT 1 FROM datasets WHERE digest = ?1)
             OR EXISTS (SELECT 1 FROM artifacts WHERE digest = ?1)
             OR EXISTS (SELECT 1 FROM revisions WHERE validation = ?1)
             OR EXISTS (SELECT 1 FROM rollouts WHERE archive = ?1 OR sample = ?1)
             OR EXISTS (SELECT 1 FROM jobs WHERE status IN ('PENDING', 'STARTED', 'RETRY')
                 AND instr(payload, ?1) > 0)",
    )
    .bind(digest.as_str())
    .fetch_one(db)
    .await
    .map_err(failed("looking for uses of a blob"))?;
    Ok(uses != 0)
}

fn read(row: &SqliteRow) -> Result<File> {
    Ok(File {
        id: from_word(row.get("id"))?,
        filename: row.get("filename"),
        kind: from_word(row.get("kind"))?,
        status: from_word(row.get("status"))?,
        digest: row
            .get::<Option<&str>, _>("digest")
            .map(from_word)
            .transpose()?,
        size: unsigned(row.get("size")),
        created_at: from_micros(row.get("created_at"))?,
        updated_at: from_micros(row.get("updated_at"))?,
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
