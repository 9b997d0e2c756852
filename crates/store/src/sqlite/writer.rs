//! Writes with group commit: concurrent batches share one transaction.
//!
//! A caller queues its request, and waits for the lock of the connections. The caller then executes
//! all queued requests, including the requests of other callers. So concurrent writers share one
//! fsync, and a single writer does not wait for another task. Each batch stays atomic: a rejected
//! batch has written nothing, and the other batches continue. If a caller is cancelled while it
//! executes requests, it finishes them in the background.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::TryStreamExt;
use sqlx::{Either, Row, SqliteConnection};
use tokio::sync::oneshot;

use super::batch_sql::{BatchSql, EntrySlots};
use super::checkpointer::Checkpointer;
use super::connect::{BusyRetry, ConnectionRole, Connector};
use super::error_class::{ErrorClass, classify, store_error};
use crate::{BatchResult, Error, KeyRange, Result, WriteBatch};

/// The maximum number of requests executed under one lock.
const GROUP_MAX: usize = 64;

type Reply<T> = oneshot::Sender<Result<T>>;

enum WriteRequest {
    Apply(WriteBatch, Reply<BatchResult>),
    Trim(String, KeyRange, Reply<u64>),
}

/// A handle to the connections that write.
pub(super) struct Writer(Arc<Shared>);

struct Shared {
    /// Requests that are not executed yet, one for each waiting caller.
    queue: parking_lot::Mutex<VecDeque<WriteRequest>>,
    connections: tokio::sync::Mutex<WriteConnections>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.0.queue.lock().len()).finish()
    }
}

impl Writer {
    pub(super) fn new(connector: Connector, first: SqliteConnection) -> Self {
        let checkpoints = Checkpointer::new(connector.clone());
        let connections =
            WriteConnections { connector, strict: Some(first), relaxed: None, checkpoints };
        Writer(Arc::new(Shared {
            queue: parking_lot::Mutex::default(),
            connections: connections.into(),
        }))
    }

    pub(super) async fn apply(&self, batch: WriteBatch) -> Result<BatchResult> {
        batch.check()?;
        self.submit(|reply| WriteRequest::Apply(batch, reply)).await
    }

    pub(super) async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        let (journal, range) = (journal.to_owned(), range.clone());
        self.submit(|reply| WriteRequest::Trim(journal, range, reply)).await
    }

    async fn submit<T>(&self, request: impl FnOnce(Reply<T>) -> WriteRequest) -> Result<T> {
        let (reply, response) = oneshot::channel();
        self.0.queue.lock().push_back(request(reply));
        // Each caller first adds its own request and then executes queued requests once, so no
        // request stays in the queue.
        let shared = Arc::clone(&self.0);
        DetachedFuture(Some(Box::pin(async move { shared.execute_queued().await }))).await;
        response.await.map_err(|_| Error::Closed)?
    }
}

impl Shared {
    async fn execute_queued(&self) {
        let mut connections = self.connections.lock().await;
        let requests: Vec<WriteRequest> = {
            let mut queue = self.queue.lock();
            let count = queue.len().min(GROUP_MAX);
            queue.drain(..count).collect()
        };
        connections.execute(requests).await;
    }
}

/// A future that runs to completion in the background if it is dropped. It must complete, because
/// it also executes the requests of other callers, and must not leave its transaction open.
struct DetachedFuture(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for DetachedFuture {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(work) = &mut self.0 else { return Poll::Ready(()) };
        let done = work.as_mut().poll(context);
        if done.is_ready() {
            self.0 = None;
        }
        done
    }
}

