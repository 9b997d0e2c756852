//! Files that a merge wrote and to which no commit refers yet. They are removed if the merge fails
//! or is cancelled.

use headwater_table_merge::CommittedMerge;
use headwater_tables::{SqlView, Table, Tables};

/// A guard that removes uncommitted files when it is dropped.
#[derive(Debug)]
pub(super) struct UncommittedMerge {
    tables: Tables,
    made: NewStates,
}

/// New states of tables and views, each with the older state from which it was derived.
#[derive(Debug, Default)]
pub(super) struct NewStates {
    tables: Vec<(CommittedMerge, Table)>,
    views: Vec<(SqlView, SqlView)>,
}

impl NewStates {
    fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.views.is_empty()
    }
}

impl UncommittedMerge {
    pub fn new(tables: Tables) -> Self {
        UncommittedMerge { tables, made: NewStates::default() }
    }

    pub fn add(&mut self, made: CommittedMerge, before: Table) {
        self.made.tables.push((made, before));
    }

    pub fn add_view(&mut self, made: SqlView, before: SqlView) {
        self.made.views.push((made, before));
    }

    /// Releases the states. The states are not removed, because a commit may refer to them.
    pub fn release(mut self) -> NewStates {
        std::mem::take(&mut self.made)
    }

    /// Takes the states back after their commit has failed, so that dropping the guard removes
    /// them.
    pub fn reclaim(&mut self, written: NewStates) {
        self.made.tables.extend(written.tables);
        self.made.views.extend(written.views);
    }

    /// Removes all files. Maintenance later removes the files that cannot be removed now.
    pub async fn discard(mut self) {
        let made = std::mem::take(&mut self.made);
        if !made.is_empty() {
            // A spawned task continues even if this future is dropped.
            let _ = tokio::spawn(discard(self.tables.clone(), made)).await;
        }
    }
}

async fn discard(tables: Tables, made: NewStates) {
    for (view, before) in made.views {
        if let Err(error) = tables.views().discard(&view, Some(&before)).await {
            tracing::warn!(%error, "cannot remove the metadata of an aborted merge");
        }
    }
    // The removal of a state reads the state from which it was derived, so derived states are
    // removed first.
    for (made, before) in made.tables.into_iter().rev() {
        if let Err(error) = tables.discard_state(&made.table, Some(&before)).await {
            tracing::warn!(%error, "cannot remove the metadata of an aborted merge");
        }
        for staged in made.staged {
            if let Err(error) = tables.discard(staged).await {
                tracing::warn!(%error, "cannot remove a data file of an aborted merge");
            }
        }
    }
}

impl Drop for UncommittedMerge {
    fn drop(&mut self) {
        let made = std::mem::take(&mut self.made);
        if made.is_empty() {
            return;
        }
        // If there is no runtime, the process is shutting down, and maintenance removes the files
        // later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(self.tables.clone(), made));
        }
    }
}
