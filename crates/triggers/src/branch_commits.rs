//! The commits of branches, and the triggers that caused them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use headwater_jobs::Error as JobsError;
use headwater_model::{CommitId, PROPERTY_EVENT, PROPERTY_JOB, Problem, TableName};
use tokio::sync::watch;

use crate::Result;
use crate::delivery_log::{Delivery, DeliveryLog};

/// The commits of a lake's branches.
#[async_trait]
pub trait CommitSource: Send + Sync {
    /// Returns the last commit of a branch; `None` if the branch does not exist.
    async fn head(&self, branch: &str) -> Result<Option<CommitId>, Problem>;

    /// Returns the commit at which a branch was created; `None` if unknown.
    async fn start(&self, branch: &str) -> Result<Option<CommitId>, Problem>;

    /// Returns at most `limit` commits of a branch that follow the given commit along first
    /// parents, oldest first. If the given commit is no longer part of the branch, returns only the
    /// branch's last commit. Returns `None` if the branch does not exist.
    async fn since(
        &self,
        branch: &str,
        after: CommitId,
        limit: usize,
    ) -> Result<Option<Vec<CommitId>>, Problem>;

    /// Returns the changes from the commit `from` to the commit `id`. If other commits lie between
    /// the two, the returned properties are empty, because not all causes are known.
    async fn change(&self, from: CommitId, id: CommitId) -> Result<BranchCommit, Problem>;

    /// Returns a counter that changes when this process commits. Commits that do not change it,
    /// such as those of other processes, are detected later, by polling.
    fn counter(&self) -> watch::Receiver<u64>;
}

/// A commit and the tables that it changed.
#[derive(Debug, Clone, PartialEq)]
pub struct BranchCommit {
    /// Id of the commit.
    pub id: CommitId,
    /// The commit's properties, for example the id of the event that caused it.
    pub properties: BTreeMap<String, String>,
    /// The tables whose rows or columns changed. Dropped and compacted tables do not count.
    pub tables: Vec<TableName>,
}

/// Returns the lineage of a commit with these properties: names of triggers, function queues and
/// event source mappings.
pub(crate) async fn caused_by(
    log: &DeliveryLog,
    properties: &BTreeMap<String, String>,
) -> Result<BTreeSet<String>> {
    let named = match properties.get(PROPERTY_EVENT) {
        Some(part) => delivery_of_part(log, part).await?,
        None => None,
    };
    let delivery = match named {
        // A client can write any event id into a commit's properties. If this event is unknown,
        // find the event that started the job of the commit.
        None => delivery_of_job(log, properties).await?,
        named => named,
    };
    let Some(delivery) = delivery else { return Ok(BTreeSet::new()) };
    let event = log.event(&delivery.event).await?;
    Ok(event.caused_by.into_iter().chain([delivery.trigger]).collect())
}

/// Returns the delivery that started the job of a commit.
async fn delivery_of_job(
    log: &DeliveryLog,
    properties: &BTreeMap<String, String>,
) -> Result<Option<Delivery>> {
    let job = properties.get(PROPERTY_JOB).and_then(|job| job.parse().ok());
    let Some(job) = job else { return Ok(None) };
    let event = match log.jobs.job(job).await {
        Ok(job) => job.event,
        // Jobs are kept as long as their events. So if a job is missing, no event that is still
        // kept has started it.
        Err(JobsError::JobNotFound { .. } | JobsError::Corrupt { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    match event {
        Some(event) => delivery_of_part(log, &event).await,
        None => Ok(None),
    }
}

/// Finds the delivery of an event by the event's id, or by the id of a part of the event.
async fn delivery_of_part(log: &DeliveryLog, part: &str) -> Result<Option<Delivery>> {
    let id = part.split_once('/').map_or(part, |(event, _)| event);
    log.delivery(id).await
}
