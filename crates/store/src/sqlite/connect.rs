//! Opening connections to the database file, and laying out its tables when it is new.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use super::SqliteOptions;
use super::checkpoint::PAGES_MAX;
use super::fault::{self, Kind};
use crate::{Error, Result};

/// The format that this version writes.
const FORMAT: i64 = 1;

/// How long another process may hold the write lock before an attempt fails as busy. Writers hold it for
/// as long as one fsync, so only a stuck process comes near.
const BUSY_MAX: Duration = Duration::from_secs(30);

/// How long SQLite itself waits for the lock. It sleeps ever longer, which starves whoever waits longest,
/// so it soon hands over to the loop of [`Patience`].
const WAIT_WRITER: Duration = Duration::from_millis(8);

/// How long a reader waits; it only does while the file is recovered after a crash.
const WAIT_READER: Duration = Duration::from_secs(30);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Reads.
    Reader,
    /// Writes, durable when the commit returns.
    Writer,
    /// Writes that the next durable commit, or the system in its own time, makes durable.
    RelaxedWriter,
}

/// Opens connections to one file.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    path: PathBuf,
    options: SqliteOptions,
}

impl Connector {
    pub(super) fn new(path: &Path, options: SqliteOptions) -> Self {
        Connector { path: path.to_owned(), options }
    }

    /// Opens the first connection, creates the tables where there are none, and refuses a file of a
    /// later format.
    pub(super) async fn create(&self) -> Result<SqliteConnection> {
        let mut patience = Patience::new();
        loop {
            match self.try_create().await {
                Err(Error::Busy) if patience.wait().await => {}
                result => return result,
            }
        }
    }

    async fn try_create(&self) -> Result<SqliteConnection> {
        let mut connection = self.connect(Role::Writer).await?;
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

    pub(super) async fn connect(&self, role: Role) -> Result<SqliteConnection> {
        let (wait, synchronous) = match role {
            Role::Reader => (WAIT_READER, SqliteSynchronous::Normal),
            Role::Writer => (WAIT_WRITER, SqliteSynchronous::Full),
            Role::RelaxedWriter => (WAIT_WRITER, SqliteSynchronous::Normal),
        };
        let mut options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(role == Role::Writer)
            .busy_timeout(wait)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .statement_cache_capacity(64)
            .thread_name(|id| format!("store-{id}"))
            .pragma("temp_store", "memory")
            .pragma("journal_size_limit", "67108864")
            .pragma("wal_autocheckpoint", PAGES_MAX)
            .disable_statement_logging();
        if role == Role::Reader {
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
        fault::error(&format!("open the database `{}`", self.path.display()), error)
    }
}

async fn format(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    let row = sqlx::query("PRAGMA user_version").fetch_one(connection).await?;
    row.try_get(0)
}

/// Waits for a lock that another process holds: often, evenly, and not for ever.
#[derive(Debug)]
pub(super) struct Patience {
    until: Instant,
    turn: u32,
}

impl Patience {
    pub(super) fn new() -> Self {
        Patience { until: Instant::now() + BUSY_MAX, turn: std::process::id() }
    }

    /// Sleeps for one to eight milliseconds; false when it has been long enough.
    pub(super) async fn wait(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        // Processes that wait in step would collide in step; a spread by process and turn is enough.
        self.turn = self.turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        tokio::time::sleep(Duration::from_millis(1 + u64::from(self.turn >> 29))).await;
        true
    }

    /// Whether the answer is worth another try, having waited if so.
    pub(super) async fn allows(&mut self, error: &sqlx::Error) -> bool {
        fault::kind(error) == Kind::Busy && self.wait().await
    }
}
