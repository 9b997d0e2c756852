//! Group commit: concurrent small appends to one table share one file, one snapshot and one commit.
//!
//! Each caller of a small append buffers its rows in memory and coerces them to the table's
//! columns. So each caller gets its own errors. While one group is committed, the next group is
//! collected; an append without concurrent appends does not wait. Each caller gets a response when
//! its rows are durable. If a group fails, its appends are committed one by one, so that an error
//! of one append does not affect the others.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::{Commit, PROPERTY_JOB, TableName, ToProblem};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Transaction;
use crate::BatchStream;
use crate::error::{Error, Result};
use crate::lake::Lake;

/// The maximum number of rows of a small append.
const SMALL_ROWS_MAX: usize = 1_000;

/// The maximum size of a small append in memory, in bytes.
const SMALL_BYTES_MAX: usize = 256 << 10;

/// The maximum number of appends in a group.
const MEMBERS_MAX: usize = 1_000;

/// The approximate maximum size of a group, in bytes.
const GROUP_BYTES_MAX: usize = 16 << 20;

/// The commit property with the ids of the jobs that made the appends of a group. Written only for
/// a group of several appends.
const JOBS: &str = "headwater.jobs";

/// A small append, with its rows buffered in memory.
#[derive(Debug, Clone)]
pub(super) struct SmallAppend {
    name: TableName,
    table: String,
    batches: Vec<RecordBatch>,
}

impl SmallAppend {
    fn bytes(&self) -> usize {
        self.batches.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    pub(super) fn name(&self) -> &TableName {
        &self.name
    }

    pub(super) fn rows(&self) -> BatchStream {
        stream::iter(self.batches.clone().into_iter().map(Ok)).boxed()
    }
}

/// An append in the queue of its table.
struct QueuedAppend {
    append: SmallAppend,
    author: String,
    message: String,
    properties: BTreeMap<String, String>,
    reply: oneshot::Sender<Result<Commit>>,
}

/// The key of an append queue: the branch and the table.
#[derive(Clone, PartialEq, Eq, Hash)]
struct QueueKey {
    branch: String,
    table: TableName,
}

/// The queued appends by branch and table. A queue exists only as long as a task processes it.
#[derive(Default)]
pub(crate) struct AppendQueues(Mutex<HashMap<QueueKey, VecDeque<QueuedAppend>>>);

impl AppendQueues {
    /// Returns the number of queued appends.
    pub fn waiting(&self) -> usize {
        self.0.lock().values().map(VecDeque::len).sum()
    }
}

impl Transaction {
    /// Appends rows to a table, like [`Transaction::append`]. The append uses group commit if it is
    /// small and the only change of the transaction.
    pub async fn append_rows(&mut self, name: &TableName, rows: BatchStream) -> Result<()> {
        // The stream is fused, because it may be polled after its end.
        let mut rows: BatchStream = rows.fuse().boxed();
        let name = self.resolve(name).await?;
        let table = self.existing(&name).await?;
        let mut buffered: Vec<RecordBatch> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while count <= SMALL_ROWS_MAX && bytes <= SMALL_BYTES_MAX {
            match rows.try_next().await {
                Ok(Some(batch)) => {
                    count += batch.num_rows();
                    bytes += batch.get_array_memory_size();
                    buffered.push(batch);
                }
                Ok(None) if self.is_groupable() && count > 0 => {
                    let batches = self.view.lake().tables().convert_rows(&table, &buffered)?;
                    self.written.rows_written += count as u64;
                    self.written.bytes_written += bytes as u64;
                    self.small = Some(SmallAppend { name, table: table.id(), batches });
                    return Ok(());
                }
                Ok(None) => break,
                Err(error) => {
                    rows = stream::once(async move { Err(error) }).boxed();
                    break;
                }
            }
        }
        let all = stream::iter(buffered.into_iter().map(Ok)).chain(rows);
        self.append(&name, all.boxed()).await
    }

    /// Returns true if the transaction has no other changes. Its append can then use group commit.
    pub(super) fn is_groupable(&self) -> bool {
        self.direct
            && self.small.is_none()
            && self.event.is_none()
            && self.with.is_empty()
            && self.snapshot_properties.is_empty()
            && self.namespaces.is_empty()
            && self.views.is_empty()
            && self.tables.values().all(super::PendingChanges::is_unchanged)
    }