impl Drop for DetachedFuture {
    fn drop(&mut self) {
        let Some(work) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

/// The connections that write, one for durable and one for relaxed commits.
struct WriteConnections {
    connector: Connector,
    strict: Option<SqliteConnection>,
    relaxed: Option<SqliteConnection>,
    checkpoints: Checkpointer,
}

impl WriteConnections {
    async fn execute(&mut self, requests: Vec<WriteRequest>) {
        let mut group = Vec::new();
        for request in requests {
            match request {
                WriteRequest::Apply(batch, reply) => group.push((batch, reply)),
                WriteRequest::Trim(journal, range, reply) => {
                    self.write(std::mem::take(&mut group)).await;
                    let _ = reply.send(self.trim(&journal, &range).await);
                }
            }
        }
        self.write(group).await;
    }

    /// Writes the batches in one transaction and replies to each caller.
    async fn write(&mut self, group: Vec<(WriteBatch, Reply<BatchResult>)>) {
        if group.is_empty() {
            return;
        }
        let (batches, replies): (Vec<WriteBatch>, Vec<Reply<BatchResult>>) =
            group.into_iter().unzip();
        let results = self.apply(&batches).await;
        for (reply, result) in replies.into_iter().zip(results) {
            let _ = reply.send(result);
        }
    }

    async fn apply(&mut self, batches: &[WriteBatch]) -> Vec<Result<BatchResult>> {
        let relaxed = batches.iter().all(|batch| batch.relaxed);
        let role = if relaxed { ConnectionRole::RelaxedWriter } else { ConnectionRole::Writer };
        let mut connection = match self.acquire(role).await {
            Ok(connection) => connection,
            Err(error) => return vec![Err(error); batches.len()],
        };
        let results = match batches {
            [batch] => apply_single(&mut connection, batch).await.map(|result| vec![result]),
            _ => apply_group(&mut connection, batches).await,
        };
        match results {
            Ok(results) => {
                self.release(role, connection);
                results
            }
            // The state of the connection is unknown, so it is dropped. The next batch opens a new
            // connection.
            Err(error) => vec![Err(store_error("write to the database", error)); batches.len()],
        }
    }

    async fn trim(&mut self, journal: &str, range: &KeyRange) -> Result<u64> {
        // A relaxed commit is sufficient: a power failure can only restore trimmed entries, and
        // these are trimmed again later.
        let mut connection = self.acquire(ConnectionRole::RelaxedWriter).await?;
        let trimmed = trim(&mut connection, journal, range).await;
        let trimmed = trimmed.map_err(|error| store_error("trim a journal", error))?;
        self.release(ConnectionRole::RelaxedWriter, connection);
        Ok(trimmed)
    }

    async fn acquire(&mut self, role: ConnectionRole) -> Result<SqliteConnection> {
        let slot =
            if role == ConnectionRole::Writer { &mut self.strict } else { &mut self.relaxed };
        match slot.take() {
            Some(connection) => Ok(connection),
            None => self.connector.connect(role).await,
        }
    }

    fn release(&mut self, role: ConnectionRole, connection: SqliteConnection) {
        let slot =
            if role == ConnectionRole::Writer { &mut self.strict } else { &mut self.relaxed };
        *slot = Some(connection);
        self.checkpoints.count_commit();
    }
}

/// Applies one batch in one round trip: the script includes BEGIN and COMMIT.
async fn apply_single(
    connection: &mut SqliteConnection,
    batch: &WriteBatch,
) -> sqlx::Result<Result<BatchResult>> {
    let mut retry = BusyRetry::new();
    loop {
        let error = match run(connection, batch, true).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        let failed = match classify(&error) {
            ErrorClass::Guard => failed_precondition(connection, batch).await?,
            _ => None,
        };
        rollback(connection).await;
        if let Some(failed) = failed {
            return Ok(Err(failed));
        }
        if !retry.should_retry(&error).await {
            return Err(error);
        }
    }
}

/// Applies several batches in one transaction. A rejected batch does not affect the others.
async fn apply_group(
    connection: &mut SqliteConnection,
    batches: &[WriteBatch],
) -> sqlx::Result<Vec<Result<BatchResult>>> {
    begin(connection).await?;
    let mut results = Vec::with_capacity(batches.len());
    for batch in batches {
        let result = match run(connection, batch, false).await {
            Ok(result) => result,
            Err(error) => match (classify(&error), failed_precondition(connection, batch).await?) {
                (ErrorClass::Guard, Some(failed)) => Err(failed),
                _ => return Err(error),
            },
        };
        results.push(result);
    }
    commit(connection).await?;
    Ok(results)
}

/// Runs the script of a batch. The outer result contains the database error; the inner result, the
/// error of a batch for which no script can be built.
async fn run(
    connection: &mut SqliteConnection,
    batch: &WriteBatch,
    own_transaction: bool,
) -> sqlx::Result<Result<BatchResult>> {
    let slots = EntrySlots::of(&batch.entries);
    let script = match BatchSql::of(batch.clone()) {
        Ok(script) => script,
        Err(error) => return Ok(Err(error)),
    };
    let (sql, values, cache) = script.into_parts(own_transaction);
    if sql.is_empty() {
        return Ok(Ok(BatchResult::default()));
    }
    let query = sqlx::query_with(sqlx::AssertSqlSafe(sql), values).persistent(cache);
    #[expect(deprecated, reason = "the script has several statements and parameters")]
    let mut rows = query.fetch_many(connection);
    let mut last = Vec::new();
    while let Some(step) = rows.try_next().await? {
        if let Either::Right(row) = step {
            last.push(row.try_get::<i64, _>(0)?);
        }
    }
    let reason = || Error::Corrupt { reason: "a journal has no last position".to_owned() };
    Ok(slots.positions(&last).ok_or_else(reason).map(|positions| BatchResult { positions }))
}

/// Returns the error of the first precondition that does not hold in the open transaction.
async fn failed_precondition(
    connection: &mut SqliteConnection,
    batch: &WriteBatch,
) -> sqlx::Result<Option<Error>> {
    for change in &batch.refs {
        let found = sqlx::query_scalar::<_, Vec<u8>>("SELECT value FROM refs WHERE name = ?")
            .bind(change.name.clone())
            .fetch_optional(&mut *connection)
            .await?;
        if !change.expected.is_met_by(found.as_deref()) {
            return Ok(Some(Error::Conflict { name: change.name.clone() }));
        }
    }
    for unique in &batch.unique {
        let found = sqlx::query("SELECT 1 FROM uniques WHERE scope = ? AND key = ?")
            .bind(unique.scope.clone())
            .bind(unique.key.clone())
            .fetch_optional(&mut *connection)
            .await?;
        if found.is_some() {
            let (scope, key) = (unique.scope.clone(), unique.key.clone());
            return Ok(Some(Error::NotUnique { scope, key }));
        }
    }
    Ok(None)
}

async fn trim(
    connection: &mut SqliteConnection,
    journal: &str,
    range: &KeyRange,
) -> sqlx::Result<u64> {
    let (from, until) = range.bounds();
    let end = if until.is_some() { " AND key < ?" } else { "" };
    begin(connection).await?;
    let mut removed = 0;
    for table in ["newest", "entries"] {
        let sql = format!("DELETE FROM {table} WHERE journal = ? AND key >= ?{end}");
        let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(journal).bind(from);
        if let Some(until) = &until {
            query = query.bind(until);
        }
        removed = query.execute(&mut *connection).await?.rows_affected();
    }
    commit(connection).await?;
    Ok(removed)
}

async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    execute_retrying(connection, "BEGIN IMMEDIATE").await
}

async fn commit(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    execute_retrying(connection, "COMMIT").await
}

async fn execute_retrying(
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> sqlx::Result<()> {
    let mut retry = BusyRetry::new();
    loop {
        match sqlx::query(sql).execute(&mut *connection).await {
            Err(error) if retry.should_retry(&error).await => {}
            result => return result.map(drop),
        }
    }
}

/// Rolls back the transaction, if one is open. No transaction is open if BEGIN failed, or if SQLite
/// has rolled back because the disk is full.
async fn rollback(connection: &mut SqliteConnection) {
    if let Err(error) = sqlx::query("ROLLBACK").execute(connection).await {
        tracing::trace!(%error, "nothing to roll back");
    }
}
