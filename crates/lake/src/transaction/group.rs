//! Group commit: small appends to one table that come at the same time are one file, one snapshot and one
//! commit, made durable at once.
//!
//! Rows of a small append are held in memory, fitted to the table's columns, so that whatever is wrong with
//! them is told to whoever sent them alone. While one group is being committed the next one gathers; a
//! single append waits for nobody. Each is answered once its rows are durable. Where a group cannot be
//! committed, its members are committed one by one, so that none fails for another's sake.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use headwater_model::{Commit, Fault, PROPERTY_JOB, TableName};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Transaction;
use crate::BatchStream;
use crate::error::{Error, Result};
use crate::lake::Lake;

/// Rows of an append that is small, at most.
const SMALL_ROWS: usize = 1_000;

/// Bytes of those rows in memory, at most.
const SMALL_BYTES: usize = 256 << 10;

/// Appends of one group, at most.
const MEMBERS_MAX: usize = 1_000;

/// Bytes of the rows of one group, about, at most.
const GROUP_BYTES: usize = 16 << 20;

/// The commit property that names the jobs whose appends it holds, where there are several.
const JOBS: &str = "headwater.jobs";

/// A small append, as a transaction holds it.
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

/// An append that waits for its commit.
struct Member {
    append: SmallAppend,
    author: String,
    message: String,
    properties: BTreeMap<String, String>,
    answer: oneshot::Sender<Result<Commit>>,
}

/// The appends that wait, by branch and table. A queue is there as long as somebody works on it.
#[derive(Default)]
pub(crate) struct Groups(Mutex<HashMap<(String, TableName), VecDeque<Member>>>);

impl Groups {
    /// How many appends wait that are in no commit yet.
    pub fn waiting(&self) -> usize {
        self.0.lock().values().map(VecDeque::len).sum()
    }
}

impl Transaction {
    /// Adds rows to a table, as [`Transaction::append`] does. Few rows, and nothing else, are committed
    /// together with those of others.
    pub async fn append_rows(&mut self, name: &TableName, rows: BatchStream) -> Result<()> {
        // Asked again after its end, below.
        let mut rows: BatchStream = rows.fuse().boxed();
        let name = self.touch(name).await?;
        let table = self.existing(&name).await?;
        let mut held: Vec<RecordBatch> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while count <= SMALL_ROWS && bytes <= SMALL_BYTES {
            match rows.try_next().await {
                Ok(Some(batch)) => {
                    count += batch.num_rows();
                    bytes += batch.get_array_memory_size();
                    held.push(batch);
                }
                Ok(None) if self.stands_alone() && count > 0 => {
                    let batches = self.view.lake().tables().fit(&table, &held)?;
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
        let all = stream::iter(held.into_iter().map(Ok)).chain(rows);
        self.append(&name, all.boxed()).await
    }

    /// Whether there is nothing in it that a commit of others' rows could not have.
    pub(super) fn stands_alone(&self) -> bool {
        self.direct
            && self.small.is_none()
            && self.event.is_none()
            && self.with.is_empty()
            && self.snapshot_properties.is_empty()
            && self.namespaces.is_empty()
            && self.views.is_empty()
            && self.tables.values().all(super::Pending::is_unchanged)
    }

    /// Commits the small append that is all there is.
    pub(super) async fn commit_small(
        &mut self,
        small: SmallAppend,
        message: &str,
    ) -> Result<Commit> {
        let (answer, answered) = oneshot::channel();
        let member = Member {
            append: small,
            author: self.author.clone(),
            message: message.to_owned(),
            properties: self.properties.clone(),
            answer,
        };
        let lake = self.view.lake().clone();
        let key = (self.branch.clone(), member.append.name.clone());
        let begins = {
            let mut queues = lake.groups().0.lock();
            let begins = !queues.contains_key(&key);
            queues.entry(key.clone()).or_default().push_back(member);
            begins
        };
        if begins {
            // Not given up half-way where one of those who wait goes away.
            tokio::spawn(async move { work(&lake, &key).await });
        }
        let lost = || Error::Internal { message: "a group's commit was given up".to_owned() };
        answered.await.map_err(|_| lost())?
    }
}

/// Commits group after group until nobody waits.
async fn work(lake: &Lake, key: &(String, TableName)) {
    let mut end = End { lake, key, done: false };
    loop {
        let lock = lake.commit_lock(&key.0, &key.1);
        let turn = lock.lock().await;
        let Some(members) = next_group(lake, key) else {
            end.done = true;
            return;
        };
        let together = Box::pin(commit_together(lake, &key.0, &members)).await;
        drop(turn);
        match together {
            Ok(commit) => {
                for member in members {
                    let _ = member.answer.send(Ok(commit.clone()));
                }
            }
            Err(error) if members.len() == 1 => {
                if let Some(member) = members.into_iter().next() {
                    let _ = member.answer.send(Err(error));
                }
            }
            // The commit may be there: made again, its rows would be there twice.
            Err(error) if error.code().is_doubtful() => {
                let error = Arc::new(error);
                for member in members {
                    let _ = member.answer.send(Err(Error::Shared(error.clone())));
                }
            }
            Err(_) => {
                for member in members {
                    let alone = Box::pin(commit_alone(lake, &key.0, &member)).await;
                    let _ = member.answer.send(alone);
                }
            }
        }
    }
}

/// Takes a queue away when whoever works on it ends before it is empty, by a panic.
struct End<'a> {
    lake: &'a Lake,
    key: &'a (String, TableName),
    /// Whether the queue is gone already; one that is there now is another's.
    done: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Those who still wait are told so by their channels.
            self.lake.groups().0.lock().remove(self.key);
        }
    }
}

/// The next members of one author, those apart that nobody waits for any more; none where there are none,
/// and the queue is gone.
fn next_group(lake: &Lake, key: &(String, TableName)) -> Option<Vec<Member>> {
    let mut queues = lake.groups().0.lock();
    let queue = queues.get_mut(key)?;
    queue.retain(|member| !member.answer.is_closed());
    let (mut group, mut rest) = (Vec::<Member>::new(), VecDeque::new());
    let mut bytes = 0;
    for member in std::mem::take(queue) {
        let first = group.first();
        let same = first.is_none_or(|first| {
            first.author == member.author && first.append.table == member.append.table
        });
        if same && group.len() < MEMBERS_MAX && bytes < GROUP_BYTES {
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

/// Commits the rows of all members as one append; whoever calls has the table's turn.
async fn commit_together(lake: &Lake, branch: &str, members: &[Member]) -> Result<Commit> {
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
    change.commit_having_turn(&message).await
}

/// Commits one member's rows by themselves.
async fn commit_alone(lake: &Lake, branch: &str, member: &Member) -> Result<Commit> {
    let mut change = begin(lake, branch, member).await?;
    change.properties.clone_from(&member.properties);
    append(&mut change, &member.append.name, member.append.rows()).await?;
    change.commit_whole(&member.message).await
}

/// Appends rows that fitted when they were sent: where they do not any more, the table is another.
async fn append(change: &mut Transaction, name: &TableName, rows: BatchStream) -> Result<()> {
    match change.append(name, rows).await {
        Err(Error::Tables(error)) if error.is_misfit() => {
            Err(Error::CommitConflict { table: name.clone(), branch: change.branch.clone() })
        }
        other => other,
    }
}

async fn begin(lake: &Lake, branch: &str, member: &Member) -> Result<Transaction> {
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
