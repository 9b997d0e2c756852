//! The commits that changed a table between a merge base and a head.

use headwater_model::{Commit, CommitId, TableName};

use crate::codec::CommitObject;
use crate::{Catalog, Result, TableEntry, trie};

/// The state of a table after a commit that changed it.
#[derive(Debug, Clone)]
pub struct TableState {
    /// The commit that changed the table.
    pub commit: Commit,
    /// The table's entry; `None` if the commit dropped the table.
    pub entry: Option<TableEntry>,
}

impl Catalog {
    /// Lists the commits that changed a table between the bases and a head, newest first, at most
    /// `limit`. A merge commit whose table differs from the table in both parents counts as a
    /// change, and the walk continues with its first parent.
    pub async fn table_history(
        &self,
        head: CommitId,
        bases: &[CommitId],
        table: &TableName,
        limit: usize,
    ) -> Result<Vec<TableState>> {
        let key = trie::key(table);
        let (mut states, mut next) = (Vec::new(), Some(head));
        while let Some(id) = next.filter(|id| !bases.contains(id) && states.len() < limit) {
            let commit = self.objects.commit(id).await?;
            next = self.unchanged_parent(&commit, &key).await?;
            if next.is_none() {
                let entry = trie::get(&self.objects, commit.tables, &key).await?;
                // If a parent is a base, the walk ends: it need not search the other parents for
                // the base.
                let ends = commit.parents.iter().any(|parent| bases.contains(parent));
                next = commit.parents.first().copied().filter(|_| !ends);
                states.push(TableState { commit: commit.to_commit(id), entry });
            }
        }
        Ok(states)
    }

    /// Returns the last commit after the bases, up to `head`, that changed the table.
    pub(crate) async fn last_change(
        &self,
        head: CommitId,
        bases: &[CommitId],
        table: &TableName,
    ) -> Result<Option<Commit>> {
        let states = self.table_history(head, bases, table, 1).await?;
        Ok(states.into_iter().next().map(|state| state.commit))
    }

    /// Returns the first parent in which the table has the same entry.
    async fn unchanged_parent(&self, commit: &CommitObject, key: &str) -> Result<Option<CommitId>> {
        let here = trie::get(&self.objects, commit.tables, key).await?;
        for id in &commit.parents {
            let parent = self.objects.commit(*id).await?;
            if trie::get(&self.objects, parent.tables, key).await? == here {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }
}
