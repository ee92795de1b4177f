//! Opening the database.

use std::path::Path;

use luthier_types::{Code, Error, Result};
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// A pool of connections to a migrated database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
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
            .busy_timeout(std::time::Duration::from_secs(30));
        let pool = SqlitePoolOptions::new()
            .max_connections(8)
            .connect_with(options)
            .await
            .map_err(failed("opening the database"))?;
        sqlx::migrate!()
            .run(&pool)
            .await
            .map_err(|e| Error::internal("migrating the database", e))?;
        Ok(Self { pool })
    }

    /// A connection for reading or a single statement.
    ///
    /// # Errors
    /// `Internal` when none can be had.
    pub async fn read(&self) -> Result<PoolConnection<Sqlite>> {
        self.pool
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
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed("beginning a transaction"))
    }

    /// The pool, for the job queue, which keeps its own tables in the same database.
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Maps a database error: a broken unique constraint to `Conflict`, anything else to `Internal`
/// naming what was being done.
pub fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |error| match &error {
        sqlx::Error::Database(db) if db.is_unique_violation() => {
            Error::new(Code::Conflict, "it exists already").source(error)
        }
        _ => Error::internal(operation, error),
    }
}
