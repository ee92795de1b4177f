//! Opening the database.

use std::{path::Path, time::Duration};

use luthier_types::{Code, Error, Lack, Result};
use sqlx::{
    Connection as _, Sqlite, SqlitePool, Transaction,
    migrate::MigrateError,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// Result codes of SQLite, <https://sqlite.org/rescode.html>.
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_IOERR: i32 = 10;
const SQLITE_FULL: i32 = 13;

/// How long to wait for another writer, and how long for a connection. Writers take milliseconds, so
/// what takes longer is another process that holds the lock.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections of each pool.
const CONNECTIONS: u32 = 8;

/// Connections to a migrated database: some for reading and some for writing, so that who only
/// reads is never kept waiting by those who wait for the lock.
#[derive(Clone, Debug)]
pub struct Store {
    readers: SqlitePool,
    writers: SqlitePool,
}

impl Store {
    /// Opens the database file, making and migrating it as needed.
    ///
    /// # Errors
    /// `Internal` when it cannot be opened or migrated.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // Full: what was acknowledged survives a power cut as well as a crash.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            // A transaction whose end failed, as on a full disk, may leave its connection unable to
            // begin another for ever after.
            .before_acquire(|connection, _| {
                let is_free = !connection.is_in_transaction();
                Box::pin(async move { Ok(is_free) })
            });
        let writers = pool
            .clone()
            .connect_with(options.clone())
            .await
            .map_err(failed("opening the database"))?;
        sqlx::migrate!().run(&writers).await.map_err(|e| match e {
            MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => {
                failed("migrating the database")(e)
            }
            e => Error::internal("migrating the database", e),
        })?;
        let readers = pool
            .connect_with(options)
            .await
            .map_err(failed("opening the database"))?;
        Ok(Self { readers, writers })
    }

    /// A connection for reading or a single statement.
    ///
    /// # Errors
    /// `Internal` when none can be had.
    pub async fn read(&self) -> Result<PoolConnection<Sqlite>> {
        self.readers
            .acquire()
            .await
            .map_err(failed("taking a database connection"))
    }

    /// Begins a transaction that takes the write lock at once, so that it never fails half-way
    /// because another writer came first. Dropped without `commit`, it changes nothing.
    ///
    /// # Errors
    /// `Internal` when it cannot begin.
    pub async fn write(&self) -> Result<Transaction<'static, Sqlite>> {
        self.writers
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed("beginning a transaction"))
    }

    /// The pool of writers, for the job queue, which keeps its own tables in the same database.
    pub fn pool(&self) -> &SqlitePool {
        &self.writers
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// Maps a database error: a broken unique constraint to `Conflict`, a full disk to
/// `CapacityExceeded`, a database that cannot be written to `StorageUnavailable`, anything else to
/// `Internal`; naming what was being done.
pub fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| match &error {
        sqlx::Error::Database(db) if db.is_unique_violation() => {
            Error::new(Code::Conflict, "it exists already").source(error)
        }
        _ => match lack(&error) {
            Some(lack) => Error::storage(lack, operation, error),
            None => Error::internal(operation, error),
        },
    }
}

/// What of the disk or of the database's lock is missing, as SQLite tells it.
fn lack(error: &sqlx::Error) -> Option<Lack> {
    match error {
        sqlx::Error::Database(db) => {
            let code: i32 = db.code()?.parse().ok()?;
            // The low byte is the kind, the rest its finer points.
            match code & 0xff {
                SQLITE_BUSY | SQLITE_LOCKED => Some(Lack::Turn),
                // What the kernel refuses to write comes as an error of the disk.
                SQLITE_READONLY | SQLITE_IOERR => Some(Lack::Writing),
                SQLITE_FULL => Some(Lack::Space),
                _ => None,
            }
        }
        // Every connection waits for the lock.
        sqlx::Error::PoolTimedOut => Some(Lack::Turn),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What writing gives after `pragma` on the one connection.
    async fn writing_after(pragma: &'static str, insert: &'static str) -> Code {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let mut db = store.read().await.unwrap();
        sqlx::query("CREATE TABLE things (text TEXT)")
            .execute(&mut *db)
            .await
            .unwrap();
        sqlx::query(pragma).execute(&mut *db).await.unwrap();
        let written = sqlx::query(insert).execute(&mut *db).await;
        written.map_err(failed("writing")).unwrap_err().code()
    }

    #[tokio::test]
    async fn what_keeps_the_database_from_writing_is_told_apart() {
        let large = "INSERT INTO things VALUES (hex(zeroblob(1000000)))";
        let full = writing_after("PRAGMA max_page_count = 1", large).await;
        assert_eq!(full, Code::CapacityExceeded);
        let read_only = writing_after("PRAGMA query_only = 1", large).await;
        assert_eq!(read_only, Code::StorageUnavailable);

        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let _held = store.write().await.unwrap();
        let mut db = store.read().await.unwrap();
        sqlx::query("PRAGMA busy_timeout = 0")
            .execute(&mut *db)
            .await
            .unwrap();
        let second = sqlx::query("BEGIN IMMEDIATE").execute(&mut *db).await;
        let error = second.map_err(failed("beginning")).unwrap_err();
        assert_eq!(error.code(), Code::StorageUnavailable);
        assert!(error.message().contains("locked"), "{error}");
    }
}
