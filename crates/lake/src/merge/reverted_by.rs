//! Finds the commit that explains a merge without effect: the merge is up to date, but the target
//! lacks the source's changes, because this commit reverted them.

use std::collections::BTreeSet;

use headwater_catalog::MergePlan;
use headwater_model::{Commit, CommitId, PROPERTY_REVERTED};

use crate::error::Result;
use crate::lake::Lake;

/// Maximum number of commits of the target that are searched.
const COMMITS_MAX: usize = 1_000;

impl Lake {
    /// Returns the newest commit of the target that reverted a commit of the source, or that
    /// reverted the merge of the source. Ignores a revert that a later commit reverted.
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
            if self.is_from_source(reverted, plan.source).await?
                && !self.is_ancestor(id, plan.source).await?
            {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    /// Returns true if a commit belongs to the source, or is the commit that merged the source.
    async fn is_from_source(&self, commit: CommitId, source: CommitId) -> Result<bool> {
        if self.is_ancestor(commit, source).await? {
            return Ok(true);
        }
        if !self.is_ancestor(source, commit).await? {
            return Ok(false);
        }
        match self.catalog().read_commit(commit).await?.parents.first() {
            Some(parent) => Ok(!self.is_ancestor(source, *parent).await?),
            None => Ok(true),
        }
    }

    /// Returns true if a commit is an ancestor of another commit, or is that commit.
    async fn is_ancestor(&self, from: CommitId, to: CommitId) -> Result<bool> {
        Ok(self.catalog().merge_bases(from, to).await? == [from])
    }
}
