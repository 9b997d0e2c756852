//! Rows of an outbox table in PostgreSQL.
//!
//! Rows are locked (`FOR UPDATE SKIP LOCKED`), recorded as events, and deleted, in one PostgreSQL
//! transaction. The batch of the events also stores the keys of the rows, in the journal
//! `trigger_postgres_positions`. If the transaction does not commit, the rows with these keys are
//! deleted before other rows are read. So each row is recorded exactly once.

use std::time::Duration;

use headwater_model::{ErrorCode, EventData, Problem, Timestamp};
use headwater_store::{JournalAppend, WriteBatch};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::{PgPool, PgRow};
use sqlx::{AssertSqlSafe, Postgres, Row, Transaction};

use crate::back_off::BackOff;
use crate::event_source::{NewEvent, SourceContext};
use crate::journal_codec::{encode, read};
use crate::message_inbox::IdempotentBatchRecorder;
use crate::postgres_server::PostgresServer;
use crate::{Error, Result};

pub(crate) const POSITIONS: &str = "trigger_postgres_positions";

/// Maximum number of rows that are read in one transaction.
const ROWS_MAX: usize = 100;
/// Maximum time for a statement.
const STATEMENT_MAX: Duration = Duration::from_secs(30);

/// Keys of recorded rows that may still be in the table, if their deletion did not commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct UndeletedRows {
    /// URI and name of the table. If the trigger now reads another table, the keys are ignored.
    table: String,
    keys: Vec<String>,
}

/// The outbox table, with its quoted names for statements.
#[derive(Debug, Clone)]
pub(crate) struct OutboxTable {
    pub server: PostgresServer,
    pub name: String,
    pub key: String,
    /// Maximum number of rows in one event.
    pub batch: usize,
}

/// Reader of an outbox table, which also deletes recorded rows.
pub(crate) struct OutboxReader {
    table: OutboxTable,
    pool: Option<PgPool>,
    /// The type of the key column; known while connected.
    key_type: String,
    /// The stored position; `None` until it has been read.
    position: Option<UndeletedRows>,
    recorder: Option<IdempotentBatchRecorder>,
    back_off: BackOff,
}

/// The outcome of a read.
pub(crate) enum ReadOutcome {
    /// The number of rows that became events.
    Rows(usize),
    /// The server failed: the problem, and the pause before the next attempt.
    Failed(Problem, Duration),
}

/// An error of the PostgreSQL server, or of Headwater's store.
enum ReadError {
    Server(Problem),
    Store(Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        ReadError::Store(error)
    }
}

impl From<Problem> for ReadError {
    fn from(problem: Problem) -> Self {
        ReadError::Server(problem)
    }
}

impl OutboxTable {
    fn quoted_name(&self) -> String {
        let parts: Vec<String> = self.name.split('.').map(quoted).collect();
        parts.join(".")
    }

    fn uri(&self) -> String {
        format!("{}/{}", self.server.uri(), self.name)
    }
}

impl OutboxReader {
    pub(crate) fn new(table: OutboxTable) -> Self {
        OutboxReader {
            table,
            pool: None,
            key_type: String::new(),
            position: None,
            recorder: None,
            back_off: BackOff::default(),
        }
    }

    /// Reads the stored keys.
    pub(crate) async fn open(&mut self, context: &SourceContext) -> Result<()> {
        if self.position.is_some() {
            return Ok(());
        }
        context.catch_up().await?;
        let stored = read::<UndeletedRows>(context.store(), POSITIONS, &context.trigger).await?;
        let table = self.table.uri();
        let stored = stored.filter(|stored| stored.table == table);
        self.position = Some(stored.unwrap_or(UndeletedRows { table, keys: Vec::new() }));
        Ok(())
    }

    /// Reads, records and deletes the rows of up to `events` events. Errors: only of the store.
    pub(crate) async fn read(
        &mut self,
        context: &SourceContext,
        events: usize,
    ) -> Result<ReadOutcome> {
        let rows = events.saturating_mul(self.table.batch).min(ROWS_MAX);
        match self.try_read(context, rows).await {
            Ok(count) => {
                self.back_off.reset();
                Ok(ReadOutcome::Rows(count))
            }
            Err(ReadError::Server(problem)) => {
                self.pool = None;
                Ok(ReadOutcome::Failed(problem, self.back_off.next()))
            }
            Err(ReadError::Store(error)) => Err(error),
        }
    }

    async fn try_read(
        &mut self,
        context: &SourceContext,
        limit: usize,
    ) -> Result<usize, ReadError> {
        let pool = self.connected(context).await?;
        self.delete_recorded(&pool, context).await?;
        let mut transaction = self.run(pool.begin()).await?;
        let rows = self.select(&mut transaction, limit).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let keys: Vec<String> = rows.iter().map(|(key, _)| key.clone()).collect();
        let count = keys.len();
        let values: Vec<Value> = rows.into_iter().map(|(_, value)| value).collect();
        let batches = values.chunks(self.table.batch.max(1));
        let now = context.now();
        let new = batches.map(|rows| self.event(rows.to_vec(), now)).collect();
        let position = UndeletedRows { table: self.table.uri(), keys };
        let entry = JournalAppend::put(POSITIONS, &context.trigger, encode(&position)?);
        // The store may have stored the batch despite an error, so read the keys again.
        self.position = None;
        let recorder = self.recorder.get_or_insert_with(|| IdempotentBatchRecorder::new(context));
        recorder.record(context, new, vec![entry]).await?;
        let position = self.position.insert(position).clone();
        self.delete(&mut transaction, &position.keys).await?;
        self.run(transaction.commit()).await?;
        self.forget(context).await?;
        Ok(count)
    }

