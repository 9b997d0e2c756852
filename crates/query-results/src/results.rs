//! The asynchronous queries of a lake: those that are running, and those that have ended, with
//! their results.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use headwater_model::{Actor, AsyncQuery, Clock, JobId, JobStatus, Problem, Timestamp, ToProblem};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::record::{QueryRecord, rows_path};
use crate::result_rows::ResultRows;
use crate::result_writer::{ResultWriter, interrupted};

/// Limits of results.
#[derive(Debug, Clone, Copy)]
pub struct ResultLimits {
    /// Time from the end of a query to its deletion; 24 hours by default.
    pub retention: Duration,
    /// Maximum bytes of one result; 4 GiB by default.
    pub query_bytes: u64,
    /// Maximum bytes of the results of one identity; 16 GiB by default. Above the limit, the oldest
    /// results of the identity are deleted. Results of running queries count when they end:
    /// otherwise large running queries would delete each result as soon as it is complete. Their
    /// size is limited by `query_bytes` and `own_running`.
    pub own_bytes: u64,
    /// Maximum number of queries of one identity that have ended; 1,000 by default. Above the
    /// limit, the oldest queries of the identity are deleted.
    pub own_queries: usize,
    /// Maximum number of running queries; 64 by default.
    pub running: usize,
    /// Maximum number of running queries of one identity; 16 by default.
    pub own_running: usize,
}

impl Default for ResultLimits {
    fn default() -> Self {
        ResultLimits {
            retention: Duration::from_secs(24 * 3600),
            query_bytes: 4 << 30,
            own_bytes: 16 << 30,
            own_queries: 1_000,
            running: 64,
            own_running: 16,
        }
    }
}

/// The asynchronous queries of a lake and their results. Cheap to clone.
#[derive(Clone)]
pub struct QueryResults(Arc<QueryResultsInner>);

struct QueryResultsInner {
    folder: PathBuf,
    limits: ResultLimits,
    clock: Arc<dyn Clock>,
    queries: Mutex<BTreeMap<String, TrackedQuery>>,
}

/// A query, and the channels that signal its cancellation and its end.
struct TrackedQuery {
    record: QueryRecord,
    cancelled: CancellationToken,
    ended: watch::Sender<bool>,
}

impl std::fmt::Debug for QueryResults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryResults").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

