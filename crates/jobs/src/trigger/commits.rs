//! What triggers on tables follow: the commits of a branch, as whoever knows the catalog tells of them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use headwater_model::{CommitId, PROPERTY_EVENT, PROPERTY_JOB, Problem, TableName};
use tokio::sync::watch;

use super::watch::Watch;
use crate::Result;

/// The commits of a lake's branches.
#[async_trait]
pub trait Commits: Send + Sync {
    /// The commit that a branch is at; none where there is no such branch.
    async fn head(&self, branch: &str) -> Result<Option<CommitId>, Problem>;

    /// The commits that were made on a branch after one of them, oldest first, at most `limit`: what was
    /// merged counts as changed by the merge. Where the branch does not come from that commit any more, what
    /// differs from it counts as changed by the branch's last commit. None where there is no such branch.
    async fn since(
        &self,
        branch: &str,
        after: CommitId,
        limit: usize,
    ) -> Result<Option<Vec<MadeCommit>>, Problem>;

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
        let Some(id) = self.event_of(commit).await else { return Ok(BTreeSet::new()) };
        let Some(event) = self.context.ledger.event(&id).await? else { return Ok(BTreeSet::new()) };
        Ok(event.led_by.into_iter().chain([event.trigger]).collect())
    }

    /// The event that caused a commit: that of the commit itself, or of the job that made it.
    async fn event_of(&self, commit: &MadeCommit) -> Option<String> {
        if let Some(part) = commit.properties.get(PROPERTY_EVENT) {
            let event = part.split_once('/').map_or(part.as_str(), |(event, _)| event);
            return Some(event.to_owned());
        }
        let job = commit.properties.get(PROPERTY_JOB)?.parse().ok()?;
        // A job that is forgotten was none of an event that is not.
        self.context.options.jobs.job(job).await.ok()?.event
    }
}
