//! Writing to the database: one connection, and whoever waits for it shares the next transaction.
//!
//! A request is queued first; then its caller waits for its turn at the connection and carries out whatever
//! is queued by then, its own request and others'. So many writers share one fsync, and a single one goes
//! through no other task. Each batch is still all or nothing by itself: a refused one has written nothing
//! when it is refused, and the others go on. A caller that stops waiting changes nothing; its turn is
//! finished in the background.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::TryStreamExt;
use sqlx::{Either, Row, SqliteConnection};
use tokio::sync::oneshot;

use super::checkpoint::Checkpoints;
use super::connect::{Connector, Patience, Role};
use super::fault::{self, Kind};
use super::program::{Layout, Program};
use crate::{Applied, Batch, Error, KeyRange, Result};

/// The most requests of one turn.
const GROUP_MAX: usize = 64;

type Answer<T> = oneshot::Sender<Result<T>>;

enum Request {
    Apply(Batch, Answer<Applied>),
    Trim(String, KeyRange, Answer<u64>),
}

/// The way to the connection that writes.
pub(super) struct Writer(Arc<Shared>);

struct Shared {
    /// One request for each caller that waits.
    queue: parking_lot::Mutex<VecDeque<Request>>,
    desk: tokio::sync::Mutex<Desk>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.0.queue.lock().len()).finish()
    }
}

impl Writer {
    pub(super) fn new(connector: Connector, first: SqliteConnection) -> Self {
        let checkpoints = Checkpoints::new(connector.clone());
        let desk = Desk { connector, strict: Some(first), relaxed: None, checkpoints };
        Writer(Arc::new(Shared { queue: parking_lot::Mutex::default(), desk: desk.into() }))
    }

    pub(super) async fn apply(&self, batch: Batch) -> Result<Applied> {
        batch.check()?;
        self.ask(|answer| Request::Apply(batch, answer)).await
    }

    pub(super) async fn trim(&self, journal: &str, range: &KeyRange) -> Result<u64> {
        let (journal, range) = (journal.to_owned(), range.clone());
        self.ask(|answer| Request::Trim(journal, range, answer)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.0.queue.lock().push_back(request(answer));
        // There are never fewer turns to come than requests queued, so that none is left behind.
        let shared = Arc::clone(&self.0);
        Turn(Some(Box::pin(async move { shared.take_turn().await }))).await;
        answered.await.map_err(|_| Error::Closed)?
    }
}

impl Shared {
    async fn take_turn(&self) {
        let mut desk = self.desk.lock().await;
        let requests: Vec<Request> = {
            let mut queue = self.queue.lock();
            let count = queue.len().min(GROUP_MAX);
            queue.drain(..count).collect()
        };
        desk.serve(requests).await;
    }
}

/// A turn at the connection, which is finished even where its caller goes away: a transaction must not
/// stay open, and others may wait for its outcome.
struct Turn(Option<Pin<Box<dyn Future<Output = ()> + Send>>>);

impl Future for Turn {
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

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(work) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(work);
        }
    }
}

/// The connections that write, and how they are opened.
struct Desk {
    connector: Connector,
    strict: Option<SqliteConnection>,
    relaxed: Option<SqliteConnection>,
    checkpoints: Checkpoints,
}

impl Desk {
    async fn serve(&mut self, requests: Vec<Request>) {
        let mut group = Vec::new();
        for request in requests {
            match request {
                Request::Apply(batch, answer) => group.push((batch, answer)),
                Request::Trim(journal, range, answer) => {
                    self.write(std::mem::take(&mut group)).await;
                    let _ = answer.send(self.trim(&journal, &range).await);
                }
            }
        }
        self.write(group).await;
    }

    /// Writes the batches in one transaction and answers each.
    async fn write(&mut self, group: Vec<(Batch, Answer<Applied>)>) {
        if group.is_empty() {
            return;
        }
        let (batches, answers): (Vec<Batch>, Vec<Answer<Applied>>) = group.into_iter().unzip();
        let results = self.apply(&batches).await;
        for (answer, result) in answers.into_iter().zip(results) {
            let _ = answer.send(result);
        }
    }

    async fn apply(&mut self, batches: &[Batch]) -> Vec<Result<Applied>> {
        let relaxed = batches.iter().all(|batch| batch.relaxed);
        let role = if relaxed { Role::RelaxedWriter } else { Role::Writer };
        let mut connection = match self.take(role).await {
            Ok(connection) => connection,
            Err(error) => return vec![Err(error); batches.len()],
        };
        let results = match batches {
            [batch] => alone(&mut connection, batch).await.map(|result| vec![result]),
            _ => together(&mut connection, batches).await,
        };
        match results {
            Ok(results) => {
                self.give_back(role, connection);
                results
            }
            // The connection may be in any state; it is closed, and the next batch gets a new one.
            Err(error) => vec![Err(fault::error("write to the database", error)); batches.len()],
        }
    }