impl QueryResults {
    /// Opens the results in a folder. Queries that were running when the server stopped end with
    /// the error of an interrupted query. Folders without a valid record are deleted. Succeeds even
    /// if the disk is full.
    pub fn open(folder: PathBuf, limits: ResultLimits, clock: Arc<dyn Clock>) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let entries = fs::read_dir(&folder)?.flatten();
        let records = entries.filter_map(|entry| read_or_delete(&entry.path()));
        let known = records.map(|record| (record.query.id.clone(), TrackedQuery::new(record)));
        let queries = Mutex::new(known.collect());
        let results = QueryResults(Arc::new(QueryResultsInner { folder, limits, clock, queries }));
        results.delete_expired();
        results.interrupt_running();
        Ok(results)
    }

    /// Ends the queries that were running when the previous server process stopped.
    fn interrupt_running(&self) {
        let running: Vec<QueryRecord> = {
            let queries = self.0.queries.lock();
            let running = queries.values().filter(|known| known.is_running());
            running.map(|known| known.record.clone()).collect()
        };
        for record in running {
            self.end(record, Err(interrupted()));
        }
    }

    /// Returns the limits.
    pub fn limits(&self) -> &ResultLimits {
        &self.0.limits
    }

    /// Stores a new query, and returns the writer of its result. Deletes expired results and, if
    /// the identity exceeds its limits, its oldest results. Blocks the thread.
    ///
    /// Errors: `too_busy`, `disk_full`, `storage`.
    pub fn create(
        &self,
        actor: Actor,
        author: String,
        sql: String,
        reference: String,
    ) -> Result<ResultWriter> {
        self.delete_expired();
        self.delete_oldest_of(&actor, 1);
        let created = self.0.clock.now();
        let query = AsyncQuery {
            id: JobId::generate().to_string(),
            status: JobStatus::Running,
            sql,
            reference,
            author,
            job: None,
            created,
            ended: None,
            expires: None,
            columns: Vec::new(),
            rows: 0,
            bytes: 0,
            error: None,
        };
        let folder = self.folder_of(&query.id);
        let record = QueryRecord { query, actor, parts: Vec::new(), schema: None };
        let known = TrackedQuery::new(record.clone());
        let cancelled = known.cancelled.clone();
        {
            let mut queries = self.0.queries.lock();
            self.check_running(&queries, &record.actor)?;
            queries.insert(record.query.id.clone(), known);
        }
        let id = record.query.id.clone();
        let stored = DirBuilder::new().mode(0o700).create(&folder);
        let stored = stored.and_then(|()| record.write(&folder)).map_err(Error::from);
        let writer =
            stored.and_then(|()| ResultWriter::new(self.clone(), folder, record, cancelled));
        if writer.is_err() {
            self.delete(&id);
        }
        writer
    }

    /// Checks that an identity may start a query.
    fn check_running(&self, queries: &BTreeMap<String, TrackedQuery>, actor: &Actor) -> Result<()> {
        let (mut all, mut own) = (0, 0);
        for known in queries.values().filter(|known| known.is_running()) {
            all += 1;
            own += usize::from(same_identity(&known.record.actor, actor));
        }
        let limits = &self.0.limits;
        if all >= limits.running {
            return Err(Error::TooMany { limit: limits.running });
        }
        if own >= limits.own_running {
            return Err(Error::TooManyOwn { limit: limits.own_running });
        }
        Ok(())
    }

    /// Returns a query and the identity that sent it.
    ///
    /// Errors: `job_not_found`.
    pub fn get(&self, id: &str) -> Result<(AsyncQuery, Actor)> {
        let queries = self.0.queries.lock();
        let known = queries.get(id).filter(|known| !self.is_expired(&known.record.query));
        let known = known.ok_or_else(|| Error::QueryNotFound { id: id.to_owned() })?;
        Ok((known.record.query.clone(), known.record.actor.clone()))
    }

    /// Returns all queries, newest first, with the identities that sent them.
    pub fn list(&self) -> Vec<(AsyncQuery, Actor)> {
        let queries = self.0.queries.lock();
        let known = queries.values().rev().filter(|known| !self.is_expired(&known.record.query));
        known.map(|known| (known.record.query.clone(), known.record.actor.clone())).collect()
    }

    /// Returns the number of running queries.
    pub fn running(&self) -> usize {
        self.0.queries.lock().values().filter(|known| known.is_running()).count()
    }

    /// Waits until no query is running. On return, the records of the ended queries are stored.
    pub async fn all_ended(&self) {
        loop {
            let running = {
                let queries = self.0.queries.lock();
                queries.values().find(|known| known.is_running()).map(|one| one.ended.subscribe())
            };
            let Some(mut ended) = running else { return };
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }

    /// Waits until a query has ended, for at most `time`.
    pub async fn wait(&self, id: &str, time: Duration) {
        let ended = self.0.queries.lock().get(id).map(|known| known.ended.subscribe());
        if let Some(mut ended) = ended {
            let _ = tokio::time::timeout(time, ended.wait_for(|ended| *ended)).await;
        }
    }

    /// Opens at most `limit` rows of a result, after the first `offset` rows. Blocks the thread.
    ///
    /// Errors: `job_not_found`; `precondition_failed` if the query has not ended.
    pub fn rows(&self, id: &str, offset: u64, limit: u64) -> Result<ResultRows> {
        let record = self.0.queries.lock().get(id).map(|known| known.record.clone());
        let record = record.ok_or_else(|| Error::QueryNotFound { id: id.to_owned() })?;
        if !record.query.status.is_final() {
            return Err(Error::NotEnded { id: id.to_owned() });
        }
        ResultRows::open(&self.folder_of(id), &record, offset, limit)
    }

    /// Cancels a query. A query that has ended is unchanged.
    pub fn cancel(&self, id: &str) {
        if let Some(known) = self.0.queries.lock().get(id) {
            known.cancelled.cancel();
        }
    }

    /// Deletes a query that has ended, with its rows. Blocks the thread.
    pub fn delete(&self, id: &str) {
        if self.0.queries.lock().remove(id).is_some()
            && let Err(error) = fs::remove_dir_all(self.folder_of(id))
        {
            tracing::warn!(id, %error, "a result cannot be deleted");
        }
    }

    /// Deletes the queries whose retention time is over. Blocks the thread.
    pub fn delete_expired(&self) {
        let expired: Vec<String> = {
            let queries = self.0.queries.lock();
            let expired = queries.iter().filter(|(_, known)| self.is_expired(&known.record.query));
            expired.map(|(id, _)| id.clone()).collect()
        };
        for id in &expired {
            self.delete(id);
        }
    }

    /// Deletes the oldest ended queries of an identity, until the remaining queries and `new`
    /// further queries are within the limits of the identity.
    fn delete_oldest_of(&self, actor: &Actor, new: usize) {
        let mut ended: Vec<_> = {
            let queries = self.0.queries.lock();
            let own = queries
                .values()
                .filter(|known| !known.is_running() && same_identity(&known.record.actor, actor));
            own.map(|known| &known.record.query)
                .map(|query| (query.ended, query.id.clone(), query.bytes))
                .collect()
        };
        ended.sort_unstable();
        let (mut total, mut count) = (0, new);
        for (_, id, bytes) in ended.into_iter().rev() {
            total += bytes;
            count += 1;
            if total > self.0.limits.own_bytes || count > self.0.limits.own_queries {
                self.delete(&id);
            }
        }
    }

    /// Replaces the record of a running query in memory.
    pub(crate) fn set(&self, record: &QueryRecord) {
        if let Some(known) = self.0.queries.lock().get_mut(&record.query.id) {
            known.record.clone_from(record);
        }
    }

    /// Ends a query and stores its record. Removes the rows of a failed query. Deletes the oldest
    /// results of the identity if the identity exceeds its limits.
    pub(crate) fn end(&self, mut record: QueryRecord, outcome: Result<(), Problem>) {
        set_end(&mut record.query, self.0.clock.now(), self.0.limits.retention);
        self.store_end(&mut record, outcome);
        let actor = record.actor.clone();
        if let Some(known) = self.0.queries.lock().get_mut(&record.query.id) {
            known.record = record;
            known.ended.send_replace(true);
        }
        self.delete_oldest_of(&actor, 0);
    }

    /// Stores the record of a query that has ended. If the record cannot be stored, the query ends
    /// as failed.
    fn store_end(&self, record: &mut QueryRecord, outcome: Result<(), Problem>) {
        let folder = self.folder_of(&record.query.id);
        let succeeded = outcome.is_ok();
        record.set_outcome(outcome);
        if !succeeded {
            let _ = fs::remove_file(rows_path(&folder));
        }
        let Err(error) = record.write(&folder) else { return };
        tracing::warn!(id = record.query.id, %error, "the end of a query cannot be stored");
        if succeeded {
            self.store_end(record, Err(Error::from(error).to_problem()));
        }
    }

    fn is_expired(&self, query: &AsyncQuery) -> bool {
        query.expires.is_some_and(|expires| expires <= self.0.clock.now())
    }

    fn folder_of(&self, id: &str) -> PathBuf {
        self.0.folder.join(Path::new(id))
    }
}

