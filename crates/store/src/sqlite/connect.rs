//! Opens connections to the database file, and creates the tables in a new file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use super::SqliteOptions;
use super::checkpointer::AUTOCHECKPOINT_PAGES;
use super::error_class::{ErrorClass, classify, store_error};
use crate::{Error, Result};

/// The format version of the database file that this version of Headwater writes.
const FORMAT: i64 = 1;

/// The time to wait for the write lock before an operation fails with [`Error::Busy`]. Writers hold
/// the lock for about one fsync, so only a blocked process holds it for that long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// SQLite's own busy timeout for writers. This timeout is short, because SQLite's back-off starves
/// the connection that has waited longest. After the timeout, [`BusyRetry`] retries.
const WAIT_WRITER: Duration = Duration::from_millis(8);

/// SQLite's busy timeout for readers, which wait only during recovery after a crash.
const WAIT_READER: Duration = Duration::from_secs(30);

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionRole {
    /// A read-only connection.
    Reader,
    /// A connection whose commits are durable when they return.
    Writer,
    /// A connection whose commits become durable with the next durable commit, or when the
    /// operating system writes them back.
    RelaxedWriter,
}

/// A factory of connections to one file.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    path: PathBuf,
    options: SqliteOptions,
}

impl Connector {
    pub(super) fn new(path: &Path, options: SqliteOptions) -> Self {
        Connector { path: path.to_owned(), options }
    }

    /// Opens the first connection and creates missing tables. Rejects a file with a later format
    /// version.
    pub(super) async fn create(&self) -> Result<SqliteConnection> {
        let mut retry = BusyRetry::new();
        loop {
            match self.try_create().await {
                Err(Error::Busy) if retry.wait().await => {}
                result => return result,
            }
        }
    }

    async fn try_create(&self) -> Result<SqliteConnection> {
        let mut connection = self.connect(ConnectionRole::Writer).await?;
        let found = format(&mut connection).await.map_err(|error| self.failed(error))?;
        if found > FORMAT {
            let path = self.path.display().to_string();
            return Err(Error::TooNew { path, found, known: FORMAT });
        }
        if found < FORMAT {
            sqlx::raw_sql(concat!(
                "BEGIN IMMEDIATE;",
                include_str!("schema.sql"),
                "PRAGMA user_version = 1; COMMIT"
            ))
            .execute(&mut connection)
            .await
            .map_err(|error| self.failed(error))?;
        }
        Ok(connection)
    }

    pub(super) async fn connect(&self, role: ConnectionRole) -> Result<SqliteConnection> {
        let (wait, synchronous) = match role {
            ConnectionRole::Reader => (WAIT_READER, SqliteSynchronous::Normal),
            ConnectionRole::Writer => (WAIT_WRITER, SqliteSynchronous::Full),
            ConnectionRole::RelaxedWriter => (WAIT_WRITER, SqliteSynchronous::Normal),
        };
        let mut options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(role == ConnectionRole::Writer)
            .busy_timeout(wait)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .statement_cache_capacity(64)
            .thread_name(|id| format!("store-{id}"))
            .pragma("temp_store", "memory")
            .pragma("journal_size_limit", "67108864")
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT_PAGES)
            .disable_statement_logging();
        if role == ConnectionRole::Reader {
            options = options.pragma("query_only", "on");
        }
        let mut connection =
            SqliteConnection::connect_with(&options).await.map_err(|error| self.failed(error))?;
        if let Some(bytes) = self.options.bytes_max {
            let limit = format!("PRAGMA max_page_count = {}", bytes.div_ceil(4096));
            sqlx::raw_sql(sqlx::AssertSqlSafe(limit))
                .execute(&mut connection)
                .await
                .map_err(|error| self.failed(error))?;
        }
        Ok(connection)
    }

    fn failed(&self, error: sqlx::Error) -> Error {
        store_error(&format!("open the database `{}`", self.path.display()), error)
    }
}

async fn format(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let row = sqlx::query("PRAGMA user_version").fetch_one(connection).await?;
    row.try_get(0)
}

/// Retries while another process holds the write lock, with short random waits, until
/// [`BUSY_TIMEOUT`].
#[derive(Debug)]
pub(super) struct BusyRetry {
    deadline: Instant,
    random: u32,
}

impl BusyRetry {
    pub(super) fn new() -> Self {
        BusyRetry { deadline: Instant::now() + BUSY_TIMEOUT, random: std::process::id() }
    }

    /// Sleeps for one to eight milliseconds. Returns false if the deadline has passed.
    pub(super) async fn wait(&mut self) -> bool {
        if Instant::now() >= self.deadline {
            return false;
        }
        // With equal waits, several processes would collide again, so the jitter is seeded by the
        // process id.
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        tokio::time::sleep(Duration::from_millis(1 + u64::from(self.random >> 29))).await;
        true
    }

    /// Waits and returns true if the operation should be tried again.
    pub(super) async fn should_retry(&mut self, error: &sqlx::Error) -> bool {
        classify(error) == ErrorClass::Busy && self.wait().await
    }
}
