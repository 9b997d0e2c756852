//! What a merge made and no commit names yet, removed when it is not to be: also when whoever asked for
//! the merge goes away in the middle of it.

use headwater_tables::{MadeMerge, SqlView, Table, Tables};

/// States of tables with the files that were written for them, and the states they were made from.
#[derive(Debug)]
pub(super) struct Scratch {
    tables: Tables,
    made: Written,
}

/// What was made and may belong to a commit.
#[derive(Debug, Default)]
pub(super) struct Written {
    tables: Vec<(MadeMerge, Table)>,
    views: Vec<(SqlView, SqlView)>,
}

impl Written {
    fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.views.is_empty()
    }
}

impl Scratch {
    pub fn new(tables: Tables) -> Self {
        Scratch { tables, made: Written::default() }
    }

    pub fn add(&mut self, made: MadeMerge, before: Table) {
        self.made.tables.push((made, before));
    }

    pub fn add_view(&mut self, made: SqlView, before: SqlView) {
        self.made.views.push((made, before));
    }

    /// Lets go of everything: from now on it may belong to a commit.
    pub fn release(mut self) -> Written {
        std::mem::take(&mut self.made)
    }

    /// Takes back what turned out to belong to no commit.
    pub fn take_back(&mut self, written: Written) {
        self.made.tables.extend(written.tables);
        self.made.views.extend(written.views);
    }

    /// Removes everything. What cannot be removed is left for the lake's upkeep to find.
    pub async fn discard(mut self) {
        let made = std::mem::take(&mut self.made);
        if !made.is_empty() {
            // Not given up half-way, even if this is.
            let _ = tokio::spawn(discard(self.tables.clone(), made)).await;
        }
    }
}

async fn discard(tables: Tables, made: Written) {
    for (view, before) in made.views {
        if let Err(error) = tables.discard_view(&view, Some(&before)).await {
            tracing::warn!(%error, "the metadata of a merge that was not made is left behind");
        }
    }
    // A state is read to know what is its own, so those that were made of it go first.
    for (made, before) in made.tables.into_iter().rev() {
        if let Err(error) = tables.discard_state(&made.table, Some(&before)).await {
            tracing::warn!(%error, "the metadata of a merge that was not made is left behind");
        }
        for staged in made.staged {
            if let Err(error) = tables.discard(staged).await {
                tracing::warn!(%error, "a data file of a merge that was not made is left behind");
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let made = std::mem::take(&mut self.made);
        if made.is_empty() {
            return;
        }
        // Without a runtime the process is ending, and the files are left for the lake's upkeep.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(discard(self.tables.clone(), made));
        }
    }
}