impl TrackedQuery {
    fn new(record: QueryRecord) -> Self {
        let ended = watch::Sender::new(record.query.status.is_final());
        TrackedQuery { record, cancelled: CancellationToken::new(), ended }
    }

    fn is_running(&self) -> bool {
        !self.record.query.status.is_final()
    }
}

/// Reads the record in the folder of a query. Deletes the folder if the record is missing or
/// invalid, but not if an I/O error prevents reading it.
fn read_or_delete(folder: &Path) -> Option<QueryRecord> {
    let error = match QueryRecord::read(folder) {
        Ok(record) => return Some(record),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            let _ = fs::remove_dir_all(folder);
        }
        _ => tracing::warn!(folder = %folder.display(), %error, "a result cannot be read"),
    }
    None
}

fn set_end(query: &mut AsyncQuery, now: Timestamp, retention: Duration) {
    query.ended = Some(now);
    query.expires = Some(now + retention);
}

fn same_identity(one: &Actor, other: &Actor) -> bool {
    match (one, other) {
        (Actor::User(one), Actor::User(other)) => {
            (&one.name, one.created) == (&other.name, other.created)
        }
        (Actor::Owner, Actor::Owner) | (Actor::Anonymous, Actor::Anonymous) => true,
        _ => false,
    }
}
