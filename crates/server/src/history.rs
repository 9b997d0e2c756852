//! The commits that triggers on tables follow: which of a branch's changed rows or columns of which tables,
//! whichever door they came through.
//!
//! A branch is followed along its own commits, so that a merge counts as one change, of what it brought. What
//! only lies in other files after a commit, as after a compaction by whomever, has not changed.

use async_trait::async_trait;
use headwater_jobs::{Commits, MadeCommit};
use headwater_lake::{Lake, TableChange};
use headwater_model::{CommitId, ErrorCode, Fault, Problem, TableName};
use headwater_tables::Table;
use tokio::sync::watch;

/// How far a branch is followed back at most. What is farther is compared as a whole.
const COMMITS_MAX: usize = 10_000;

/// What a snapshot did that left every row as it was.
const REPLACE: &str = "replace";

/// The commits of a lake.
pub struct History {
    pub lake: Lake,
}

#[async_trait]
impl Commits for History {
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
    ) -> Result<Option<Vec<MadeCommit>>, Problem> {
        let Some(head) = self.head(branch).await? else { return Ok(None) };
        let steps = self.steps(after, head).await?;
        let mut made = Vec::new();
        for (from, to) in steps.into_iter().take(limit) {
            made.push(self.made_by(from, to).await?);
        }
        Ok(Some(made))
    }

    fn made(&self) -> watch::Receiver<u64> {
        self.lake.writes()
    }
}

impl History {
    /// The commits of a branch after one of them, oldest first, each after what it is compared with.
    async fn steps(
        &self,
        after: CommitId,
        head: CommitId,
    ) -> Result<Vec<(CommitId, CommitId)>, Problem> {
        let (mut steps, mut at) = (Vec::new(), head);
        while at != after {
            let commit = self.lake.catalog().read_commit(at).await;
            let commit = commit.map_err(|error| error.to_problem())?;
            let Some(parent) = commit.parents.first().filter(|_| steps.len() < COMMITS_MAX) else {
                return Ok(vec![(after, head)]);
            };
            steps.push((*parent, at));
            at = *parent;
        }
        steps.reverse();
        Ok(steps)
    }

    /// What a commit changed since another.
    async fn made_by(&self, from: CommitId, id: CommitId) -> Result<MadeCommit, Problem> {
        let catalog = self.lake.catalog();
        let commit = catalog.read_commit(id).await.map_err(|error| error.to_problem())?;
        let changes = catalog.diff(from, id).await.map_err(|error| error.to_problem())?;
        let mut tables = Vec::new();
        for change in changes {
            if self.is_change(&change).await {
                tables.push(change.table);
            }
        }
        Ok(MadeCommit { id, properties: commit.properties, tables })
    }

    /// Whether rows or columns are others. They may be where nobody can say.
    async fn is_change(&self, change: &TableChange) -> bool {
        let Some(to) = change.to.as_ref().filter(|to| !to.is_view()) else { return false };
        let Some(from) = change.from.as_ref().filter(|from| from.id == to.id) else { return true };
        let tables = self.lake.tables();
        let (before, after) =
            (tables.load(&from.metadata_location).await, tables.load(&to.metadata_location).await);
        match (before, after) {
            (Ok(before), Ok(after)) => {
                before.schema() != after.schema() || has_other_rows(&before, &after)
            }
            (Err(error), _) | (_, Err(error)) => {
                note(&change.table, &error);
                true
            }
        }
    }
}

fn note(table: &TableName, error: &headwater_tables::Error) {
    tracing::debug!(%table, %error, "what a commit changed cannot be told");
}

/// Whether a later state has other rows, or may have.
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
