//! A pool of read-only connections, and the queries of all reads.
//!
//! A reader sees the last commit of any process and never waits for a writer.

use bytes::Bytes;
use headwater_model::ObjectId;
use parking_lot::Mutex;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::connect::{ConnectionRole, Connector};
use super::error_class::store_error;
use crate::key_range::successor;
use crate::{Error, JournalEntry, KeyRange, Result};

/// The maximum number of connections; additional reads wait. Each connection has its own thread.
const READERS_MAX: usize = 4;

/// The parameter counts of queries for several objects. Queries are padded to the next of these
/// sizes, so that only three different statements are prepared.
const QUERY_SIZES: [usize; 3] = [4, 16, 64];

#[derive(Debug)]
pub(super) struct ReaderPool {
    connector: Connector,
    idle: Mutex<Vec<SqliteConnection>>,
    permits: Semaphore,
}

/// A connection from the pool, returned on drop.
struct PooledReader<'a> {
    readers: &'a ReaderPool,
    connection: Option<SqliteConnection>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for PooledReader<'_> {
    fn drop(&mut self) {
        self.readers.idle.lock().extend(self.connection.take());
    }
}

impl ReaderPool {
    pub(super) fn new(connector: Connector) -> Self {
        ReaderPool { connector, idle: Mutex::default(), permits: Semaphore::new(READERS_MAX) }
    }

    async fn reader(&self) -> Result<PooledReader<'_>> {
        let permit = self.permits.acquire().await.map_err(|_| Error::Closed)?;
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connector.connect(ConnectionRole::Reader).await?,
        };
        Ok(PooledReader { readers: self, connection: Some(connection), _permit: permit })
    }

    async fn rows(&self, query: Query) -> Result<Vec<SqliteRow>> {
        let mut reader = self.reader().await?;
        let Some(connection) = &mut reader.connection else { return Err(Error::Closed) };
        let mut prepared = sqlx::query(AssertSqlSafe(query.sql));
        for value in query.values {
            prepared = match value {
                ParameterValue::Text(text) => prepared.bind(text),
                ParameterValue::Blob(blob) => prepared.bind(blob),
                ParameterValue::Number(number) => prepared.bind(number),
            };
        }
        prepared.fetch_all(connection).await.map_err(read_error)
    }

    pub(super) async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Bytes>>> {
        let mut found = std::collections::HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(QUERY_SIZES[QUERY_SIZES.len() - 1]) {
            let size = QUERY_SIZES.into_iter().find(|size| *size >= chunk.len());
            let size = if chunk.len() == 1 { 1 } else { size.unwrap_or(chunk.len()) };
            let marks = vec!["?"; size].join(", ");
            let mut query =
                Query::new(format!("SELECT id, content FROM objects WHERE id IN ({marks})"));
            for index in 0..size {
                query = query.blob(chunk[index.min(chunk.len() - 1)].as_bytes());
            }
            for row in self.rows(query).await? {
                found.insert(object_id(&row)?, Bytes::from(get::<Vec<u8>>(&row, 1)?));
            }
        }
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    pub(super) async fn objects_with_prefix(
        &self,
        digits: &str,
        limit: usize,
    ) -> Result<Vec<ObjectId>> {
        let pad = |digit: &str| {
            let text = format!("{digits}{}", digit.repeat(64_usize.saturating_sub(digits.len())));
            text.parse::<ObjectId>().ok()
        };
        let (Some(from), Some(until)) = (pad("0"), pad("f")) else { return Ok(Vec::new()) };
        let sql = "SELECT id FROM objects WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?";
        let query = Query::new(sql).blob(from.as_bytes()).blob(until.as_bytes()).limit(limit);
        self.rows(query).await?.iter().map(object_id).collect()
    }

    pub(super) async fn reference(&self, name: &str) -> Result<Option<Bytes>> {
        let query = Query::new("SELECT value FROM refs WHERE name = ?").text(name);
        let rows = self.rows(query).await?;
        rows.first().map(|row| Ok(Bytes::from(get::<Vec<u8>>(row, 0)?))).transpose()
    }

    pub(super) async fn references(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        let (compare, from) = match after {
            Some(after) if after >= prefix => (">", after),
            _ => (">=", prefix),
        };
        let until = successor(prefix);
        let end = if until.is_some() { " AND name < ?" } else { "" };
        let sql = format!(
            "SELECT name, value FROM refs WHERE name {compare} ?{end} ORDER BY name LIMIT ?"
        );
        let query = Query::new(sql).text(from).text_if(until).limit(limit);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| Ok((get(row, 0)?, Bytes::from(get::<Vec<u8>>(row, 1)?)))).collect()
    }

    pub(super) async fn latest(&self, journal: &str, key: &str) -> Result<Option<JournalEntry>> {
        let sql = "SELECT position, key, value FROM newest JOIN entries USING (journal, position, key) \
                   WHERE newest.journal = ? AND newest.key = ?";
        let rows = self.rows(Query::new(sql).text(journal).text(key)).await?;
        rows.first().map(entry).transpose()
    }

    pub(super) async fn scan(&self, journal: &str, range: &KeyRange) -> Result<Vec<JournalEntry>> {
        let (from, until) = range.bounds();
        let end = if until.is_some() { " AND newest.key < ?" } else { "" };
        let order = if range.reverse { "DESC" } else { "ASC" };
        // In SQLite, CROSS JOIN fixes the join order: first read the rows of `newest` by key, then
        // look up the entry of each row.
        let sql = format!(
            "SELECT newest.position, newest.key, value FROM newest CROSS JOIN entries \
             ON entries.journal = newest.journal AND entries.position = newest.position \
             WHERE newest.journal = ? AND newest.key >= ?{end} ORDER BY newest.key {order} LIMIT ?"
        );
        let query = Query::new(sql).text(journal).text(from).text_if(until).limit(range.limit);
        self.rows(query).await?.iter().map(entry).collect()
    }

    pub(super) async fn read(
        &self,
        journal: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        let sql = "SELECT position, key, value FROM entries \
                   WHERE journal = ? AND position > ? AND value IS NOT NULL \
                   ORDER BY position LIMIT ?";
        let query = Query::new(sql).text(journal).position(after).limit(limit);
        self.rows(query).await?.iter().map(entry).collect()
    }

    pub(super) async fn history(
        &self,
        journal: &str,
        prefix: &str,
        after: u64,
        limit: usize,
    ) -> Result<Vec<JournalEntry>> {
        if prefix.is_empty() {
            return self.read(journal, after, limit).await;
        }
        let until = successor(prefix);
        let end = if until.is_some() { " AND key < ?" } else { "" };
        // The key that equals the prefix has a separate SELECT, because for one key the index
        // returns the entries in the order of positions, without a sort.
        let branch = |condition: &str| {
            format!(
                "SELECT position, key, value FROM entries INDEXED BY entries_by_key \
                 WHERE journal = ? AND {condition} AND position > ? AND value IS NOT NULL"
            )
        };
        let (exact, longer) = (branch("key = ?"), branch(&format!("key > ?{end}")));
        let sql = format!("{exact} UNION ALL {longer} ORDER BY position LIMIT ?");
        let query = Query::new(sql).text(journal).text(prefix).position(after);
        let query = query.text(journal).text(prefix).text_if(until).position(after).limit(limit);
        self.rows(query).await?.iter().map(entry).collect()
    }
}

