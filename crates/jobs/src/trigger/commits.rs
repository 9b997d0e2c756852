//! What triggers on tables follow: the commits of a branch, as whoever knows the catalog tells of them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use headwater_model::{CommitId, PROPERTY_EVENT, PROPERTY_JOB, Problem, TableName, TriggerEvent};
use tokio::sync::watch;

use super::watch::Watch;
use crate::{Error, Result};

/// The commits of a lake's branches.
#[async_trait]
pub trait Commits: Send + Sync {
    /// The commit that a branch is at; none where there is no such branch.
    async fn head(&self, branch: &str) -> Result<Option<CommitId>, Problem>;

    /// The commit that a branch was at when it came to be; none where nobody knows.
    async fn start(&self, branch: &str) -> Result<Option<CommitId>, Problem>;

    /// The commits that were made on a branch after one of them, oldest first, the first `limit` of them:
    /// what was merged came by the merge. Where the branch does not come from that commit any more, the
    /// branch's last commit alone. None where there is no such branch.
    async fn since(
        &self,
        branch: &str,
        after: CommitId,
        limit: usize,
    ) -> Result<Option<Vec<CommitId>>, Problem>;

    /// What a commit changed since the one before it on the branch, both as [`Commits::since`] has them.
    /// Where others lie between the two, nothing is known of how that came about, and it has no properties.
    async fn change(&self, from: CommitId, id: CommitId) -> Result<MadeCommit, Problem>;

    /// Counts up when something was committed. What is missed here is found later all the same.
    fn made(&self) -> watch::Receiver<u64>;
}

/// A commit, as triggers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct MadeCommit {
    /// Its id.
    pub id: CommitId,
    /// What was kept with it, such as the event that caused it.
    pub properties: BTreeMap<String, String>,
    /// The tables that have other rows or columns since: neither those that were dropped, nor those whose
    /// rows only lie in other files.
    pub tables: Vec<TableName>,
}

/// What becomes one event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Changes {
    /// By name with their namespace.
    pub tables: BTreeSet<String>,
    /// The last of the commits.
    pub commit: CommitId,
    /// The triggers that led to them.
    pub led_by: BTreeSet<String>,
}

impl Watch {
    /// The triggers whose events led to a commit.
    pub(crate) async fn led_by(&self, commit: &MadeCommit) -> Result<BTreeSet<String>> {
        let named = match commit.properties.get(PROPERTY_EVENT) {
            Some(part) => self.event(part).await?,
            None => None,
        };
        let event = match named {
            // Clients name events of their own, which say nothing of what led to the job.
            None => self.event_of_job(commit).await?,
            named => named,
        };
        let Some(event) = event else { return Ok(BTreeSet::new()) };
        Ok(event.led_by.into_iter().chain([event.trigger]).collect())
    }

    /// The event that caused the job which made a commit.
    async fn event_of_job(&self, commit: &MadeCommit) -> Result<Option<TriggerEvent>> {
        let job = commit.properties.get(PROPERTY_JOB).and_then(|job| job.parse().ok());
        let Some(job) = job else { return Ok(None) };
        let event = match self.context.options.jobs.job(job).await {
            Ok(job) => job.event,
            // A job that is forgotten was none of an event that is not.
            Err(Error::JobNotFound { .. } | Error::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        match event {
            Some(event) => self.event(&event).await,
            None => Ok(None),
        }
    }

    /// An event by its id, or by that of a part of it.
    async fn event(&self, part: &str) -> Result<Option<TriggerEvent>> {
        let id = part.split_once('/').map_or(part, |(event, _)| event);
        self.context.ledger.event(id).await
    }
}