    /// Returns the connection. Without a connection, connects and reads the type of the key column.
    async fn connected(&mut self, context: &SourceContext) -> Result<PgPool, ReadError> {
        if let Some(pool) = &self.pool {
            return Ok(pool.clone());
        }
        let OutboxTable { server, name, key, .. } = &self.table;
        let pool = server.connect(context.options.secrets.as_ref(), &context.policy).await?;
        let sql = "SELECT format_type(atttypid, NULL) FROM pg_attribute \
                   WHERE attrelid = $1::text::regclass AND attname = $2 AND NOT attisdropped";
        let query = sqlx::query_scalar::<_, String>(sql).bind(self.table.quoted_name()).bind(key);
        let Some(key_type) = self.run(query.fetch_optional(&pool)).await? else {
            let message = format!("table `{name}` in {} has no column `{key}`", server.uri());
            let hint = "Name the primary key column of the table with `key = \"…\"`.";
            return Err(Problem::new(ErrorCode::ColumnNotFound, message).with_hint(hint).into());
        };
        self.key_type = key_type;
        self.pool = Some(pool.clone());
        Ok(pool)
    }

    /// Deletes rows that were recorded as events, but whose deletion may not have committed.
    async fn delete_recorded(
        &mut self,
        pool: &PgPool,
        context: &SourceContext,
    ) -> Result<(), ReadError> {
        self.open(context).await?;
        let keys = self.position.as_ref().map(|one| one.keys.clone()).unwrap_or_default();
        if keys.is_empty() {
            return Ok(());
        }
        let mut transaction = self.run(pool.begin()).await?;
        self.delete(&mut transaction, &keys).await?;
        self.run(transaction.commit()).await?;
        self.forget(context).await
    }

    /// Removes the stored keys. If a power failure undoes the removal, the outbox deletes these
    /// rows again, which has no effect.
    async fn forget(&mut self, context: &SourceContext) -> Result<(), ReadError> {
        let position = UndeletedRows { table: self.table.uri(), keys: Vec::new() };
        let encoded = encode(&position)?;
        let entries = vec![JournalAppend::put(POSITIONS, &context.trigger, encoded)];
        let batch = WriteBatch { entries, relaxed: true, ..WriteBatch::default() };
        context.store().apply(batch).await.map_err(Error::from)?;
        self.position = Some(position);
        Ok(())
    }

    async fn select(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        limit: usize,
    ) -> Result<Vec<(String, Value)>, ReadError> {
        let (name, key) = (self.table.quoted_name(), quoted(&self.table.key));
        let sql = format!(
            "SELECT o.{key}::text, to_jsonb(o)::text FROM {name} AS o ORDER BY o.{key} \
             LIMIT {limit} FOR UPDATE SKIP LOCKED"
        );
        let query = sqlx::query(AssertSqlSafe(sql));
        let rows: Vec<PgRow> = self.run(query.fetch_all(&mut **transaction)).await?;
        let row = |row: &PgRow| -> Result<(String, Value), sqlx::Error> {
            let text: String = row.try_get(1)?;
            // A number that cannot be parsed, such as 1e400, must not block the following rows, so
            // the row becomes a string.
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            Ok((row.try_get(0)?, value))
        };
        let rows: Result<_, sqlx::Error> = rows.iter().map(row).collect();
        Ok(rows.map_err(|error| self.table.server.problem(&error))?)
    }

    async fn delete(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        keys: &[String],
    ) -> Result<(), ReadError> {
        let (name, key) = (self.table.quoted_name(), quoted(&self.table.key));
        let sql = format!("DELETE FROM {name} WHERE {key} = ANY($1::text[]::{}[])", self.key_type);
        let query = sqlx::query(AssertSqlSafe(sql)).bind(keys.to_vec());
        self.run(query.execute(&mut **transaction)).await?;
        Ok(())
    }

    /// Awaits a request to the server, for at most `STATEMENT_MAX`.
    async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Problem> {
        let server = &self.table.server;
        let outcome = tokio::time::timeout(STATEMENT_MAX, work).await;
        outcome.map_err(|_| server.timed_out())?.map_err(|error| server.problem(&error))
    }

    fn event(&self, rows: Vec<Value>, time: Timestamp) -> NewEvent {
        NewEvent {
            source: self.table.server.uri(),
            subject: Some(self.table.name.clone()),
            time,
            data: EventData::PostgresRowsAdded { table: self.table.name.clone(), rows },
            caused_by: Vec::new(),
            trace: None,
        }
    }
}

/// Returns an identifier in quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
