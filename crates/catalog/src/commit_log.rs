//! The commit log: newest first, children before their parents.

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::sync::Arc;

use headwater_model::{Commit, CommitId, RefSpec, Timestamp};

use crate::codec::CommitObject;
use crate::merge_base::CommitOrder;
use crate::object_cache::ObjectCache;
use crate::{Catalog, Result};

/// An iterator over some commits and their ancestors.
pub(crate) struct AncestorWalk {
    objects: ObjectCache,
    queue: BinaryHeap<CommitOrder>,
    known: BTreeMap<CommitId, Arc<CommitObject>>,
    seen: HashSet<CommitId>,
}

impl AncestorWalk {
    async fn add(&mut self, id: CommitId) -> Result<()> {
        if self.seen.insert(id) {
            let commit = self.objects.commit(id).await?;
            self.queue.push((commit.time, commit.generation, id));
            self.known.insert(id, commit);
        }
        Ok(())
    }

    /// Returns the next commit, or `None` after the first commit of the lake.
    pub async fn next(&mut self) -> Result<Option<(CommitId, Arc<CommitObject>)>> {
        let Some((_, _, id)) = self.queue.pop() else { return Ok(None) };
        let Some(commit) = self.known.remove(&id) else { return Ok(None) };
        for parent in &commit.parents {
            self.add(*parent).await?;
        }
        Ok(Some((id, commit)))
    }
}

impl Catalog {
    pub(crate) async fn walk(&self, head: CommitId) -> Result<AncestorWalk> {
        self.walk_from(&[head]).await
    }

    /// Starts a walk over some commits and their ancestors.
    pub(crate) async fn walk_from(&self, heads: &[CommitId]) -> Result<AncestorWalk> {
        let mut walk = AncestorWalk {
            objects: self.objects.clone(),
            queue: BinaryHeap::new(),
            known: BTreeMap::new(),
            seen: HashSet::new(),
        };
        for head in heads {
            walk.add(*head).await?;
        }
        Ok(walk)
    }

    /// Lists the commits of a ref and their ancestors, merged branches included, newest first.
    /// Starts after the commit `after` and returns at most `limit` commits.
    pub async fn log(
        &self,
        spec: &RefSpec,
        limit: usize,
        after: Option<CommitId>,
    ) -> Result<Vec<Commit>> {
        let head = self.resolve(spec).await?.commit;
        self.history(head, limit, after).await
    }

    /// Like `log`, but starts from a commit.
    pub async fn history(
        &self,
        head: CommitId,
        limit: usize,
        after: Option<CommitId>,
    ) -> Result<Vec<Commit>> {
        let mut walk = self.walk(head).await?;
        let mut skipping = after.is_some();
        let mut commits = Vec::new();
        while commits.len() < limit {
            let Some((id, commit)) = walk.next().await? else { break };
            if !skipping {
                commits.push(commit.to_commit(id));
            }
            skipping &= after != Some(id);
        }
        Ok(commits)
    }

    /// Lists the given commits and their ancestors, without commits older than `oldest`.
    pub async fn history_since(
        &self,
        heads: &[CommitId],
        oldest: Timestamp,
    ) -> Result<Vec<Commit>> {
        let mut walk = self.walk_from(heads).await?;
        let mut commits = Vec::new();
        while let Some((id, commit)) = walk.next().await? {
            if commit.time < oldest {
                break;
            }
            commits.push(commit.to_commit(id));
        }
        Ok(commits)
    }
}