/// A query with its parameter values.
struct Query {
    sql: String,
    values: Vec<ParameterValue>,
}

enum ParameterValue {
    Text(String),
    Blob(Vec<u8>),
    Number(i64),
}

impl Query {
    fn new(sql: impl Into<String>) -> Self {
        Query { sql: sql.into(), values: Vec::new() }
    }

    fn value(mut self, value: ParameterValue) -> Self {
        self.values.push(value);
        self
    }

    fn text(self, text: &str) -> Self {
        self.value(ParameterValue::Text(text.to_owned()))
    }

    fn text_if(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.value(ParameterValue::Text(text)),
            None => self,
        }
    }

    fn blob(self, blob: &[u8]) -> Self {
        self.value(ParameterValue::Blob(blob.to_vec()))
    }

    fn position(self, position: u64) -> Self {
        self.value(ParameterValue::Number(i64::try_from(position).unwrap_or(i64::MAX)))
    }

    fn limit(self, limit: usize) -> Self {
        self.value(ParameterValue::Number(i64::try_from(limit).unwrap_or(i64::MAX)))
    }
}

fn read_error(error: sqlx::Error) -> Error {
    store_error("read the database", error)
}

fn get<'r, T>(row: &'r SqliteRow, index: usize) -> Result<T>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(index).map_err(read_error)
}

fn object_id(row: &SqliteRow) -> Result<ObjectId> {
    let reason = || Error::Corrupt { reason: "an object id is not 32 bytes long".to_owned() };
    ObjectId::from_slice(&get::<Vec<u8>>(row, 0)?).ok_or_else(reason)
}

fn entry(row: &SqliteRow) -> Result<JournalEntry> {
    Ok(JournalEntry {
        position: get::<i64>(row, 0)? as u64,
        key: get(row, 1)?,
        value: Bytes::from(get::<Vec<u8>>(row, 2)?),
    })
}
