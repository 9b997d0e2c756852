//! The commits that fire table triggers: commits of a branch that change rows or columns, through
//! any protocol.
//!
//! The history of a branch follows first parents, so a merge counts as one change. A commit that
//! only rewrites files, such as a compaction, is not a change.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use headwater_lake::{Lake, TableChange};
use headwater_model::{Commit, CommitId, ErrorCode, Problem, TableName, ToProblem};
use headwater_tables::Table;
use headwater_triggers::{BranchCommit, CommitSource};
use tokio::sync::watch;

/// Operation of a snapshot that rewrote files without changing rows.
const REPLACE: &str = "replace";

/// The commits of a lake.
pub struct CommitHistory {
    /// The lake with the commits.
    pub lake: Lake,
}

#[async_trait]
impl CommitSource for CommitHistory {
    async fn head(&self, branch: &str) -> Result<Option<CommitId>, Problem> {
        match self.lake.catalog().branch(branch).await {
            Ok(branch) => Ok(Some(branch.commit)),
            Err(error) if error.code() == ErrorCode::RefNotFound => Ok(None),
            Err(error) => Err(error.to_problem()),
        }
    }

    async fn since(
        &self,
        branch: &str,
        after: CommitId,
        limit: usize,
    ) -> Result<Option<Vec<CommitId>>, Problem> {
        let Some(head) = self.head(branch).await? else { return Ok(None) };
        let (mut found, mut at) = (VecDeque::new(), head);
        while at != after {
            let Some(parent) = self.commit(at).await?.parents.first().copied() else {
                return Ok(Some(vec![head]));
            };
            found.push_front(at);
            found.truncate(limit);
            at = parent;
        }
        Ok(Some(found.into()))
    }

    async fn start(&self, branch: &str) -> Result<Option<CommitId>, Problem> {
        match self.lake.catalog().start_of(branch).await {
            Ok(start) => Ok(start),
            Err(error) if error.code() == ErrorCode::RefNotFound => Ok(None),
            Err(error) => Err(error.to_problem()),
        }
    }

    async fn change(&self, from: CommitId, id: CommitId) -> Result<BranchCommit, Problem> {
        let commit = self.commit(id).await?;
        let changes = self.lake.catalog().diff(from, id).await;
        let mut tables = Vec::new();
        for change in changes.map_err(|error| error.to_problem())? {
            if self.is_change(&change).await? {
                tables.push(change.table);
            }
        }
        // The properties describe only the commit `id`. If there are other commits between `from`
        // and `id`, the properties do not describe all changes, so leave them out.
        let is_whole = commit.parents.first() == Some(&from);
        let properties = if is_whole { commit.properties } else { BTreeMap::new() };
        Ok(BranchCommit { id, properties, tables })
    }

    fn counter(&self) -> watch::Receiver<u64> {
        self.lake.maintenance().writes()
    }
}

impl CommitHistory {
    async fn commit(&self, id: CommitId) -> Result<Commit, Problem> {
        let commit = self.lake.catalog().read_commit(id).await;
        commit.map_err(|error| error.to_problem())
    }

    /// Returns true if rows or columns changed, or if that cannot be determined. Errors: reading
    /// the table's metadata failed, but may succeed later.
    async fn is_change(&self, change: &TableChange) -> Result<bool, Problem> {
        let Some(to) = change.to.as_ref().filter(|to| !to.is_view()) else { return Ok(false) };
        let Some(from) = change.from.as_ref().filter(|from| from.id == to.id) else {
            return Ok(true);
        };
        let tables = self.lake.tables();
        let (before, after) =
            (tables.load(&from.metadata_location).await, tables.load(&to.metadata_location).await);
        match (before, after) {
            (Ok(before), Ok(after)) => {
                Ok(before.schema() != after.schema() || has_other_rows(&before, &after))
            }
            (Err(error), _) | (_, Err(error)) if error.is_transient() => Err(error.to_problem()),
            (Err(error), _) | (_, Err(error)) => {
                log_error(&change.table, &error);
                Ok(true)
            }
        }
    }
}

fn log_error(table: &TableName, error: &headwater_tables::Error) {
    tracing::debug!(%table, %error, "the changes of a commit cannot be determined");
}

/// Returns true if the rows of a table may differ between `before` and `after`.
fn has_other_rows(before: &Table, after: &Table) -> bool {
    let snapshots = after.snapshots();
    let mut next = after.snapshot_id();
    for _ in 0..=snapshots.len() {
        if next == before.snapshot_id() {
            return false;
        }
        let snapshot = snapshots.iter().find(|snapshot| Some(snapshot.id) == next);
        match snapshot.filter(|snapshot| snapshot.operation == REPLACE) {
            Some(snapshot) => next = snapshot.parent,
            None => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use headwater_model::{CreateRef, PROPERTY_EVENT, RefSpec};

    use super::*;

    /// Commits a new namespace. The commit has the event id `name`.
    async fn commit(lake: &Lake, branch: &str, name: &str) -> CommitId {
        let mut transaction = lake.transaction(branch, "ada").await.expect("a transaction");
        transaction.create_namespace(name, BTreeMap::new());
        transaction.event(name);
        transaction.commit(name).await.expect("a commit").expect("a change").id
    }

    async fn branch(lake: &Lake, name: &str, from: &str) {
        let from = Some(RefSpec::Name(from.to_owned()));
        let asked = CreateRef { name: name.to_owned(), from, if_not_exists: false };
        lake.catalog().create_branch(asked).await.expect("a branch");
    }

    #[tokio::test]
    async fn a_branch_is_followed_commit_by_commit_or_compared_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = Lake::open_local(folder.path()).await.expect("a lake");
        let history = CommitHistory { lake: lake.clone() };
        assert_eq!(history.start("dev").await, Ok(None));
        let first = commit(&lake, "main", "a").await;
        assert_eq!(history.since("dev", first, 5).await, Ok(None));
        branch(&lake, "dev", "main").await;
        let mut made = Vec::new();
        for name in ["b", "c", "d", "e"] {
            made.push(commit(&lake, "dev", name).await);
        }
        assert_eq!(history.start("dev").await, Ok(Some(first)));
        let since = async |after: CommitId, limit: usize| {
            history.since("dev", after, limit).await.expect("commits").expect("a branch")
        };
        assert_eq!(since(first, 3).await, made[..3]);
        assert_eq!(since(made[1], 3).await, made[2..]);
        assert!(since(made[3], 3).await.is_empty());
        let aside = commit(&lake, "main", "f").await;
        assert_eq!(since(aside, 3).await, [made[3]]);
        // An event id is returned only if the change is a single commit.
        let event = async |from: CommitId, to: CommitId| {
            let change = history.change(from, to).await.expect("a change");
            change.properties.get(PROPERTY_EVENT).cloned()
        };
        assert_eq!(event(made[0], made[1]).await.as_deref(), Some("c"));
        assert_eq!(event(made[0], made[2]).await, None);
        assert_eq!(event(aside, made[3]).await, None);
        // For a renamed branch, `start` is the head at the time of the renaming.
        let named = lake.catalog().rename_branch("dev", "next").await.expect("a branch");
        assert_eq!(history.start(&named.name).await, Ok(Some(made[3])));
        branch(&lake, "copy", "next").await;
        commit(&lake, "copy", "g").await;
        assert_eq!(history.start("copy").await, Ok(Some(made[3])));
    }
}