    async fn trim(&mut self, journal: &str, range: &KeyRange) -> Result<u64> {
        // What comes back for a loss of power is trimmed again.
        let mut connection = self.take(Role::RelaxedWriter).await?;
        let trimmed = trim(&mut connection, journal, range).await;
        let trimmed = trimmed.map_err(|error| fault::error("trim a journal", error))?;
        self.give_back(Role::RelaxedWriter, connection);
        Ok(trimmed)
    }

    async fn take(&mut self, role: Role) -> Result<SqliteConnection> {
        let kept = if role == Role::Writer { &mut self.strict } else { &mut self.relaxed };
        match kept.take() {
            Some(connection) => Ok(connection),
            None => self.connector.connect(role).await,
        }
    }

    fn give_back(&mut self, role: Role, connection: SqliteConnection) {
        let kept = if role == Role::Writer { &mut self.strict } else { &mut self.relaxed };
        *kept = Some(connection);
        self.checkpoints.note_commit();
    }
}

/// Applies one batch in one trip: the transaction begins and ends within its text.
async fn alone(connection: &mut SqliteConnection, batch: &Batch) -> sqlx::Result<Result<Applied>> {
    let mut patience = Patience::new();
    loop {
        let error = match run(connection, batch, true).await {
            Ok(result) => return Ok(result),
            Err(error) => error,
        };
        let refusal = match fault::kind(&error) {
            Kind::Guard => refusal(connection, batch).await?,
            _ => None,
        };
        rollback(connection).await;
        if let Some(refusal) = refusal {
            return Ok(Err(refusal));
        }
        if !patience.allows(&error).await {
            return Err(error);
        }
    }
}

/// Applies several batches in one transaction; a refused one leaves the others be.
async fn together(
    connection: &mut SqliteConnection,
    batches: &[Batch],
) -> sqlx::Result<Vec<Result<Applied>>> {
    begin(connection).await?;
    let mut results = Vec::with_capacity(batches.len());
    for batch in batches {
        let result = match run(connection, batch, false).await {
            Ok(result) => result,
            Err(error) => match (fault::kind(&error), refusal(connection, batch).await?) {
                (Kind::Guard, Some(refusal)) => Err(refusal),
                _ => return Err(error),
            },
        };
        results.push(result);
    }
    commit(connection).await?;
    Ok(results)
}

/// Runs a batch's program. The inner result is an error where the batch cannot be made a program.
async fn run(
    connection: &mut SqliteConnection,
    batch: &Batch,
    alone: bool,
) -> sqlx::Result<Result<Applied>> {
    let layout = Layout::of(&batch.entries);
    let program = match Program::of(batch.clone()) {
        Ok(program) => program,
        Err(error) => return Ok(Err(error)),
    };
    let (sql, values, keep) = program.into_parts(alone);
    if sql.is_empty() {
        return Ok(Ok(Applied::default()));
    }
    let query = sqlx::query_with(sqlx::AssertSqlSafe(sql), values).persistent(keep);
    #[expect(deprecated, reason = "the text has several statements, and parameters")]
    let mut rows = query.fetch_many(connection);
    let mut last = Vec::new();
    while let Some(step) = rows.try_next().await? {
        if let Either::Right(row) = step {
            last.push(row.try_get::<i64, _>(0)?);
        }
    }
    let reason = || Error::Corrupt { reason: "a journal has lost its position".to_owned() };
    Ok(layout.positions(&last).ok_or_else(reason).map(|positions| Applied { positions }))
}

/// Which expectation of the batch does not hold, as the open transaction sees it.
async fn refusal(connection: &mut SqliteConnection, batch: &Batch) -> sqlx::Result<Option<Error>> {
    for change in &batch.refs {
        let found = sqlx::query_scalar::<_, Vec<u8>>("SELECT value FROM refs WHERE name = ?")
            .bind(change.name.clone())
            .fetch_optional(&mut *connection)
            .await?;
        if !change.expected.holds(found.as_deref()) {
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
    patiently(connection, "BEGIN IMMEDIATE").await
}

async fn commit(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    patiently(connection, "COMMIT").await
}

async fn patiently(connection: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<()> {
    let mut patience = Patience::new();
    loop {
        match sqlx::query(sql).execute(&mut *connection).await {
            Err(error) if patience.allows(&error).await => {}
            result => return result.map(drop),
        }
    }
}

/// Ends the transaction, where there is one: a failed BEGIN has left none, and SQLite itself rolls back
/// after a full disk.
async fn rollback(connection: &mut SqliteConnection) {
    if let Err(error) = sqlx::query("ROLLBACK").execute(connection).await {
        tracing::trace!(%error, "nothing to roll back");
    }
}
