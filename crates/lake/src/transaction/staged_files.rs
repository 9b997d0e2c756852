//! What a transaction wrote and did not commit yet, removed when it ends otherwise: data files, and the
//! states of tables that were made of them.

use std::collections::HashSet;

use headwater_model::TableName;
use headwater_tables::{SqlView, Staged, Table, Tables};

/// Files that belong to no commit.
#[derive(Debug)]
pub(super) struct StagedFiles {
    tables: Tables,
    written: Written,
}

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Written {
    staged: Vec<Staged>,
    states: Vec<Made>,
    /// States of views, with those that they were made from.
    views: Vec<(SqlView, Option<SqlView>)>,
}

/// A state of a table that was made and that no commit names yet.
#[derive(Debug)]
pub(super) struct Made {
    pub name: TableName,
    pub state: Table,
    /// The state it was made from.
    pub before: Option<Table>,
    /// Whether it is the changes made again on what another commit left, for one attempt to commit.
    pub rebased: bool,
    /// Whether another engine wrote its manifests.
    pub foreign: bool,
}

impl Written {
    fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.states.is_empty() && self.views.is_empty()
    }

    /// The states that a commit of everything left aside: those of tables that were re-based.
    pub fn superseded(self) -> Vec<Made> {
        let rebased = self.states.iter().filter(|made| made.rebased);
        let rebased: HashSet<TableName> = rebased.map(|made| made.name.clone()).collect();
        let aside = |made: &Made| !made.rebased && rebased.contains(&made.name);
        self.states.into_iter().filter(aside).collect()
    }
}

impl StagedFiles {
    pub fn new(tables: Tables) -> Self {
        StagedFiles { tables, written: Written::default() }
    }

    pub fn push(&mut self, staged: Staged) {
        self.written.staged.push(staged);
    }

    /// Adds a state of a view that was made.
    pub fn push_view(&mut self, view: SqlView, before: Option<SqlView>) {
        self.written.views.push((view, before));
    }

    /// Adds states that were made.
    pub fn push_states(&mut self, states: impl IntoIterator<Item = Made>) {
        self.written.states.extend(states);
    }

    /// Lets go of everything: from now on it may belong to a commit.
    pub fn release(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }

    /// Takes back what turned out to belong to no commit.
    pub fn take_back(&mut self, written: Written) {
        self.written.staged.extend(written.staged);
        self.written.states.extend(written.states);
        self.written.views.extend(written.views);
    }

    /// Removes the states of an attempt that failed.
    pub async fn discard_rebased(&mut self) {
        let states = std::mem::take(&mut self.written.states);
        let (rebased, rest) = states.into_iter().partition(|made| made.rebased);
        self.written.states = rest;
        discard_states(&self.tables, rebased).await;
    }

    /// Removes everything. What cannot be removed is left for the lake's upkeep to find.
    pub async fn discard(&mut self) {
        discard(self.tables.clone(), self.release()).await;
    }
}

/// Removes states that nothing will come to name.
pub(super) async fn discard_states(tables: &Tables, states: Vec<Made>) {
    // A state is read to know what is its own, so those that were made of it go first.
    for Made { state, before, foreign, .. } in states.iter().rev() {
        let discarded = if *foreign {
            tables.discard_metadata(state, before.as_ref()).await
        } else {
            tables.discard_state(state, before.as_ref()).await
        };
        if let Err(error) = discarded {
            tracing::warn!(%error, "the metadata of a change that failed is left behind");
        }
    }
}

async fn discard(tables: Tables, written: Written) {
    discard_states(&tables, written.states).await;
    for (view, before) in written.views.iter().rev() {
        if let Err(error) = tables.discard_view(view, before.as_ref()).await {
            tracing::warn!(%error, "the metadata of a view that was not made is left behind");
        }
    }
    for files in written.staged {
        if let Err(error) = tables.discard(files).await {
            tracing::warn!(%error, "a data file of a change that failed is left behind");
        }
    }
}

impl Drop for StagedFiles {
    fn drop(&mut self) {
        let written = self.release();
        if written.is_empty() {
            return;
        }
        // Without a runtime the process is ending, and the files are left for the lake's upkeep.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(self.tables.clone(), written));
        }
    }
}
