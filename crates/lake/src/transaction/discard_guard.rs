//! Uncommitted files of a transaction: data files and metadata. They are removed if the transaction
//! does not commit.

use std::collections::HashSet;

use headwater_model::TableName;
use headwater_tables::{SqlView, StagedFiles, Table, Tables};

/// A guard that removes uncommitted files when it is dropped.
#[derive(Debug)]
pub(super) struct DiscardGuard {
    tables: Tables,
    written: UncommittedFiles,
}

/// Files and states to which no commit refers yet.
#[derive(Debug, Default)]
pub(super) struct UncommittedFiles {
    staged: Vec<StagedFiles>,
    states: Vec<NewTableState>,
    /// New states of views, each with the state from which it was derived.
    views: Vec<(SqlView, Option<SqlView>)>,
}

/// A new table state to which no commit refers yet.
#[derive(Debug)]
pub(super) struct NewTableState {
    pub name: TableName,
    pub state: Table,
    /// The state from which the new state was derived.
    pub before: Option<Table>,
    /// True if a commit attempt created the state: it rebased the changes on a state of another
    /// commit.
    pub rebased: bool,
    /// True if another engine wrote the manifests of the state.
    pub foreign: bool,
}

impl UncommittedFiles {
    fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.states.is_empty() && self.views.is_empty()
    }

    /// Returns the states that the commit does not use, because rebased states have replaced them.
    pub fn superseded(self) -> Vec<NewTableState> {
        let rebased = self.states.iter().filter(|made| made.rebased);
        let rebased: HashSet<TableName> = rebased.map(|made| made.name.clone()).collect();
        let is_superseded = |made: &NewTableState| !made.rebased && rebased.contains(&made.name);
        self.states.into_iter().filter(is_superseded).collect()
    }
}

impl DiscardGuard {
    pub fn new(tables: Tables) -> Self {
        DiscardGuard { tables, written: UncommittedFiles::default() }
    }

    pub fn push(&mut self, staged: StagedFiles) {
        self.written.staged.push(staged);
    }

    /// Adds a new state of a view.
    pub fn push_view(&mut self, view: SqlView, before: Option<SqlView>) {
        self.written.views.push((view, before));
    }

    /// Adds new states of tables.
    pub fn push_states(&mut self, states: impl IntoIterator<Item = NewTableState>) {
        self.written.states.extend(states);
    }

    /// Releases the files. The files are not removed, because a commit may refer to them.
    pub fn release(&mut self) -> UncommittedFiles {
        std::mem::take(&mut self.written)
    }

    /// Takes the files back after their commit has failed, so that dropping the guard removes them.
    pub fn restore(&mut self, written: UncommittedFiles) {
        self.written.staged.extend(written.staged);
        self.written.states.extend(written.states);
        self.written.views.extend(written.views);
    }

    /// Removes the rebased states of a failed attempt.
    pub async fn discard_rebased(&mut self) {
        let states = std::mem::take(&mut self.written.states);
        let (rebased, rest) = states.into_iter().partition(|made| made.rebased);
        self.written.states = rest;
        discard_states(&self.tables, rebased).await;
    }

    /// Removes all files. Maintenance later removes the files that cannot be removed now.
    pub async fn discard(&mut self) {
        discard(self.tables.clone(), self.release()).await;
    }
}

/// Removes states to which no commit will refer.
pub(super) async fn discard_states(tables: &Tables, states: Vec<NewTableState>) {
    // The removal of a state reads the state from which it was derived, so derived states are
    // removed first.
    for NewTableState { state, before, foreign, .. } in states.iter().rev() {
        let discarded = if *foreign {
            tables.discard_metadata(state, before.as_ref()).await
        } else {
            tables.discard_state(state, before.as_ref()).await
        };
        if let Err(error) = discarded {
            tracing::warn!(%error, "cannot remove the metadata of a failed transaction");
        }
    }
}

async fn discard(tables: Tables, written: UncommittedFiles) {
    discard_states(&tables, written.states).await;
    for (view, before) in written.views.iter().rev() {
        if let Err(error) = tables.views().discard(view, before.as_ref()).await {
            tracing::warn!(%error, "cannot remove the metadata of an uncommitted view");
        }
    }
    for files in written.staged {
        if let Err(error) = tables.discard(files).await {
            tracing::warn!(%error, "cannot remove a data file of a failed transaction");
        }
    }
}

impl Drop for DiscardGuard {
    fn drop(&mut self) {
        let written = self.release();
        if written.is_empty() {
            return;
        }
        // If there is no runtime, the process is shutting down, and maintenance removes the files
        // later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(self.tables.clone(), written));
        }
    }
}
