//! The revert because of which a merge has nothing to bring, though its changes are gone.

use std::collections::BTreeSet;

use headwater_catalog::MergePlan;
use headwater_model::{Commit, CommitId, PROPERTY_REVERTED};

use crate::error::Result;
use crate::lake::Lake;

/// The most commits of the target that are looked at.
const COMMITS_MAX: usize = 1_000;

impl Lake {
    /// Returns the newest commit of the target that undid a commit of the source, or the merge that
    /// brought it, and that nothing has undone since.
    pub(super) async fn undone_by(&self, plan: &MergePlan) -> Result<Option<Commit>> {
        let mut undone: BTreeSet<CommitId> = BTreeSet::new();
        let mut next = Some(plan.head);
        for _ in 0..COMMITS_MAX {
            let Some(id) = next.filter(|id| *id != plan.source) else { break };
            let commit = self.catalog().read_commit(id).await?;
            next = commit.parents.first().copied();
            let reverted = commit.properties.get(PROPERTY_REVERTED);
            let Some(reverted) = reverted.and_then(|id| id.parse().ok()) else { continue };
            if undone.contains(&id) {
                continue;
            }
            undone.insert(reverted);
            if self.brought(reverted, plan.source).await? && !self.leads(id, plan.source).await? {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// Whether a commit is one of the source's, or the first that has them.
    async fn brought(&self, commit: CommitId, source: CommitId) -> Result<bool> {
        if self.leads(commit, source).await? {
            return Ok(true);
        }
        if !self.leads(source, commit).await? {
            return Ok(false);
        }
        match self.catalog().read_commit(commit).await?.parents.first() {
            Some(parent) => Ok(!self.leads(source, *parent).await?),
            None => Ok(true),
        }
    }

    /// Whether a commit is in the history of another.
    async fn leads(&self, from: CommitId, to: CommitId) -> Result<bool> {
        Ok(self.catalog().merge_bases(from, to).await? == [from])
    }
}