    /// Queues a small append for group commit and waits for its result.
    pub(super) async fn commit_small(
        &mut self,
        small: SmallAppend,
        message: &str,
    ) -> Result<Commit> {
        let (reply, response) = oneshot::channel();
        let member = QueuedAppend {
            append: small,
            author: self.author.clone(),
            message: message.to_owned(),
            properties: self.properties.clone(),
            reply,
        };
        let lake = self.view.lake().clone();
        let key = QueueKey { branch: self.branch.clone(), table: member.append.name.clone() };
        let is_first = {
            let mut queues = lake.groups().0.lock();
            let is_first = !queues.contains_key(&key);
            queues.entry(key.clone()).or_default().push_back(member);
            is_first
        };
        if is_first {
            // Use a separate task, which continues even if the caller is cancelled.
            tokio::spawn(async move { process_queue(&lake, &key).await });
        }
        let aborted = || Error::Internal { message: "a group commit was aborted".to_owned() };
        response.await.map_err(|_| aborted())?
    }
}

/// Commits group after group until the queue is empty.
async fn process_queue(lake: &Lake, key: &QueueKey) {
    let mut guard = QueueGuard { lake, key, is_removed: false };
    loop {
        let lock = lake.commit_lock(&key.branch, &key.table);
        let table_lock = lock.lock().await;
        let Some(members) = next_group(lake, key) else {
            guard.is_removed = true;
            return;
        };
        let result = Box::pin(commit_group(lake, &key.branch, &members)).await;
        drop(table_lock);
        match result {
            Ok(commit) => {
                for member in members {
                    let _ = member.reply.send(Ok(commit.clone()));
                }
            }
            Err(error) if members.len() == 1 => {
                if let Some(member) = members.into_iter().next() {
                    let _ = member.reply.send(Err(error));
                }
            }
            // The commit may have succeeded, so the appends are not retried: a retry could write
            // the rows twice.
            Err(error) if error.code().has_unknown_outcome() => {
                let error = Arc::new(error);
                for member in members {
                    let _ = member.reply.send(Err(Error::Shared(error.clone())));
                }
            }
            Err(_) => {
                for member in members {
                    let alone = Box::pin(commit_member(lake, &key.branch, &member)).await;
                    let _ = member.reply.send(alone);
                }
            }
        }
    }
}

/// A guard that removes the queue if the processing task panics.
struct QueueGuard<'a> {
    lake: &'a Lake,
    key: &'a QueueKey,
    /// True if the queue was removed already. A later queue with the same key belongs to another
    /// task.
    is_removed: bool,
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        if !self.is_removed {
            // Dropping the queued appends closes their channels, which wakes the callers.
            self.lake.groups().0.lock().remove(self.key);
        }
    }
}

/// Takes the next appends of one author from the queue, without cancelled appends. If the queue is
/// empty, removes it and returns `None`.
fn next_group(lake: &Lake, key: &QueueKey) -> Option<Vec<QueuedAppend>> {
    let mut queues = lake.groups().0.lock();
    let queue = queues.get_mut(key)?;
    queue.retain(|member| !member.reply.is_closed());
    let (mut group, mut rest) = (Vec::<QueuedAppend>::new(), VecDeque::new());
    let mut bytes = 0;
    for member in std::mem::take(queue) {
        let first = group.first();
        let same = first.is_none_or(|first| {
            first.author == member.author && first.append.table == member.append.table
        });
        if same && group.len() < MEMBERS_MAX && bytes < GROUP_BYTES_MAX {
            bytes += member.append.bytes();
            group.push(member);
        } else {
            rest.push_back(member);
        }
    }
    *queue = rest;
    if group.is_empty() {
        queues.remove(key);
        return None;
    }
    Some(group)
}

/// Commits the rows of all members as one append. The caller must hold the commit lock of the
/// table.
async fn commit_group(lake: &Lake, branch: &str, members: &[QueuedAppend]) -> Result<Commit> {
    let Some(first) = members.first() else {
        return Err(Error::Internal { message: "a group has no member".to_owned() });
    };
    let mut change = begin(lake, branch, first).await?;
    let jobs: Vec<&str> = members
        .iter()
        .filter_map(|member| Some(member.properties.get(PROPERTY_JOB)?.as_str()))
        .collect();
    let message = match members.len() {
        1 => {
            change.properties.clone_from(&first.properties);
            first.message.clone()
        }
        count => {
            change.property(JOBS, jobs.join(","));
            format!("{} ({count} statements)", first.message)
        }
    };
    let rows = stream::iter(members.iter().map(|member| member.append.rows()).collect::<Vec<_>>());
    append(&mut change, &first.append.name, rows.flatten().boxed()).await?;
    change.commit_locked(&message).await
}

/// Commits the rows of one member of a group.
async fn commit_member(lake: &Lake, branch: &str, member: &QueuedAppend) -> Result<Commit> {
    let mut change = begin(lake, branch, member).await?;
    change.properties.clone_from(&member.properties);
    append(&mut change, &member.append.name, member.append.rows()).await?;
    change.commit_whole(&member.message).await
}

/// Appends rows that were coerced to the table's schema when they were queued. Fails if another
/// commit has changed the schema in the meantime.
async fn append(change: &mut Transaction, name: &TableName, rows: BatchStream) -> Result<()> {
    match change.append(name, rows).await {
        Err(Error::Tables(error)) if error.is_schema_mismatch() => {
            Err(Error::CommitConflict { table: name.clone(), branch: change.branch.clone() })
        }
        other => other,
    }
}

async fn begin(lake: &Lake, branch: &str, member: &QueuedAppend) -> Result<Transaction> {
    let mut change = lake.transaction(branch, &member.author).await?;
    let found = change.table(&member.append.name).await;
    match found {
        Ok(table) if table.id() == member.append.table => Ok(change),
        Ok(_) | Err(Error::TableNotFound { .. }) => Err(Error::CommitConflict {
            table: member.append.name.clone(),
            branch: branch.to_owned(),
        }),
        Err(error) => Err(error),
    }
}
